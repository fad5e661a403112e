//! `lanekeeper golden-script`: prints a Python script that writes golden rows beside a model.

use super::output;
use crate::config::{GoldenScriptArgs, Library};
use crate::error::StartError;

/// Prints the script of a library.
///
/// # Errors
///
/// Stdout that cannot be written.
pub fn run(args: &GoldenScriptArgs) -> Result<(), StartError> {
    output::print(match args.library {
        Library::Xgboost => include_str!("golden_script/xgboost.py"),
        Library::Lightgbm => include_str!("golden_script/lightgbm.py"),
        Library::Sklearn => include_str!("golden_script/sklearn.py"),
        Library::Onnx => include_str!("golden_script/onnx.py"),
    })
}
