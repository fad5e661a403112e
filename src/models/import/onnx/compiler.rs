//! From nodes to a plan: which tensors there are, what is known of each, and the steps between them.

use std::rc::Rc;

use super::proto::{Constant, GraphNode, TensorProto};
use crate::models::graph::{GraphPlan, Kernel, Kind, Shape, Size, TensorSource, Texts};
use crate::models::{Exactness, ModelError};

/// Maximum number of possible labels that are followed.
pub(super) const LABELS_MAX: usize = 65_536;

/// How many numbers of constants a graph may have beyond those in its file.
const MEMORY_FREE: usize = 1 << 21;

/// How many numbers a graph may compute for a row, multiplications included.
const WORK_MAX: usize = 1 << 28;

/// What reading an operator's node gives: a tensor for each of its outputs.
pub(super) type OperatorResult = Result<Vec<KnownTensor>, ModelError>;

/// A tensor, and what is known of it before a row is.
#[derive(Debug, Clone)]
pub(super) struct KnownTensor {
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    pub(super) source: TensorSource,
    /// All values that it can have, if they are few.
    pub(super) labels: Option<Rc<[f64]>>,
    /// For texts of an input: the feature of each number of a row.
    pub(super) features: Option<Rc<[usize]>>,
    /// Whether its numbers are probabilities (or sums), as far as an operator says.
    pub(super) is_share: Option<bool>,
    /// The labels of its numbers, if it is a map.
    pub(super) keys: Option<Rc<[f64]>>,
    /// The sizes that it holds, if one of them is a number of rows; nothing else reads it then.
    pub(super) sizes: Option<Rc<[Size]>>,
}

/// What a feature that is text is compared with.
#[derive(Debug, Default, Clone)]
pub(super) struct TextUse {
    /// The codes of texts.
    pub(super) codes: Vec<f64>,
    /// Whether others are refused.
    pub(super) refuses_unknown: bool,
}

/// What is known while a graph is read.
pub(super) struct GraphCompiler {
    pub(super) plan: GraphPlan,
    pub(super) texts: Texts,
    /// The version of ONNX's own operators.
    pub(super) opset: i64,
    /// The version of ONNX-ML's.
    pub(super) ml_opset: i64,
    /// By feature; numbers have none.
    pub(super) text_uses: Vec<TextUse>,
    /// How exact the operators so far are, at worst.
    pub(super) exactness: Exactness,
    /// What is left of what the graph may cost.
    pub(super) budget: GraphBudget,
}

/// What is left of what a graph may cost. Tensors may be shared, so a small file could ask for more
/// than any machine has.
pub(super) struct GraphBudget {
    /// Numbers of constants, and of lists of labels.
    memory: usize,
    /// Numbers that are computed for a row, and multiplications for them.
    work: usize,
}

impl GraphBudget {
    /// For a file of this size, in bytes. A number of a file takes a byte at least.
    pub(super) fn new(file_bytes: usize) -> Self {
        GraphBudget {
            memory: MEMORY_FREE.saturating_add(file_bytes),
            work: WORK_MAX,
        }
    }

    /// What was used of the work.
    pub(super) fn work(&self) -> usize {
        WORK_MAX - self.work
    }
}

impl KnownTensor {
    /// The same numbers in another shape.
    pub(super) fn with_shape(&self, shape: Shape) -> KnownTensor {
        KnownTensor {
            shape,
            ..self.clone()
        }
    }

    /// How many numbers what is known of it takes.
    pub(super) fn lists(&self) -> usize {
        let lists = [self.labels.as_deref(), self.keys.as_deref()];
        let numbers: usize = lists.into_iter().flatten().map(<[f64]>::len).sum();
        numbers + self.features.as_deref().map_or(0, <[usize]>::len) + self.shape.rank()
    }

    /// Numbers of the last dimension.
    pub(super) fn last(&self) -> usize {
        self.shape.dims().last().map_or(1, |dim| dim.unit())
    }
}

impl GraphCompiler {
    /// Reads a tensor of the file as a constant.
    pub(super) fn tensor(&mut self, tensor: &TensorProto<'_>) -> Result<KnownTensor, ModelError> {
        let Constant { kind, dims, values } = tensor.read(&mut self.texts)?;
        self.constant(kind, &dims, values)
    }

    /// A constant. Its numbers are as many as its dimensions say.
    pub(super) fn constant(
        &mut self,
        kind: Kind,
        dims: &[usize],
        values: Vec<f64>,
    ) -> Result<KnownTensor, ModelError> {
        self.keep(values.len())?;
        Ok(KnownTensor {
            shape: Shape::fixed(dims)?,
            kind,
            source: self.plan.constant(values),
            labels: None,
            features: None,
            is_share: None,
            keys: None,
            sizes: None,
        })
    }

    /// The values of a constant.
    pub(super) fn known(&self, value: &KnownTensor) -> Option<&[f64]> {
        self.plan.known(value.source)
    }

    /// Sizes that have to be known.
    pub(super) fn sizes(
        &self,
        node: &GraphNode<'_>,
        value: &KnownTensor,
    ) -> Result<Vec<Size>, ModelError> {
        match &value.sizes {
            Some(sizes) => Ok(sizes.to_vec()),
            None => Ok(self
                .ints(node, value)?
                .into_iter()
                .map(Size::Number)
                .collect()),
        }
    }

