//! ONNX's messages: a model, its graph, nodes, attributes and tensors.
//!
//! Source: `onnx/onnx.proto3` of onnx 1.23.

use super::protobuf::{Field, Message, numbers};
use crate::models::ModelError;
use crate::models::graph::{Kind, Texts};

/// The numbers of the fields.
mod field {
    pub(super) const MODEL_PRODUCER: u32 = 2;
    pub(super) const MODEL_PRODUCER_VERSION: u32 = 3;
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const MODEL_OPSETS: u32 = 8;
    pub(super) const MODEL_FUNCTIONS: u32 = 25;
    pub(super) const OPSET_DOMAIN: u32 = 1;
    pub(super) const OPSET_VERSION: u32 = 2;
    pub(super) const GRAPH_NODES: u32 = 1;
    pub(super) const GRAPH_INITIALIZERS: u32 = 5;
    pub(super) const GRAPH_INPUTS: u32 = 11;
    pub(super) const GRAPH_OUTPUTS: u32 = 12;
    pub(super) const GRAPH_SPARSE: u32 = 15;
    pub(super) const NODE_INPUTS: u32 = 1;
    pub(super) const NODE_OUTPUTS: u32 = 2;
    pub(super) const NODE_OPERATOR: u32 = 4;
    pub(super) const NODE_ATTRIBUTES: u32 = 5;
    pub(super) const NODE_DOMAIN: u32 = 7;
    pub(super) const ATTRIBUTE_NAME: u32 = 1;
    pub(super) const ATTRIBUTE_FLOAT: u32 = 2;
    pub(super) const ATTRIBUTE_INT: u32 = 3;
    pub(super) const ATTRIBUTE_TEXT: u32 = 4;
    pub(super) const ATTRIBUTE_TENSOR: u32 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u32 = 6;
    pub(super) const ATTRIBUTE_FLOATS: u32 = 7;
    pub(super) const ATTRIBUTE_INTS: u32 = 8;
    pub(super) const ATTRIBUTE_TEXTS: u32 = 9;
    pub(super) const TENSOR_DIMS: u32 = 1;
    pub(super) const TENSOR_TYPE: u32 = 2;
    pub(super) const TENSOR_FLOATS: u32 = 4;
    pub(super) const TENSOR_INTS32: u32 = 5;
    pub(super) const TENSOR_TEXTS: u32 = 6;
    pub(super) const TENSOR_INTS64: u32 = 7;
    pub(super) const TENSOR_NAME: u32 = 8;
    pub(super) const TENSOR_RAW: u32 = 9;
    pub(super) const TENSOR_DOUBLES: u32 = 10;
    pub(super) const TENSOR_EXTERNAL: u32 = 13;
    pub(super) const TENSOR_LOCATION: u32 = 14;
    pub(super) const VALUE_NAME: u32 = 1;
    pub(super) const VALUE_TYPE: u32 = 2;
    pub(super) const TYPE_TENSOR: u32 = 1;
    pub(super) const TYPE_ELEMENT: u32 = 1;
    pub(super) const TYPE_SHAPE: u32 = 2;
    pub(super) const SHAPE_DIMS: u32 = 1;
    pub(super) const DIM_VALUE: u32 = 1;
}

/// Maximum number of nodes.
const NODES_MAX: usize = 100_000;

/// Maximum number of dimensions of a tensor.
const RANK_MAX: usize = 8;

/// A whole number beyond this is not exact in 64 bits of a float.
const WHOLE_MAX: i64 = 1 << 53;

/// A model.
#[derive(Debug)]
pub(super) struct ModelProto<'a> {
    /// What wrote it, with its version.
    pub(super) producer: String,
    pub(super) graph: GraphProto<'a>,
    /// Domains with their versions.
    pub(super) opsets: Vec<(&'a str, i64)>,
}

/// A graph.
#[derive(Debug)]
pub(super) struct GraphProto<'a> {
    pub(super) nodes: Vec<GraphNode<'a>>,
    pub(super) initializers: Vec<TensorProto<'a>>,
    pub(super) inputs: Vec<ValueInfo<'a>>,
    pub(super) outputs: Vec<ValueInfo<'a>>,
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct GraphNode<'a> {
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) operator: &'a str,
    /// `ai.onnx` is "".
    pub(super) domain: &'a str,
    attributes: Vec<(&'a str, Message<'a>)>,
}

