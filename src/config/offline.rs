//! The options of the commands that need no server: `train`, `convert`, `predict`, `inspect`.

use std::path::PathBuf;

use super::model::{Iterations, ModelRequest};

/// The options of `lanekeeper train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Algorithm, in kebab-case; help lists them with their parameters [default: boosted trees, or a linear model if that scores better]
    #[arg(long, value_name = "NAME|help")]
    pub algorithm: Option<String>,

    /// Table to train on: CSV, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub data: Option<PathBuf>,

    /// Column to predict
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,

    /// Model file to write
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// What the model answers with [default: as the target looks]
    #[arg(long, value_name = "TASK")]
    pub task: Option<TrainTask>,

    /// Columns to use as features [default: all that tell something]
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub features: Option<Vec<String>>,

    /// Columns to leave out
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub exclude: Vec<String>,

    /// Column that only names the rows: left out
    #[arg(long, value_name = "COLUMN")]
    pub id: Vec<String>,

    /// What a column is, as in zip=category: number, yes-no, category, date or identifier; repeatable
    #[arg(long = "column", value_name = "COLUMN=KIND", value_parser = column_kind)]
    pub kinds: Vec<(String, ColumnChoice)>,

    /// Further words for a missing value, beside NA, null, ? and the like
    #[arg(
        long,
        value_name = "WORD,…",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub missing: Vec<String>,

    /// Drop rows with a missing value
    #[arg(long)]
    pub drop_missing: bool,

    /// What becomes of labels that training has not seen: they count as others, or are refused
    #[arg(long, value_name = "WHAT", default_value = "other")]
    pub unseen: UnseenLabels,

    /// Whether each class counts the same, however many rows it has
    #[arg(long, value_name = "WEIGHT", default_value = "none")]
    pub class_weight: ClassWeight,

    /// Show what each column is taken for, and stop
    #[arg(long)]
    pub dry_run: bool,

    /// Parameter by scikit-learn's name, as in n_estimators=300; repeatable
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

    /// The table's form.
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// The form of a table.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ShapeArgs {
    /// Separator of cells: one character, or tab [default: recognised]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<u8>,

    /// The table has no header: its columns are c0, c1, …
    #[arg(long)]
    pub no_header: bool,

    /// Skip lines before the table
    #[arg(long, value_name = "N", default_value = "0")]
    pub skip_lines: usize,
}

/// What a model answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TrainTask {
    /// A class of a few
    Classification,
    /// A number
    Regression,
}

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnChoice {
    /// Numbers.
    Number,
    /// Yes or no.
    YesNo,
    /// One of some labels.
    Category,
    /// Dates or times.
    Date,
    /// Names of the rows, which are left out.
    Identifier,
}

/// What becomes of labels that training has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnseenLabels {
    /// They count as others
    Other,
    /// They are refused
    Refuse,
}

/// What the classes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClassWeight {
    /// As many rows as they have
    None,
    /// The same
    Balanced,
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

    /// Write an empty answer for a row that cannot be predicted, and count them
    #[arg(long)]
    pub skip_bad: bool,

    /// The table's form.
    #[command(flatten)]
    pub shape: ShapeArgs,
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
        .ok_or("it must be NAME=VALUE, as in n_estimators=300")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn column_kind(text: &str) -> Result<(String, ColumnChoice), String> {
    // A name may have the sign in it.
    let (name, kind) = text
        .rsplit_once('=')
        .ok_or("it must be COLUMN=KIND, as in zip=category")?;
    let kind = match kind.trim() {
        "number" | "whole-number" => ColumnChoice::Number,
        "yes-no" => ColumnChoice::YesNo,
        "category" => ColumnChoice::Category,
        "date" => ColumnChoice::Date,
        "identifier" => ColumnChoice::Identifier,
        _ => {
            return Err("the kind must be number, yes-no, category, date or identifier".to_owned());
        }
    };
    Ok((name.trim().to_owned(), kind))
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
