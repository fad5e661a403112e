//! Calls in a pickle: those that make plain data are converted, all others become objects.

use std::sync::Arc;

use super::builder::Builder;
use super::pickle::PickleMachine;
use super::{Array, Content, Dtype, ElementKind, Value};
use super::{joblib, numpy, permitted};
use crate::models::ModelError;

/// Dictionaries by another name.
const DICTS: [(&str, &str); 5] = [
    ("builtins", "dict"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("sklearn.utils._bunch", "Bunch"),
];

/// Modules that numpy had since 1.9 for what is called below.
const MULTIARRAY: [&str; 2] = ["numpy.core.multiarray", "numpy._core.multiarray"];
const NUMERIC: [&str; 2] = ["numpy.core.numeric", "numpy._core.numeric"];

/// What `class.__new__` makes.
pub(super) fn new(
    machine: &mut PickleMachine<'_>,
    class: Value,
    arguments: Value,
) -> Result<Value, ModelError> {
    if let Some(global) = machine.builder.objects().global(class) {
        let is_dict = |own: &(&str, &str)| global.module == own.0 && global.name == own.1;
        if DICTS.iter().any(is_dict) {
            return machine.builder.dict(Vec::new());
        }
    }
    machine.builder.object(class, arguments, Value::None)
}

/// A call by what it makes.
enum Call {
    /// `numpy.dtype(text)`.
    Dtype(Dtype),
    /// An array that its state will fill.
    EmptyArray,
    /// A number or text of numpy's: type and content.
    Scalar(Value, Value),
    /// An array: buffer, type, shape and order, and its axes if there are any.
    FromBuffer([Value; 4], Option<Value>),
    /// Bytes that are written as a text.
    Encode(Value),
    /// One of Python's own types.
    Plain,
    /// A dictionary of these entries.
    Dict(Option<Value>),
    /// `class.__new__` with these arguments.
    New(Value, Vec<Value>),
    /// Anything else.
    Object,
}

impl Call {
    fn of(
        module: &str,
        name: &str,
        given: &[Value],
        builder: &Builder<'_>,
    ) -> Result<Call, ModelError> {
        let is_dict = |own: &(&str, &str)| module == own.0 && name == own.1;
        Ok(match (name, given) {
            ("dtype", [text, ..]) if module == "numpy" => match builder.objects().text(*text) {
                Some(text) => Call::Dtype(numpy::dtype(text)?),
                None => Call::Object,
            },
            ("_reconstruct", _) if MULTIARRAY.contains(&module) => Call::EmptyArray,
            ("scalar", [dtype, value]) if MULTIARRAY.contains(&module) => {
                Call::Scalar(*dtype, *value)
            }
            ("_frombuffer", [buffer, dtype, shape, order, axes @ ..])
                if NUMERIC.contains(&module) =>
            {
                Call::FromBuffer([*buffer, *dtype, *shape, *order], axes.first().copied())
            }
            ("encode", [text, ..]) if module == "_codecs" => Call::Encode(*text),
            _ if module == "builtins" => Call::Plain,
            _ if DICTS.iter().any(is_dict) => Call::Dict(given.last().copied()),
            ("_reconstructor", [class, _, Value::None]) if module == "copyreg" => {
                Call::New(*class, Vec::new())
            }
            ("_reconstructor", [class, _, state]) if module == "copyreg" => {
                Call::New(*class, vec![*state])
            }
            ("__newobj__" | "__newobj_ex__", [class, rest @ ..]) if module == "copyreg" => {
                Call::New(*class, rest.to_vec())
            }
            // The state of Cython's objects is the tuple of their fields.
            (name, [class, _, state]) if name.starts_with(permitted::CYTHON) => {
                let fields = builder.objects().sequence(*state);
                Call::New(*class, fields.unwrap_or_default().to_vec())
            }
            // The trees of nearest neighbours, and their distances.
            ("newObj", [class]) if module.starts_with("sklearn.") => Call::New(*class, Vec::new()),
            _ => Call::Object,
        })
    }
}

/// What calling `callable` makes.
pub(super) fn reduced(
    machine: &mut PickleMachine<'_>,
    callable: Value,
    arguments: Value,
) -> Result<Value, ModelError> {
    let objects = machine.builder.objects();
    let Some(global) = objects.global(callable) else {
        return Err(machine.broken("what is called must be a class or function by its name"));
    };
    let Some(given) = objects.sequence(arguments) else {
        return Err(machine.broken("arguments must be a tuple"));
    };
    let call = Call::of(&global.module, &global.name, given, &machine.builder)?;
    let builder = &mut machine.builder;
    match call {
        Call::Dtype(dtype) => builder.dtype(dtype),
        Call::EmptyArray => empty_array(builder),
        Call::Scalar(dtype, value) => scalar(machine, dtype, value),
        Call::FromBuffer(parts, axes) => from_buffer(builder, parts, axes),
        Call::Encode(text) => encoded(machine, text),
        Call::Plain => plain(machine, callable, arguments),
        Call::Dict(entries) => {
            let entries = entries_of(builder, entries)?;
            builder.dict(entries)
        }
        Call::New(class, arguments) => {
            let arguments = match arguments.is_empty() {
                true => machine.empty_tuple()?,
                false => machine.builder.tuple(arguments)?,
            };
            new(machine, class, arguments)
        }
        Call::Object => builder.object(callable, arguments, Value::None),
    }
}

/// Gives a value its state.
pub(super) fn with_state(
    machine: &mut PickleMachine<'_>,
    value: Value,
    state: Value,
) -> Result<Value, ModelError> {
    match value {
        Value::Object(index) => {
            machine.builder.set_state(index, state)?;
            joblib::array(machine, value)
        }
        Value::Array(index) => {
            let array = array_of(&mut machine.builder, state)?;
            machine.builder.set_array(index, array)?;
            Ok(value)
        }
        Value::Dtype(index) => {
            let work = numpy::state_work(state, machine.builder.objects());
            machine.builder.take_references(work)?;
            let objects = machine.builder.objects();
            let own = objects.dtypes.get(index as usize);
            let own = own.ok_or_else(|| machine.broken("a type is missing"))?;
            let dtype = numpy::with_state(own, state, objects)?;
            machine.builder.set_dtype(index, dtype);
            Ok(value)
        }
        // Of a subclass of one of these.
        Value::Dict(_) | Value::List(_) | Value::Set(_) => Ok(value),
        _ => Err(machine.broken("only an object can be given a state")),
    }
}

/// The dtype of a table.
pub(super) fn dtype_of(builder: &Builder<'_>, value: Value) -> Result<Dtype, ModelError> {
    let found = match value {
        Value::Dtype(index) => builder.objects().dtypes.get(index as usize),
        _ => None,
    };
    found.cloned().ok_or_else(|| {
        ModelError(
            "the type of an array's elements must be a numpy.dtype that numpy itself defines"
                .to_owned(),
        )
    })
}

fn empty_array(builder: &mut Builder<'_>) -> Result<Value, ModelError> {
    let Value::Bytes(blob) = builder.bytes(&[][..])? else {
        return Err(ModelError("no bytes".to_owned()));
    };
    builder.array(Array {
        dtype: Dtype {
            kind: ElementKind::Other,
            item_bytes: 1,
            is_big_endian: false,
            fields: Arc::default(),
        },
        shape: vec![0],
        is_fortran: false,
        content: Content::Bytes(blob),
    })
}

/// An array by the state that numpy writes: version, shape, type, order, elements.
fn array_of(builder: &mut Builder<'_>, state: Value) -> Result<Array, ModelError> {
    let objects = builder.objects();
    let parts = objects.sequence(state).unwrap_or_default();
    let [Value::Int(1), shape, dtype, is_fortran, content] = parts else {
        return Err(ModelError(
            "the state of an array must be as numpy writes it: version 1, shape, type, order and \
             elements"
                .to_owned(),
        ));
    };
    let dtype = dtype_of(builder, *dtype)?;
    let shape = numpy::shape(*shape, objects)?;
    let (content, is_fortran) = match *content {
        Value::Bytes(blob) => (Content::Bytes(blob), *is_fortran == Value::Bool(true)),
        // Objects are listed with the last index fastest, whatever the array's order.
        Value::List(list) => (Content::Objects(list), false),
        _ => {
            return Err(ModelError(
                "the elements of an array must be bytes or a list".to_owned(),
            ));
        }
    };
    Ok(Array {
        dtype,
        shape,
        is_fortran,
        content,
    })
}

/// `numpy._core.numeric._frombuffer(buffer, dtype, shape, order, axes)`.
fn from_buffer(
    builder: &mut Builder<'_>,
    [buffer, dtype, shape, order]: [Value; 4],
    axes: Option<Value>,
) -> Result<Value, ModelError> {
    let dtype = dtype_of(builder, dtype)?;
    let objects = builder.objects();
    let mut shape = numpy::shape(shape, objects)?;
    let axes = axes.map(|axes| numpy::shape(axes, objects)).transpose()?;
    let is_fortran = match (objects.text(order), axes) {
        (Some("C"), _) => false,
        (Some("F"), _) => true,
        (Some("K"), Some(axes)) if axes.iter().rev().copied().eq(0..shape.len()) => {
            shape.reverse();
            true
        }
        _ => {
            return Err(ModelError(
                "the elements of an array must be in C's order or Fortran's; make it so with \
                 numpy.ascontiguousarray"
                    .to_owned(),
            ));
        }
    };
    let Value::Bytes(blob) = buffer else {
        return Err(ModelError(
            "the buffer of an array must be bytes".to_owned(),
        ));
    };
    builder.array(Array {
        dtype,
        shape,
        is_fortran,
        content: Content::Bytes(blob),
    })
}

/// A number or text of numpy's.
fn scalar(
    machine: &mut PickleMachine<'_>,
    dtype: Value,
    value: Value,
) -> Result<Value, ModelError> {
    let dtype = dtype_of(&machine.builder, dtype)?;
    let Some(bytes) = machine.builder.objects().bytes(value) else {
        return match dtype.kind {
            ElementKind::Object => Ok(value),
            _ => Err(machine.broken("the content of a numpy scalar must be bytes")),
        };
    };
    let length = bytes.len();
    machine.copied(length)?;
    let bytes = machine
        .builder
        .objects()
        .bytes(value)
        .unwrap_or_default()
        .to_vec();
    machine.builder.scalar(&dtype, &bytes)
}

/// `_codecs.encode(text, "latin1")`, which protocol 2 has for bytes.
fn encoded(machine: &mut PickleMachine<'_>, text: Value) -> Result<Value, ModelError> {
    let text = machine.builder.objects().text(text);
    let bytes: Option<Vec<u8>> = text.and_then(|text| {
        let codes = text
            .chars()
            .map(|character| u8::try_from(u32::from(character)).ok());
        codes.collect()
    });
    let bytes = bytes.ok_or_else(|| machine.broken("a text to encode must be of Latin-1"))?;
    machine.copied(bytes.len())?;
    machine.builder.bytes(bytes)
}

/// Python's own types.
fn plain(
    machine: &mut PickleMachine<'_>,
    callable: Value,
    arguments: Value,
) -> Result<Value, ModelError> {
    let objects = machine.builder.objects();
    let given = objects.sequence(arguments).unwrap_or_default();
    let name = objects.global(callable).map(|global| global.name.clone());
    let elements = |value: &Value| objects.sequence(*value).map(<[Value]>::to_vec);
    match (name.as_deref(), given) {
        (Some("bytes" | "bytearray"), []) => machine.builder.bytes(&[][..]),
        (Some("bytes" | "bytearray"), [value @ Value::Bytes(_)]) => Ok(*value),
        (Some("bytes" | "bytearray"), [text @ Value::Text(_), ..]) => encoded(machine, *text),
        (Some("set" | "frozenset"), []) => machine.builder.set(Vec::new()),
        (Some("list"), []) => machine.builder.list(Vec::new()),
        (Some("tuple"), []) => machine.empty_tuple(),
        (Some("dict"), _) => {
            let entries = entries_of(&machine.builder, given.first().copied())?;
            machine.builder.dict(entries)
        }
        (Some("complex"), _) => Ok(Value::Opaque),
        (Some(name @ ("set" | "frozenset" | "list" | "tuple")), [value]) => {
            let elements = elements(value)
                .ok_or_else(|| machine.broken(&format!("a {name} must be made of a list")))?;
            match name {
                "list" => machine.builder.list(elements),
                "tuple" => machine.builder.tuple(elements),
                _ => machine.builder.set(elements),
            }
        }
        _ => machine.builder.object(callable, arguments, Value::None),
    }
}

/// The entries of a dictionary or of a list of pairs.
fn entries_of(
    builder: &Builder<'_>,
    value: Option<Value>,
) -> Result<Vec<(Value, Value)>, ModelError> {
    let objects = builder.objects();
    let Some(value @ (Value::Dict(_) | Value::List(_) | Value::Tuple(_))) = value else {
        return Ok(Vec::new());
    };
    if let Some(entries) = objects.dict(value) {
        return Ok(entries.to_vec());
    }
    let pair = |pair: &Value| match objects.sequence(*pair) {
        Some([key, value]) => Some((*key, *value)),
        _ => None,
    };
    let pairs = objects.sequence(value).unwrap_or_default().iter().map(pair);
    pairs.collect::<Option<_>>().ok_or_else(|| {
        ModelError("a dictionary must be made of pairs of a key and a value".to_owned())
    })
}
