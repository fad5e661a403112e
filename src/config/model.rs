//! Which model to load: the options of every command that takes a model file.

use std::path::PathBuf;

use clap::ValueEnum;

/// Which model to load, and what its file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ModelRequest {
    /// Model file [default: an embedded iris classifier]
    #[arg(id = "model", long = "model", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The model's name in answers and logs [default: the one in its file, or its file's without the extension]
    #[arg(
        id = "model_name",
        long = "name",
        alias = "model-name",
        value_name = "NAME"
    )]
    pub name: Option<String>,

    /// Names of the classes, in order [default: those in the file, or 0, 1, …]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,

    /// Golden rows: rows with the library's own answers, which the model must give (lanekeeper golden-script)
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,

    /// Which trees count if XGBoost stopped training early: all, as Booster.predict does, or those up to the best iteration, as scikit-learn's wrapper does
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub iterations: Iterations,
}

/// Which trees count if training stopped early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Iterations {
    /// All of them
    #[default]
    All,
    /// Those up to the best iteration
    Best,
}

impl ModelRequest {
    /// Asks for the model in a file, as the file describes it.
    pub fn of_file(file: Option<PathBuf>) -> Self {
        ModelRequest {
            file,
            ..ModelRequest::default()
        }
    }
}
