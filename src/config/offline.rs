//! The options of the commands that need no server: `train`, `convert`, `predict`, `inspect`.

use std::path::PathBuf;

use super::model::{Iterations, ModelRequest};

/// The options of `lanekeeper train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Algorithm, in kebab-case; help lists them with their parameters
    #[arg(long, value_name = "NAME|help")]
    pub algorithm: String,

    /// Table to train on: CSV with a header, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub data: Option<PathBuf>,

    /// Column to predict
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,

    /// Model file to write
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Columns to use as features [default: all but the target]
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub features: Option<Vec<String>>,

    /// Parameter by smartcore's name, as in n_trees=300; repeatable
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,

    /// Folds of the cross-validation that scores the model; 0 for none
    #[arg(long, value_name = "N", default_value = "5")]
    pub folds: usize,

    /// Seed of everything random: the same seed gives the same model
    #[arg(long, value_name = "N", default_value = "42")]
    pub seed: u64,

    /// The model's name [default: its file's name without the extension]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Separator of cells: one character, or tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
}

/// The options of `lanekeeper convert`.
#[derive(Debug, clap::Args)]
pub struct ConvertArgs {
    /// Model file of another library
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,

    /// Model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Golden rows to keep with it: rows with the library's own answers (lanekeeper golden-script)
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,

    /// Names of the classes, in order [default: those in the file, or 0, 1, …]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,

    /// The model's name [default: that of the file to write, without the extension]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Which trees count if XGBoost stopped training early, unless --iterations says otherwise when it is served
    #[arg(long, value_name = "WHICH")]
    pub iterations: Option<Iterations>,
}

/// The options of `lanekeeper predict`.
#[derive(Debug, clap::Args)]
pub struct PredictArgs {
    /// Which model it is.
    #[command(flatten)]
    pub model: ModelRequest,

    /// Table to predict: CSV with a header, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub data: PathBuf,

    /// Print one JSON object per line instead of CSV
    #[arg(long)]
    pub json: bool,

    /// Add the model's sums before their transform (margins), as raw
    #[arg(long)]
    pub raw: bool,

    /// Keep the table's own columns before the predictions
    #[arg(long)]
    pub keep: bool,

    /// Separator of cells: one character, or tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
}

/// The options of `lanekeeper inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// Which model it is.
    #[command(flatten)]
    pub model: ModelRequest,

    /// Answer with one JSON object
    #[arg(long)]
    pub json: bool,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("it must be NAME=VALUE, as in n_trees=300")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        "\"" | "\n" | "\r" => Err("it cannot be a quote or a line's end".to_owned()),
        _ => match text.as_bytes() {
            [one] if one.is_ascii() => Ok(*one),
            _ => Err("it must be one ASCII character, or tab".to_owned()),
        },
    }
}
