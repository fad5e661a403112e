//! joblib's files: pickles in which the bytes of an array stand behind the object that describes it,
//! and which may be compressed.

use super::calls;
use super::numpy;
use super::pickle::PickleMachine;
use super::{Array, Content, ElementKind, Value};
use crate::models::ModelError;

/// Maximum number of attributes of a description; joblib's have six.
const ATTRIBUTES_MAX: usize = 16;

/// Reads the array behind one of joblib's descriptions; other objects stay what they are.
///
/// # Errors
///
/// A description that is not joblib's own, and content that is not as long as it says.
pub(super) fn array(machine: &mut PickleMachine<'_>, object: Value) -> Result<Value, ModelError> {
    let objects = machine.builder.objects();
    let class = objects.class(object);
    match class.map(|class| (class.module.as_str(), class.name.as_str())) {
        Some(("joblib.numpy_pickle", "NumpyArrayWrapper")) => {}
        Some(("joblib.numpy_pickle" | "joblib.numpy_pickle_compat", name))
            if name.ends_with("NDArrayWrapper") =>
        {
            return Err(machine.broken(
                "its arrays are in files of their own, as joblib before 0.10 wrote them; save it \
                 with a newer joblib",
            ));
        }
        _ => return Ok(object),
    }
    let state = objects
        .object(object)
        .map_or(Value::None, |object| object.state);
    if objects
        .dict(state)
        .is_none_or(|state| state.len() > ATTRIBUTES_MAX)
    {
        return Err(machine.broken("an array must follow that joblib describes"));
    }
    let attribute = |name: &str| objects.attribute(object, name).unwrap_or(Value::None);
    let dtype = calls::dtype_of(&machine.builder, attribute("dtype"))?;
    let shape = numpy::shape(attribute("shape"), objects)?;
    let is_fortran = match objects.text(attribute("order")) {
        Some("C") => false,
        Some("F") => true,
        _ => return Err(machine.broken("the order of an array must be C or F")),
    };
    let is_aligned = attribute("numpy_array_alignment_bytes") != Value::None;
    if dtype.kind == ElementKind::Object {
        let value = machine.run_nested()?;
        let own = machine.builder.objects().array(value);
        return match own.is_some_and(|own| own.shape == shape) {
            true => Ok(value),
            false => Err(machine.broken("an array must follow that is as joblib describes it")),
        };
    }
    if is_aligned {
        let padding = machine.take(1)?.first().copied().unwrap_or(0);
        machine.take(u64::from(padding))?;
    }
    let length = numpy::content_bytes(&dtype, &shape);
    let length = length.and_then(|length| u64::try_from(length).ok());
    let bytes = machine.take(length.unwrap_or(u64::MAX))?;
    let Value::Bytes(blob) = machine.builder.bytes(bytes)? else {
        return Err(machine.broken("an array must have bytes"));
    };
    machine.builder.array(Array {
        dtype,
        shape,
        is_fortran,
        content: Content::Bytes(blob),
    })
}
