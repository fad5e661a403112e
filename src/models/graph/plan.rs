//! What a graph computes, step by step.

use super::Shape;

/// Why a row has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The row, from 0.
    pub row: usize,
    /// Why.
    pub reason: String,
}

impl Fault {
    /// A fault of the first row.
    pub fn of(reason: impl Into<String>) -> Self {
        Fault {
            row: 0,
            reason: reason.into(),
        }
    }
}

/// Computes the outputs of an operator: takes the number of rows and the values of its inputs.
///
/// Whoever makes one has checked the shapes of the inputs.
pub type Kernel = Box<dyn Fn(usize, &[&[f64]]) -> Result<Vec<Vec<f64>>, Fault> + Send + Sync>;

/// Where a tensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorSource {
    /// A constant, by index.
    Constant(usize),
    /// A place that an input or a step fills, by index.
    Slot(usize),
}

/// An operator at work.
pub struct GraphStep {
    /// What it reads.
    pub inputs: Vec<TensorSource>,
    /// The slots that it fills; as many as the kernel gives.
    pub outputs: Vec<usize>,
    /// What it computes.
    pub kernel: Kernel,
}

/// A graph that was checked.
#[derive(Default)]
pub struct GraphPlan {
    constants: Vec<Vec<f64>>,
    slots: usize,
    steps: Vec<GraphStep>,
    /// After each step the slots that nothing reads any more.
    freed: Vec<Vec<usize>>,
    outputs: Vec<TensorSource>,
    widest: usize,
    may_fail: bool,
    parts: Vec<(&'static str, usize)>,
}

impl GraphPlan {
    /// A plan without steps, with this many inputs in the first slots.
    pub fn new(inputs: usize) -> Self {
        GraphPlan {
            slots: inputs,
            ..GraphPlan::default()
        }
    }

    /// Adds a constant.
    pub fn constant(&mut self, values: Vec<f64>) -> TensorSource {
        self.constants.push(values);
        TensorSource::Constant(self.constants.len() - 1)
    }

    /// The values of a constant; `None` for what a step computes.
    pub fn known(&self, source: TensorSource) -> Option<&[f64]> {
        match source {
            TensorSource::Constant(index) => self.constants.get(index).map(Vec::as_slice),
            TensorSource::Slot(_) => None,
        }
    }

    /// Adds a step with outputs of these shapes.
    pub fn step(
        &mut self,
        inputs: Vec<TensorSource>,
        shapes: &[Shape],
        kernel: Kernel,
    ) -> Vec<TensorSource> {
        let outputs: Vec<usize> = (self.slots..self.slots + shapes.len()).collect();
        self.slots += shapes.len();
        for shape in shapes {
            self.widest = self.widest.max(shape.unit());
        }
        self.steps.push(GraphStep {
            inputs,
            outputs: outputs.clone(),
            kernel,
        });
        outputs.into_iter().map(TensorSource::Slot).collect()
    }

    /// Says that a step may find no answer for a row.
    pub fn set_may_fail(&mut self) {
        self.may_fail = true;
    }

    /// Counts what a person may want to know of.
    pub fn count(&mut self, parts: &[(&'static str, usize)]) {
        for (name, count) in parts {
            match self.parts.iter_mut().find(|(own, _)| own == name) {
                Some((_, own)) => *own += count,
                None => self.parts.push((name, *count)),
            }
        }
    }

    /// Says what comes out, and leaves out the steps that nothing needs.
    pub fn finish(&mut self, outputs: Vec<TensorSource>) {
        let mut needed = vec![false; self.slots];
        let mut mark = |sources: &[TensorSource]| {
            for source in sources {
                if let TensorSource::Slot(slot) = source {
                    needed[*slot] = true;
                }
            }
        };
        mark(&outputs);
        let mut kept = Vec::new();
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            if step.outputs.iter().any(|slot| needed[*slot]) {
                for source in &step.inputs {
                    if let TensorSource::Slot(slot) = source {
                        needed[*slot] = true;
                    }
                }
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
        let mut last_use = vec![None; self.slots];
        for (index, step) in self.steps.iter().enumerate() {
            let read = step.inputs.iter().filter_map(|source| match source {
                TensorSource::Slot(slot) => Some(*slot),
                TensorSource::Constant(_) => None,
            });
            for slot in read.chain(step.outputs.iter().copied()) {
                last_use[slot] = Some(index);
            }
        }
        for source in &outputs {
            if let TensorSource::Slot(slot) = source {
                last_use[*slot] = None;
            }
        }
        self.freed = vec![Vec::new(); self.steps.len()];
        for (slot, step) in last_use.into_iter().enumerate() {
            if let Some(step) = step {
                self.freed[step].push(slot);
            }
        }
        let mut is_read = vec![false; self.constants.len()];
        let read = self.steps.iter().flat_map(|step| &step.inputs);
        for source in read.chain(&outputs) {
            if let TensorSource::Constant(index) = source {
                is_read[*index] = true;
            }
        }
        for (constant, is_read) in self.constants.iter_mut().zip(is_read) {
            if !is_read {
                *constant = Vec::new();
            }
        }
        self.outputs = outputs;
        self.parts.push(("operators", self.steps.len()));
    }

    /// The numbers that the widest tensor has for each row.
    pub fn widest(&self) -> usize {
        self.widest
    }

    /// Whether a step may find no answer for a row.
    pub fn may_fail(&self) -> bool {
        self.may_fail
    }

    /// What it consists of, by name.
    pub fn parts(&self) -> Vec<(&'static str, usize)> {
        self.parts.clone()
    }

    /// Computes the outputs for some rows.
    ///
    /// # Errors
    ///
    /// A row that has no answer.
    pub fn run(&self, rows: usize, inputs: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, Fault> {
        let mut slots = inputs;
        slots.resize_with(self.slots, Vec::new);
        for (step, freed) in self.steps.iter().zip(&self.freed) {
            let values: Vec<&[f64]> = step
                .inputs
                .iter()
                .map(|source| self.at(&slots, *source))
                .collect();
            let outputs = (step.kernel)(rows, &values)?;
            for (slot, values) in step.outputs.iter().zip(outputs) {
                slots[*slot] = values;
            }
            for slot in freed {
                slots[*slot] = Vec::new();
            }
        }
        let outputs = self
            .outputs
            .iter()
            .enumerate()
            .map(|(place, source)| match source {
                // Nothing after it reads it.
                TensorSource::Slot(slot) if !self.outputs[place + 1..].contains(source) => {
                    std::mem::take(&mut slots[*slot])
                }
                source => self.at(&slots, *source).to_vec(),
            });
        Ok(outputs.collect())
    }

    fn at<'a>(&'a self, slots: &'a [Vec<f64>], source: TensorSource) -> &'a [f64] {
        match source {
            TensorSource::Constant(index) => self.constants.get(index).map_or(&[], Vec::as_slice),
            TensorSource::Slot(slot) => slots.get(slot).map_or(&[], Vec::as_slice),
        }
    }
}
