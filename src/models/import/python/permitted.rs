//! The names that a file may use. Nothing is imported, so a name does no harm; but a file that asks
//! for `os.system` is no model, and its owner should hear so.

use crate::models::ModelError;

/// Packages of which every name is permitted.
const PACKAGES: [&str; 11] = [
    "sklearn",
    "numpy",
    "scipy",
    "joblib",
    "xgboost",
    "lightgbm",
    "imblearn",
    "pandas",
    "collections",
    "datetime",
    "decimal",
];

/// The names of other modules that are permitted.
const NAMES: [(&str, &[&str]); 4] = [
    ("_codecs", &["encode"]),
    (
        "builtins",
        &[
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "object",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
            "type",
            "Ellipsis",
            "NoneType",
            "NotImplemented",
        ],
    ),
    (
        "copyreg",
        &["_reconstructor", "__newobj__", "__newobj_ex__"],
    ),
    ("functools", &["partial"]),
];

/// What protocol 2 calls modules and types by the names of Python 2.
const OLD_NAMES: [(&str, &str); 3] = [("unicode", "str"), ("long", "int"), ("xrange", "range")];

/// How Cython's functions begin that make an object of a class.
pub(super) const CYTHON: &str = "__pyx_unpickle_";

/// How much of a name an error shows.
const SHOWN_CHARACTERS: usize = 100;

/// A name as Python 3 has it, if a model may use it.
///
/// # Errors
///
/// Any other name.
pub(super) fn check<'n>(module: &'n str, name: &'n str) -> Result<(&'n str, &'n str), ModelError> {
    let module = match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        // Some builds of scikit-learn have a module that does not know its package.
        "_loss" if name.trim_start_matches(CYTHON).starts_with("Cy") => "sklearn._loss._loss",
        other => other,
    };
    let old = OLD_NAMES.iter().find(|(old, _)| *old == name);
    let name = match (module, old) {
        ("builtins", Some((_, new))) => new,
        _ => name,
    };
    let package = module.split('.').next().unwrap_or_default();
    let names = NAMES.iter().find(|(own, _)| *own == module);
    let is_permitted =
        PACKAGES.contains(&package) || names.is_some_and(|(_, names)| names.contains(&name));
    match is_permitted {
        true => Ok((module, name)),
        false => Err(ModelError(format!(
            "it asks for {}.{}; lanekeeper reads models and runs nothing: not a scikit-learn model",
            shown(module),
            shown(name)
        ))),
    }
}

/// A name for a line of text.
pub(super) fn shown(name: &str) -> String {
    let start: String = name.chars().take(SHOWN_CHARACTERS).collect();
    let more = if start.len() < name.len() { "…" } else { "" };
    format!("{}{more}", start.escape_debug())
}
