//! Which model to load: the options of every command that takes a model file.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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

    /// The model's version in V2 and V1; 1 is always another name for it [default: 1]
    #[arg(id = "model_version", long = "model-version", value_name = "VERSION")]
    pub version: Option<String>,

    /// Names of the features, in order [default: those in the file, or f0, f1, …]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub features: Vec<String>,

    /// Names of the classes, in order [default: those in the file, or 0, 1, …]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,

    /// Golden rows: rows with the library's own answers, which the model must give (lanekeeper golden-script)
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,

    /// Which trees count if XGBoost stopped training early: all, as Booster.predict does, or those up to the best iteration, as scikit-learn's wrapper does [default: the converted file's, or as what wrote the file does]
    #[arg(long, value_name = "WHICH")]
    pub iterations: Option<Iterations>,

    /// The answer in V2, V1 and /invocations, which have room for one (/predict has all)
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    pub answer: AnswerMode,
}

/// What a protocol with room for one answer gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswerMode {
    /// What other servers give for this kind of file: for a bare XGBoost or LightGBM file what
    /// Booster.predict answers, for all others labels
    #[default]
    Auto,
    /// The class's label; the number of a model without classes
    Label,
    /// The probabilities of all classes
    Probability,
    /// The sums before the transform
    Raw,
}

/// Which trees count if training stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Iterations {
    /// All of them
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