/// A name and the type of its tensor.
#[derive(Debug)]
pub(super) struct ValueInfo<'a> {
    pub(super) name: &'a str,
    /// The element type; `None` for sequences, maps and types that are not read.
    pub(super) kind: Option<Kind>,
    /// The dimensions, `None` where they are open; `None` if even their number is.
    pub(super) dims: Option<Vec<Option<usize>>>,
}

/// A constant tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorProto<'a>(Message<'a>);

/// The numbers of a tensor, or the codes of its texts.
pub(super) struct Constant {
    pub(super) kind: Kind,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl<'a> ModelProto<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let model = Message(bytes);
        if !model.messages(field::MODEL_FUNCTIONS)?.is_empty() {
            return Err("it has functions of its own, which lanekeeper does not read; inline them: onnx.inliner.inline_local_functions".into());
        }
        let opset = |opset: Message<'a>| {
            let domain = domain(opset.text(field::OPSET_DOMAIN)?);
            Ok((domain, opset.int(field::OPSET_VERSION)?))
        };
        let opsets = model.messages(field::MODEL_OPSETS)?.into_iter().map(opset);
        let opsets = opsets.collect::<Result<_, ModelError>>()?;
        let producer = [field::MODEL_PRODUCER, field::MODEL_PRODUCER_VERSION];
        let producer = producer.map(|part| model.text(part));
        let [name, version] = producer;
        let graph = model.bytes(field::MODEL_GRAPH)?;
        if graph.is_empty() {
            return Err("it is not an ONNX model: it has no graph".into());
        }
        Ok(ModelProto {
            producer: format!("{} {}", name?, version?).trim().to_owned(),
            graph: GraphProto::read(Message(graph))?,
            opsets,
        })
    }
}

fn domain(name: &str) -> &str {
    match name {
        "ai.onnx" => "",
        other => other,
    }
}