    /// Whole numbers that have to be known.
    pub(super) fn ints(
        &self,
        node: &GraphNode<'_>,
        value: &KnownTensor,
    ) -> Result<Vec<i64>, ModelError> {
        match self.known(value) {
            Some(values) => Ok(values.iter().map(|value| *value as i64).collect()),
            None => Err(node.wrong(
                "lanekeeper needs its shape, axes or indices as constants, and one is computed",
            )),
        }
    }

    /// Adds an operator whose kernel gives outputs of these shapes and kinds. What is made of constants
    /// alone is computed now.
    pub(super) fn emit(
        &mut self,
        node: &GraphNode<'_>,
        inputs: &[&KnownTensor],
        outputs: &[(Shape, Kind)],
        kernel: Kernel,
    ) -> Result<Vec<KnownTensor>, ModelError> {
        let shapes: Vec<Shape> = outputs.iter().map(|(shape, _)| shape.clone()).collect();
        let numbers = shapes.iter().map(Shape::unit).sum();
        self.work(numbers)?;
        if shapes.iter().all(|shape| shape.rows_axis().is_none()) {
            self.keep(numbers)?;
        }
        let sources: Vec<TensorSource> = inputs.iter().map(|input| input.source).collect();
        let known: Option<Vec<&[f64]>> = inputs.iter().map(|input| self.known(input)).collect();
        let has_rows = shapes.iter().any(|shape| shape.rows_axis().is_some());
        let sources = match known {
            Some(known) if !has_rows => {
                let made = kernel(1, &known).map_err(|fault| node.wrong(fault.reason))?;
                made.into_iter()
                    .map(|values| self.plan.constant(values))
                    .collect()
            }
            _ => self.plan.step(sources, &shapes, kernel),
        };
        let value = |((shape, kind), source): (&(Shape, Kind), TensorSource)| KnownTensor {
            shape: shape.clone(),
            kind: *kind,
            source,
            labels: None,
            features: None,
            is_share: None,
            keys: None,
            sizes: None,
        };
        Ok(outputs.iter().zip(sources).map(value).collect())
    }

    /// Adds an operator with one output.
    pub(super) fn emit_one(
        &mut self,
        node: &GraphNode<'_>,
        inputs: &[&KnownTensor],
        shape: Shape,
        kind: Kind,
        kernel: Kernel,
    ) -> Result<KnownTensor, ModelError> {
        let made = self.emit(node, inputs, &[(shape, kind)], kernel)?;
        made.into_iter()
            .next()
            .ok_or_else(|| node.wrong("it makes nothing"))
    }

    /// Counts numbers that the plan keeps.
    ///
    /// # Errors
    ///
    /// They are many more than are in the file.
    pub(super) fn keep(&mut self, numbers: usize) -> Result<(), ModelError> {
        let left = self.budget.memory.checked_sub(numbers);
        self.budget.memory = left.ok_or("its constants are much larger than its file")?;
        Ok(())
    }

    /// Counts numbers that are computed for each row.
    ///
    /// # Errors
    ///
    /// They are too many.
    pub(super) fn work(&mut self, numbers: usize) -> Result<(), ModelError> {
        let left = self.budget.work.checked_sub(numbers);
        self.budget.work =
            left.ok_or_else(|| format!("it computes more than {WORK_MAX} numbers for a row"))?;
        Ok(())
    }

    /// Says which texts a tensor is compared with, and whether others are refused.
    pub(super) fn use_texts(&mut self, value: &KnownTensor, codes: &[f64], refuses_unknown: bool) {
        for feature in value.features.iter().flat_map(|features| features.iter()) {
            let own = &mut self.text_uses[*feature];
            own.codes.extend_from_slice(codes);
            own.refuses_unknown |= refuses_unknown;
        }
    }

    /// Says that an operator is no more exact than this.
    pub(super) fn be_no_more_exact_than(&mut self, exactness: Exactness) {
        self.exactness = self.exactness.max(exactness);
    }
}

/// An input that has to be there.
pub(super) fn input<'v>(
    node: &GraphNode<'_>,
    inputs: &'v [Option<KnownTensor>],
    index: usize,
) -> Result<&'v KnownTensor, ModelError> {
    let value = inputs.get(index).and_then(Option::as_ref);
    value.ok_or_else(|| node.wrong(format!("its input {index} is missing")))
}

/// An input that has to be there and to be numbers.
pub(super) fn numbers<'v>(
    node: &GraphNode<'_>,
    inputs: &'v [Option<KnownTensor>],
    index: usize,
) -> Result<&'v KnownTensor, ModelError> {
    let value = input(node, inputs, index)?;
    match value.kind {
        Kind::Text => Err(node.wrong("it is given texts; lanekeeper takes texts in OneHotEncoder, LabelEncoder, CategoryMapper and Equal, and in what only moves them")),
        _ => Ok(value),
    }
}

/// Numbers that are rows of a table: one row of `width` for each row.
pub(super) fn table<'v>(
    node: &GraphNode<'_>,
    inputs: &'v [Option<KnownTensor>],
) -> Result<(&'v KnownTensor, usize), ModelError> {
    let value = numbers(node, inputs, 0)?;
    let dims = value.shape.dims();
    match dims {
        [_, width] if matches!(width, crate::models::graph::Dim::Fixed(_)) => {
            Ok((value, width.unit()))
        }
        _ => Err(node.wrong(format!(
            "it needs rows and columns, and is given {}",
            value.shape
        ))),
    }
}
