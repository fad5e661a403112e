//! The types of numpy's arrays, by the strings and the tuples that files have for them.

use std::sync::Arc;

use super::{Dtype, ElementKind, Objects, RecordField, Value};
use crate::models::ModelError;

/// Maximum number of dimensions; numpy has 64.
pub(super) const DIMENSIONS_MAX: usize = 64;

/// Maximum number of fields of a record.
const FIELDS_MAX: usize = 1024;

/// Maximum length of a type's string, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Maximum number of elements that take no bytes.
const EMPTY_MAX: usize = 4096;

/// A type by numpy's string for it (`<f8`, `b1`, `U3`, `O`).
///
/// # Errors
///
/// What is no type.
pub(super) fn dtype(text: &str) -> Result<Dtype, ModelError> {
    let short = Some(text).filter(|text| text.len() <= NAME_BYTES_MAX);
    short.and_then(parsed).ok_or_else(|| {
        let shown = super::permitted::shown(text);
        ModelError(format!(
            "{shown:?} is not a type of elements that numpy has"
        ))
    })
}

fn parsed(text: &str) -> Option<Dtype> {
    let (is_big_endian, text) = match text.strip_prefix(['<', '>', '|', '=']) {
        Some(rest) => (text.starts_with('>'), rest),
        None => (false, text),
    };
    let mut characters = text.chars();
    let code = characters.next()?;
    // Dates have a unit behind their size.
    let size = characters.as_str().split('[').next()?;
    let size = match size {
        "" => None,
        size => Some(size.parse::<usize>().ok()?),
    };
    let (kind, item_bytes) = match (code, size) {
        ('?', None) | ('b', Some(1)) => (ElementKind::Bool, 1),
        ('i', Some(size @ (1 | 2 | 4 | 8))) => (ElementKind::Int, size),
        ('u', Some(size @ (1 | 2 | 4 | 8))) => (ElementKind::Uint, size),
        ('f', Some(size @ (2 | 4 | 8))) => (ElementKind::Float, size),
        ('U', size) => (ElementKind::Text, size.unwrap_or(0).checked_mul(4)?),
        ('S' | 'a', size) => (ElementKind::Bytes, size.unwrap_or(0)),
        ('O', _) => (ElementKind::Object, 8),
        ('V', size) => (ElementKind::Other, size.unwrap_or(0)),
        ('f' | 'c' | 'm' | 'M', Some(size)) => (ElementKind::Other, size),
        _ => return None,
    };
    Some(Dtype {
        kind,
        item_bytes,
        is_big_endian,
        fields: Arc::default(),
    })
}

/// A type of records.
///
/// # Errors
///
/// A field that lies outside of the record.
pub(super) fn record(fields: Vec<RecordField>, item_bytes: usize) -> Result<Dtype, ModelError> {
    if fields.len() > FIELDS_MAX {
        return Err(ModelError(format!(
            "a record must have at most {FIELDS_MAX} fields, but one has {}",
            fields.len()
        )));
    }
    let end = |field: &RecordField| field.offset.checked_add(field.dtype.item_bytes);
    let is_outside = |field: &&RecordField| end(field).is_none_or(|end| end > item_bytes);
    if let Some(field) = fields.iter().find(is_outside) {
        return Err(ModelError(format!(
            "the fields of a record must lie within its {item_bytes} bytes, but {} is at {}",
            super::permitted::shown(&field.name),
            field.offset
        )));
    }
    Ok(Dtype {
        kind: ElementKind::Record,
        item_bytes,
        is_big_endian: false,
        fields: fields.into(),
    })
}

/// A field; records in records are not looked into.
pub(super) fn field(name: &str, dtype: &Dtype, offset: usize) -> RecordField {
    let dtype = match dtype.kind {
        ElementKind::Record => Dtype {
            kind: ElementKind::Other,
            fields: Arc::default(),
            ..*dtype
        },
        _ => dtype.clone(),
    };
    RecordField {
        name: name.to_owned(),
        dtype,
        offset,
    }
}

/// The type that `state` makes of one, as numpy's `dtype.__setstate__` has it: version, order of
/// bytes, base and shape if its elements are arrays, names and fields if they are records, size,
/// alignment, flags.
///
/// # Errors
///
/// Anything else.
pub(super) fn with_state(
    dtype: &Dtype,
    state: Value,
    objects: &Objects<'_>,
) -> Result<Dtype, ModelError> {
    let broken = || ModelError("the state of a numpy.dtype must be as numpy writes it".to_owned());
    let Some(
        [
            Value::Int(3..),
            order,
            base,
            names,
            fields,
            Value::Int(size),
            ..,
        ],
    ) = objects.sequence(state)
    else {
        return Err(broken());
    };
    let item_bytes = match usize::try_from(*size) {
        Ok(size) => size,
        // -1 says that it is known.
        Err(_) => dtype.item_bytes,
    };
    let own = Dtype {
        item_bytes,
        is_big_endian: objects.text(*order) == Some(">"),
        ..dtype.clone()
    };
    match (*base, *names) {
        (Value::None, Value::None) => Ok(own),
        (Value::None, names) => {
            let names = objects.sequence(names).ok_or_else(broken)?;
            let field = |name: &Value| {
                let name = objects.text(*name)?;
                let parts = objects.sequence(objects.entry(*fields, name)?)?;
                let [Value::Dtype(dtype), Value::Int(offset), ..] = parts else {
                    return None;
                };
                let dtype = objects.dtypes.get(*dtype as usize)?;
                Some(field(name, dtype, usize::try_from(*offset).ok()?))
            };
            let names = names.iter().take(FIELDS_MAX + 1);
            let fields: Option<Vec<RecordField>> = names.map(field).collect();
            record(fields.ok_or_else(broken)?, item_bytes)
        }
        _ => Ok(Dtype {
            kind: ElementKind::Other,
            ..own
        }),
    }
}

/// How many comparisons [`with_state`] makes at most: a file may give the same state again and again.
pub(super) fn state_work(state: Value, objects: &Objects<'_>) -> usize {
    let Some([_, _, _, names, fields, ..]) = objects.sequence(state) else {
        return 0;
    };
    let names = objects.sequence(*names).map_or(0, <[_]>::len);
    let fields = objects.dict(*fields).map_or(0, <[_]>::len);
    names.saturating_mul(fields)
}

/// The extents that a tuple gives.
///
/// # Errors
///
/// What is no shape.
pub(super) fn shape(value: Value, objects: &Objects<'_>) -> Result<Vec<usize>, ModelError> {
    let broken = || {
        ModelError(format!(
            "the shape of an array must be a tuple of at most {DIMENSIONS_MAX} whole numbers from 0"
        ))
    };
    if let Value::Int(extent) = value {
        return Ok(vec![usize::try_from(extent).map_err(|_| broken())?]);
    }
    let extents = objects.sequence(value).ok_or_else(broken)?;
    if extents.len() > DIMENSIONS_MAX {
        return Err(broken());
    }
    let extent = |extent: &Value| match extent {
        Value::Int(extent) => usize::try_from(*extent).ok(),
        _ => None,
    };
    extents
        .iter()
        .map(extent)
        .collect::<Option<_>>()
        .ok_or_else(broken)
}

/// How many bytes an array has; `None` if it is beyond any memory.
pub(super) fn content_bytes(dtype: &Dtype, shape: &[usize]) -> Option<usize> {
    let product = |product: usize, extent: &usize| product.checked_mul(*extent);
    let count = shape.iter().try_fold(1, product)?;
    match dtype.item_bytes {
        0 if count > EMPTY_MAX => None,
        size => count.checked_mul(size),
    }
}
