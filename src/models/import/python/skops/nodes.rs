//! The nodes of a schema, by the loaders that skops names in them.

use super::super::json::Json;
use super::super::permitted::{self, shown};
use super::super::{Array, Content, Dtype, ElementKind, Value, numpy};
use super::SkopsReader;
use crate::models::ModelError;

/// Whatever a node lacks.
fn lacks(what: &str) -> ModelError {
    ModelError(format!(
        "a node of its schema must have {what}, but one has none"
    ))
}

impl SkopsReader<'_> {
    /// The value that a node describes. Documents are at most 128 deep, as serde_json reads them.
    pub(super) fn node(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        let id = match node.get("__id__") {
            Some(Json::Whole(id)) => Some(*id),
            _ => None,
        };
        if let Some(value) = id.and_then(|id| self.seen.get(&id)) {
            return Ok(*value);
        }
        let value = self.loaded(node)?;
        if let Some(id) = id {
            self.seen.insert(id, value);
        }
        Ok(value)
    }

    fn loaded(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        let loader = node
            .text("__loader__")
            .ok_or_else(|| lacks("a __loader__"))?;
        match loader {
            "JsonNode" => {
                let text = node.text("content").ok_or_else(|| lacks("content"))?;
                self.json(text)
            }
            "ListNode" | "TupleNode" | "SetNode" => self.sequence(loader, node),
            "DictNode" => self.dict(node),
            "DefaultDictNode" | "_DictWithDeprecatedKeysNode" => {
                self.class(node)?;
                self.child(node, &["content", "main"])
            }
            "NdArrayNode" => self.array(node),
            "DTypeNode" => self.dtype(node),
            "BytesNode" | "BytearrayNode" => {
                let name = node.text("file").ok_or_else(|| lacks("a file"))?;
                let bytes = self.zip.member(name, &mut self.bytes_left)?;
                self.builder.bytes(bytes)
            }
            // The first protocol had the names a level deeper.
            "FunctionNode" if node.get("content").is_some() => {
                let content = node.get("content").unwrap_or(node);
                let module = content
                    .text("module_path")
                    .ok_or_else(|| lacks("a module"))?;
                let name = content
                    .text("function")
                    .ok_or_else(|| lacks("a function"))?;
                self.builder.global(module, name)
            }
            "FunctionNode" | "TypeNode" => self.class(node),
            _ => self.object(loader, node),
        }
    }

    fn object(&mut self, loader: &str, node: &Json<'_>) -> Result<Value, ModelError> {
        let class = self.class(node)?;
        let (arguments, state) = match loader {
            "ObjectNode" => match node.get("content") {
                None | Some(Json::Null) => (self.empty_tuple()?, Value::None),
                Some(content) => (self.empty_tuple()?, self.node(content)?),
            },
            "RandomStateNode" => (self.empty_tuple()?, self.child(node, &["content"])?),
            // How a random generator goes on is of no use to a model.
            "RandomGeneratorNode" => (self.empty_tuple()?, Value::None),
            "ConstructorFromReduceNode" => {
                let arguments = self.child(node, &["content"])?;
                return self.constructed(class, arguments);
            }
            "PartialNode" => {
                let mut parts = Vec::new();
                for part in ["func", "args", "kwds", "namespace"] {
                    parts.push(self.child(node, &["content", part])?);
                }
                let function = parts.iter().take(1).copied().collect();
                (self.builder.tuple(function)?, self.builder.tuple(parts)?)
            }
            "SliceNode" => {
                let mut parts = Vec::new();
                for part in ["start", "stop", "step"] {
                    let content = node.get("content").and_then(|content| content.get(part));
                    parts.push(self.plain(content.unwrap_or(&Json::Null))?);
                }
                (self.builder.tuple(parts)?, Value::None)
            }
            "MaskedArrayNode" => {
                let mut entries = Vec::new();
                for part in ["data", "mask"] {
                    let value = self.child(node, &["content", part])?;
                    entries.push((self.builder.text(part)?, value));
                }
                (self.empty_tuple()?, self.builder.dict(entries)?)
            }
            "SparseMatrixNode" => {
                let name = node.text("file").ok_or_else(|| lacks("a file"))?;
                (self.empty_tuple()?, self.sparse(name)?)
            }
            _ if node.get("__reduce__").is_some() => self.reduced(node)?,
            _ => {
                return Err(ModelError(format!(
                    "it has a {}, which is not a kind of node that models have",
                    shown(loader)
                )));
            }
        };
        self.builder.object(class, arguments, state)
    }

    /// The arguments and the state of an object that is made by a call.
    fn reduced(&mut self, node: &Json<'_>) -> Result<(Value, Value), ModelError> {
        let arguments = self.child(node, &["__reduce__", "args"])?;
        let state = match node.get("content") {
            None | Some(Json::Null) => Value::None,
            Some(content) => self.node(content)?,
        };
        let objects = self.builder.objects();
        let is_empty = match state {
            Value::Dict(_) => objects.dict(state).is_some_and(<[_]>::is_empty),
            _ => objects.sequence(state).is_some_and(<[_]>::is_empty),
        };
        let arguments = match arguments {
            Value::Tuple(_) => arguments,
            // An object of Cython's that has no fields.
            _ => self.empty_tuple()?,
        };
        Ok((arguments, if is_empty { Value::None } else { state }))
    }

    /// A call of a class.
    fn constructed(&mut self, class: Value, arguments: Value) -> Result<Value, ModelError> {
        let objects = self.builder.objects();
        let name = objects.global(class).map(|class| class.name.as_str());
        let elements = match (name, objects.sequence(arguments)) {
            (Some("frozenset" | "set"), Some([elements])) => objects.sequence(*elements),
            _ => None,
        };
        match elements.map(<[Value]>::to_vec) {
            Some(elements) => self.builder.set(elements),
            None => self.builder.object(class, arguments, Value::None),
        }
    }

    /// The class or function that a node names.
    fn class(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        let module = node
            .text("__module__")
            .ok_or_else(|| lacks("a __module__"))?;
        let name = node.text("__class__").ok_or_else(|| lacks("a __class__"))?;
        self.builder.global(module, name)
    }

    /// The value of the node at the end of a path.
    fn child(&mut self, node: &Json<'_>, path: &[&str]) -> Result<Value, ModelError> {
        let child = path.iter().try_fold(node, |node, key| node.get(key));
        self.node(child.ok_or_else(|| lacks(&path.join(" with ")))?)
    }

    fn sequence(&mut self, loader: &str, node: &Json<'_>) -> Result<Value, ModelError> {
        let elements = self.elements(node)?;
        let class = self.class(node)?;
        let name = self.builder.objects().global(class);
        match loader {
            "ListNode" => self.builder.list(elements),
            "SetNode" => self.builder.set(elements),
            _ if elements.is_empty() => self.empty_tuple(),
            _ => {
                let is_plain = name.is_some_and(|name| name.module == "builtins");
                let tuple = self.builder.tuple(elements)?;
                match is_plain {
                    true => Ok(tuple),
                    // A tuple whose elements have names.
                    false => self.builder.object(class, tuple, Value::None),
                }
            }
        }
    }

    fn elements(&mut self, node: &Json<'_>) -> Result<Vec<Value>, ModelError> {
        let elements = node
            .list("content")
            .ok_or_else(|| lacks("a list as content"))?;
        elements.iter().map(|element| self.node(element)).collect()
    }

    fn dict(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        self.class(node)?;
        let Some(Json::Map(content)) = node.get("content") else {
            return Err(lacks("a map as content"));
        };
        let types = node
            .get("key_types")
            .and_then(|types| types.list("content"));
        let types = types.ok_or_else(|| lacks("key_types"))?;
        if types.len() != content.len() {
            return Err(ModelError(format!(
                "a dictionary must have a type for each key, but one has {} keys and {} types",
                content.len(),
                types.len()
            )));
        }
        let mut entries = Vec::with_capacity(content.len());
        for ((key, value), own) in content.iter().zip(types) {
            let key = self.key(key, own.text("__class__").unwrap_or_default())?;
            entries.push((key, self.node(value)?));
        }
        self.builder.dict(entries)
    }

    /// A key, which JSON has as a text whatever it was.
    fn key(&mut self, text: &str, class: &str) -> Result<Value, ModelError> {
        let value = match class {
            "str" | "str_" => return self.builder.text(text.to_owned()),
            "bool" | "bool_" => Some(Value::Bool(text == "true" || text == "True")),
            "NoneType" => Some(Value::None),
            name if name.trim_start_matches('u').starts_with("int") => {
                text.parse().ok().map(Value::Int)
            }
            name if name.starts_with("float") => text.parse().ok().map(Value::Float),
            _ => None,
        };
        value.ok_or_else(|| {
            ModelError(format!(
                "the keys of a dictionary must be texts or numbers, but one is {} of type {}",
                shown(text),
                shown(class)
            ))
        })
    }

    /// A value that Python's json wrote.
    fn json(&mut self, text: &str) -> Result<Value, ModelError> {
        match text {
            "NaN" => return Ok(Value::Float(f64::NAN)),
            "Infinity" => return Ok(Value::Float(f64::INFINITY)),
            "-Infinity" => return Ok(Value::Float(f64::NEG_INFINITY)),
            _ => {}
        }
        let is_whole = !text.contains(['.', 'e', 'E']);
        match Json::read(text.as_bytes())? {
            Json::Number(_) if is_whole => Ok(Value::Opaque),
            json => self.plain(&json),
        }
    }

    fn plain(&mut self, json: &Json<'_>) -> Result<Value, ModelError> {
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(bit) => Value::Bool(*bit),
            Json::Whole(number) => Value::Int(*number),
            Json::Number(number) => Value::Float(*number),
            Json::Text(text) => self.builder.text(text.clone().into_owned())?,
            Json::List(elements) => {
                let elements: Result<_, _> = elements.iter().map(|json| self.plain(json)).collect();
                self.builder.list(elements?)?
            }
            Json::Map(content) => {
                let mut entries = Vec::with_capacity(content.len());
                for (key, value) in content {
                    let key = self.builder.text(key.clone().into_owned())?;
                    entries.push((key, self.plain(value)?));
                }
                self.builder.dict(entries)?
            }
        })
    }

    fn array(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        let module = node
            .text("__module__")
            .ok_or_else(|| lacks("a __module__"))?;
        let name = node.text("__class__").ok_or_else(|| lacks("a __class__"))?;
        permitted::check(module, name)?;
        match node.text("type") {
            Some("numpy") => {
                let file = node.text("file").ok_or_else(|| lacks("a file"))?;
                let array = self.file(file)?;
                let objects = self.builder.objects();
                let is_single = objects
                    .array(array)
                    .is_some_and(|array| array.shape.is_empty());
                match is_single && module == "numpy" && !matches!(name, "ndarray" | "matrix") {
                    true => self.scalar(array),
                    false => Ok(array),
                }
            }
            Some("json") => {
                let shape = self.child(node, &["shape"])?;
                let shape = numpy::shape(shape, self.builder.objects())?;
                let mut elements = Vec::new();
                match node.get("content") {
                    // A list of lists for more than one dimension.
                    Some(Json::List(content)) => {
                        for element in content {
                            self.leaves(element, shape.len().saturating_sub(1), &mut elements)?;
                        }
                    }
                    // What an array without dimensions holds.
                    Some(Json::Text(content)) => elements.push(self.json(content)?),
                    Some(content) => elements.push(self.node(content)?),
                    None => return Err(lacks("content")),
                }
                let Value::List(list) = self.builder.list(elements)? else {
                    return Err(lacks("content"));
                };
                self.builder.array(Array {
                    dtype: Dtype {
                        kind: ElementKind::Object,
                        item_bytes: 8,
                        is_big_endian: false,
                        fields: Default::default(),
                    },
                    shape,
                    is_fortran: false,
                    content: Content::Objects(list),
                })
            }
            _ => Err(lacks("a type that is numpy or json")),
        }
    }

    /// The elements of lists that lie `depth` deep in each other.
    fn leaves(
        &mut self,
        node: &Json<'_>,
        depth: usize,
        elements: &mut Vec<Value>,
    ) -> Result<(), ModelError> {
        if depth == 0 {
            elements.push(self.node(node)?);
            return Ok(());
        }
        let content = node
            .list("content")
            .ok_or_else(|| lacks("a list as content"))?;
        let mut content = content.iter();
        content.try_for_each(|node| self.leaves(node, depth - 1, elements))
    }

    /// A type of elements, which is saved as an empty array of it.
    fn dtype(&mut self, node: &Json<'_>) -> Result<Value, ModelError> {
        let array = self.child(node, &["content"])?;
        let array = self.builder.objects().array(array);
        let dtype = array.map(|array| array.dtype.clone());
        self.builder.dtype(dtype.ok_or_else(|| lacks("an array"))?)
    }
}
