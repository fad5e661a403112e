//! Compares what different files hold of the same model.

use super::*;

/// A value with the tables it refers to.
#[derive(Clone, Copy)]
pub(super) struct At<'o, 'a>(pub(super) &'o Objects<'a>, pub(super) Value);

/// What skops leaves out or has in another form, and what differs with the version.
const IGNORED: [&str; 9] = [
    "_sklearn_version",
    "_feature_subsample_rng",
    "_random_state",
    "random_state",
    "_rng",
    "cv_results_",
    "maxprint",
    "_has_canonical_format",
    "_has_sorted_indices",
];

/// Holds two values against each other.
///
/// # Errors
///
/// The path to the first difference.
pub(super) fn same(one: At<'_, '_>, other: At<'_, '_>, path: &str) -> Result<(), String> {
    let (At(left, a), At(right, b)) = (one, other);
    let differs = || Err(format!("{path}: {a:?} and {b:?}"));
    match (a, b) {
        (Value::Float(a), Value::Float(b)) if a.to_bits() == b.to_bits() => Ok(()),
        (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan() => Ok(()),
        (Value::Text(_), Value::Text(_)) if left.text(a) == right.text(b) => Ok(()),
        (Value::Bytes(_), Value::Bytes(_)) if left.bytes(a) == right.bytes(b) => Ok(()),
        (Value::Global(_), Value::Global(_)) => {
            match left.global(a).unwrap().name == right.global(b).unwrap().name {
                true => Ok(()),
                false => Err(format!(
                    "{path}: {:?} {:?}",
                    left.global(a),
                    right.global(b)
                )),
            }
        }
        (Value::Dtype(_), Value::Dtype(_)) if left.dtype(a) == right.dtype(b) => Ok(()),
        (Value::List(_), Value::List(_)) | (Value::Tuple(_), Value::Tuple(_)) => {
            let (own, others) = (left.sequence(a).unwrap(), right.sequence(b).unwrap());
            if own.len() != others.len() {
                return differs();
            }
            let mut pairs = own.iter().zip(others).enumerate();
            pairs.try_for_each(|(index, (a, b))| {
                same(At(left, *a), At(right, *b), &format!("{path}[{index}]"))
            })
        }
        (Value::Set(_), Value::Set(_)) => Ok(()),
        (Value::Dict(_), Value::Dict(_)) => same_dicts(one, other, path),
        (Value::Object(_), Value::Object(_)) => {
            let (a, b) = (left.object(a).unwrap(), right.object(b).unwrap());
            let (class, other) = (
                &left.globals[a.class as usize],
                &right.globals[b.class as usize],
            );
            if class != other {
                return Err(format!("{path}: {class:?} and {other:?}"));
            }
            let path = format!("{path}<{}>", class.name);
            same(
                At(left, a.arguments),
                At(right, b.arguments),
                &format!("{path}()"),
            )?;
            same(At(left, a.state), At(right, b.state), &path)
        }
        (Value::Array(_), Value::Array(_)) => same_arrays(one, other, path),
        (Value::None | Value::Bool(_) | Value::Int(_) | Value::Opaque, _) if a == b => Ok(()),
        _ => differs(),
    }
}

fn same_dicts(one: At<'_, '_>, other: At<'_, '_>, path: &str) -> Result<(), String> {
    let (At(left, a), At(right, b)) = (one, other);
    let kept = |objects: &Objects<'_>, value| {
        let entries = objects.dict(value).unwrap().iter();
        let is_kept = |key| objects.text(key).is_none_or(|key| !IGNORED.contains(&key));
        entries
            .filter(|(key, _)| is_kept(*key))
            .copied()
            .collect::<Vec<_>>()
    };
    let (own, others) = (kept(left, a), kept(right, b));
    let names = |objects: &Objects<'_>, entries: &[(Value, Value)]| {
        entries
            .iter()
            .map(|(key, _)| format!("{:?}", objects.text(*key)))
            .collect::<Vec<_>>()
    };
    for (key, value) in &own {
        let found = others
            .iter()
            .find(|(other, _)| same(At(left, *key), At(right, *other), "").is_ok());
        let Some((_, found)) = found else {
            return Err(format!(
                "{path}: {:?} and {:?}",
                names(left, &own),
                names(right, &others)
            ));
        };
        let key = left.text(*key).map_or(format!("{key:?}"), str::to_owned);
        same(
            At(left, *value),
            At(right, *found),
            &format!("{path}.{key}"),
        )?;
    }
    match own.len() == others.len() {
        true => Ok(()),
        false => Err(format!(
            "{path}: {:?} and {:?}",
            names(left, &own),
            names(right, &others)
        )),
    }
}

fn same_arrays(one: At<'_, '_>, other: At<'_, '_>, path: &str) -> Result<(), String> {
    let (At(left, a), At(right, b)) = (one, other);
    let (a, b) = (left.array(a).unwrap(), right.array(b).unwrap());
    if a.shape != b.shape || a.dtype.kind != b.dtype.kind {
        return Err(format!("{path}: {a:?} and {b:?}"));
    }
    if a.dtype.kind == ElementKind::Record {
        assert!(!a.dtype.fields.is_empty());
        let bits = |objects: &Objects<'_>, array, name: &str| {
            let numbers = objects.field(array, name)?.into_iter();
            Some(numbers.map(f64::to_bits).collect::<Vec<_>>())
        };
        let mut fields = a.dtype.fields.iter();
        return match fields.find(|field| bits(left, a, &field.name) != bits(right, b, &field.name))
        {
            None => Ok(()),
            Some(field) => Err(format!("{path}: {field:?}")),
        };
    }
    let (Some(own), Some(others)) = (left.elements(a), right.elements(b)) else {
        return match a.dtype == b.dtype {
            true => Ok(()),
            false => Err(format!("{path}: {a:?} and {b:?}")),
        };
    };
    let mut pairs = own.iter().zip(&others).enumerate();
    pairs.try_for_each(|(index, pair)| match pair {
        (ArrayElement::Text(a), ArrayElement::Text(b)) if a == b => Ok(()),
        (ArrayElement::Value(a), ArrayElement::Value(b)) => {
            same(At(left, *a), At(right, *b), &format!("{path}[{index}]"))
        }
        _ => Err(format!("{path}[{index}]: {pair:?}")),
    })
}