impl<'a> GraphProto<'a> {
    pub(super) fn read(graph: Message<'a>) -> Result<Self, ModelError> {
        let mut read = GraphProto {
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        for field in graph.fields() {
            let (number, Field::Bytes(bytes)) = field? else {
                continue;
            };
            let message = Message(bytes);
            match number {
                field::GRAPH_NODES if read.nodes.len() == NODES_MAX => {
                    return Err(ModelError(format!("it has more than {NODES_MAX} nodes")));
                }
                field::GRAPH_NODES => read.nodes.push(GraphNode::read(message)?),
                field::GRAPH_INITIALIZERS => read.initializers.push(TensorProto(message)),
                field::GRAPH_INPUTS => read.inputs.push(ValueInfo::read(message)?),
                field::GRAPH_OUTPUTS => read.outputs.push(ValueInfo::read(message)?),
                field::GRAPH_SPARSE => {
                    return Err("it has sparse tensors, which lanekeeper does not read".into());
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> ValueInfo<'a> {
    fn read(info: Message<'a>) -> Result<Self, ModelError> {
        let tensor = Message(info.bytes(field::VALUE_TYPE)?).last(field::TYPE_TENSOR)?;
        let mut read = ValueInfo {
            name: info.text(field::VALUE_NAME)?,
            kind: None,
            dims: None,
        };
        if let Some(Field::Bytes(tensor)) = tensor {
            let tensor = Message(tensor);
            read.kind = kind(tensor.int(field::TYPE_ELEMENT)?);
            if let Some(Field::Bytes(shape)) = tensor.last(field::TYPE_SHAPE)? {
                let dims = Message(shape).messages(field::SHAPE_DIMS)?.into_iter();
                let dims = dims.map(|dim| {
                    let value = dim.int(field::DIM_VALUE)?;
                    Ok(usize::try_from(value).ok().filter(|value| *value > 0))
                });
                read.dims = Some(dims.collect::<Result<_, ModelError>>()?);
            }
        }
        Ok(read)
    }
}

/// The kind of an element type; `None` for one that is not read.
pub(super) fn kind(data_type: i64) -> Option<Kind> {
    Some(match data_type {
        1 => Kind::F32,
        11 => Kind::F64,
        6 => Kind::I32,
        7 => Kind::I64,
        8 => Kind::Text,
        9 => Kind::Bool,
        // Unsigned and short numbers, which stand in attributes.
        2 | 3 | 5 => Kind::I32,
        _ => return None,
    })
}

impl<'a> TensorProto<'a> {
    pub(super) fn name(&self) -> Result<&'a str, ModelError> {
        self.0.text(field::TENSOR_NAME)
    }

    /// Its dimensions, as they stand in the file.
    pub(super) fn dims(&self) -> Result<Vec<i64>, ModelError> {
        self.0.ints(field::TENSOR_DIMS)
    }

    /// Reads it. Texts become codes.
    pub(super) fn read(&self, texts: &mut Texts) -> Result<Constant, ModelError> {
        let tensor = self.0;
        let told = |reason: String| {
            ModelError(format!(
                "the tensor {:?} {reason}",
                self.name().unwrap_or_default()
            ))
        };
        let data_type = tensor.int(field::TENSOR_TYPE)?;
        let Some(kind) = kind(data_type) else {
            return Err(told(format!(
                "has the element type {data_type}; lanekeeper reads float, double, int64, int32, bool and string"
            )));
        };
        if tensor.int(field::TENSOR_LOCATION)? != 0
            || !tensor.all_bytes(field::TENSOR_EXTERNAL)?.is_empty()
        {
            return Err(told("lies in another file; save the model with its data: onnx.save(model, path, save_as_external_data=False)".to_owned()));
        }
        let dims = self.dims()?;
        let dims: Option<Vec<usize>> = dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let count = dims.as_ref().and_then(|dims| {
            dims.iter()
                .try_fold(1_usize, |count, dim| count.checked_mul(*dim))
        });
        let (Some(dims), Some(count)) = (dims, count) else {
            return Err(told("has a size that cannot be".to_owned()));
        };
        if dims.len() > RANK_MAX {
            return Err(told(format!("has more than {RANK_MAX} dimensions")));
        }
        let values = self.values(kind, data_type, texts)?;
        if values.len() != count {
            return Err(told(format!(
                "has {} numbers and needs {count}",
                values.len()
            )));
        }
        if matches!(kind, Kind::I32 | Kind::I64)
            && values.iter().any(|value| value.abs() > WHOLE_MAX as f64)
        {
            return Err(told(format!("has whole numbers beyond {WHOLE_MAX}")));
        }
        Ok(Constant { kind, dims, values })
    }

    fn values(
        &self,
        kind: Kind,
        data_type: i64,
        texts: &mut Texts,
    ) -> Result<Vec<f64>, ModelError> {
        let tensor = self.0;
        let raw = tensor.bytes(field::TENSOR_RAW)?;
        Ok(match (kind, raw.is_empty()) {
            (Kind::Text, _) => {
                let all = tensor.all_texts(field::TENSOR_TEXTS)?;
                all.into_iter().map(|text| texts.code(text)).collect()
            }
            (Kind::F32, true) => {
                let all = tensor.floats(field::TENSOR_FLOATS)?;
                all.into_iter().map(f64::from).collect()
            }
            (Kind::F32, false) => numbers(raw, f32::from_le_bytes)?.map(f64::from).collect(),
            (Kind::F64, true) => tensor.doubles(field::TENSOR_DOUBLES)?,
            (Kind::F64, false) => numbers(raw, f64::from_le_bytes)?.collect(),
            (Kind::I64, true) => whole(tensor.ints(field::TENSOR_INTS64)?),
            (Kind::I64, false) => whole(numbers(raw, i64::from_le_bytes)?),
            (Kind::I32 | Kind::Bool, true) => whole(tensor.ints(field::TENSOR_INTS32)?),
            (Kind::Bool, false) => raw
                .iter()
                .map(|bit| f64::from(u8::from(*bit != 0)))
                .collect(),
            (Kind::I32, false) => match data_type {
                2 => raw.iter().map(|byte| f64::from(*byte)).collect(),
                3 => raw.iter().map(|byte| f64::from(*byte as i8)).collect(),
                5 => numbers(raw, i16::from_le_bytes)?.map(f64::from).collect(),
                _ => numbers(raw, i32::from_le_bytes)?.map(f64::from).collect(),
            },
        })
    }
}

fn whole(values: impl IntoIterator<Item = i64>) -> Vec<f64> {
    values.into_iter().map(|value| value as f64).collect()
}

impl<'a> GraphNode<'a> {
    fn read(node: Message<'a>) -> Result<Self, ModelError> {
        let named =
            |attribute: Message<'a>| Ok((attribute.text(field::ATTRIBUTE_NAME)?, attribute));
        let attributes = node.messages(field::NODE_ATTRIBUTES)?.into_iter();
        Ok(GraphNode {
            inputs: node.all_texts(field::NODE_INPUTS)?,
            outputs: node.all_texts(field::NODE_OUTPUTS)?,
            operator: node.text(field::NODE_OPERATOR)?,
            domain: domain(node.text(field::NODE_DOMAIN)?),
            attributes: attributes.map(named).collect::<Result<_, ModelError>>()?,
        })
    }

    /// What the attribute holds; an empty message if it is not there.
    fn attribute(&self, name: &str) -> Message<'a> {
        let found = self.attributes.iter().find(|(own, _)| *own == name);
        found.map_or(Message::default(), |(_, attribute)| *attribute)
    }

    /// Whether there is such an attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(own, _)| *own == name)
    }

    /// An error about it.
    pub(super) fn wrong(&self, reason: impl std::fmt::Display) -> ModelError {
        let output = self.outputs.first().copied().unwrap_or_default();
        ModelError(format!(
            "the node {} that makes {output:?}: {reason}",
            self.operator
        ))
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, ModelError> {
        match self.has(name) {
            true => self.attribute(name).int(field::ATTRIBUTE_INT),
            false => Ok(default),
        }
    }

    /// A number of 32 bits.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        match self.attribute(name).last(field::ATTRIBUTE_FLOAT)? {
            Some(Field::Fixed32(bytes)) => Ok(f32::from_le_bytes(bytes)),
            _ => Ok(default),
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str, default: &'a str) -> Result<&'a str, ModelError> {
        match self.has(name) {
            true => self.attribute(name).text(field::ATTRIBUTE_TEXT),
            false => Ok(default),
        }
    }

    /// Whole numbers; none if there is no such attribute.
    pub(super) fn ints(&self, name: &str) -> Result<Vec<i64>, ModelError> {
        self.attribute(name).ints(field::ATTRIBUTE_INTS)
    }

    /// Numbers of 32 bits; none if there is no such attribute.
    pub(super) fn floats(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.attribute(name).floats(field::ATTRIBUTE_FLOATS)
    }

    /// Texts; none if there is no such attribute.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'a str>, ModelError> {
        self.attribute(name).all_texts(field::ATTRIBUTE_TEXTS)
    }

    /// A tensor.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<TensorProto<'a>>, ModelError> {
        let tensor = self.attribute(name).last(field::ATTRIBUTE_TENSOR)?;
        Ok(match tensor {
            Some(Field::Bytes(bytes)) => Some(TensorProto(Message(bytes))),
            _ => None,
        })
    }

    /// A graph.
    pub(super) fn graph(&self, name: &str) -> Result<GraphProto<'a>, ModelError> {
        GraphProto::read(Message(self.attribute(name).bytes(field::ATTRIBUTE_GRAPH)?))
    }
}

/// Whether a file begins as a model does.
pub(super) fn is_model(head: &[u8]) -> bool {
    let mut known = 0;
    for field in Message(head).fields() {
        match field {
            Ok((1 | 5, Field::Varint(_)) | (2 | 3 | 4 | 6 | 8, Field::Bytes(_))) => known += 1,
            Ok((7, Field::Bytes(_))) => return true,
            Ok((14 | 20 | 25, Field::Bytes(_))) => known += 1,
            Ok(_) => return false,
            // The graph reaches beyond the head.
            Err(_) => break,
        }
    }
    known > 0 && starts_graph(head)
}

/// Whether a graph begins in the head and reaches beyond it.
fn starts_graph(head: &[u8]) -> bool {
    let mut rest = Message(head).fields();
    let mut read = 0;
    while let Some(Ok(_)) = rest.next() {
        read = head.len() - rest.left();
    }
    head.get(read) == Some(&0x3a)
}
