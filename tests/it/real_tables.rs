//! Tables of packages on PyPI, as pandas writes them: `train` takes them as they are and scores beside
//! scikit-learn, or says what to change.
//!
//! Runs where the [real clients](crate::real_clients) do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::real_clients::{SCRIPT_LIMIT, are_asked_for, environment, folder, output};
use crate::train::{run, stderr, stdout};

/// What `train` makes of a table.
enum Outcome {
    /// Classes, with an AUC that is at most so much below scikit-learn's.
    Classes(f64),
    /// Numbers, with an R2 that is at most so much below scikit-learn's.
    Numbers(f64),
    /// It is refused for this reason.
    Refused(&'static str),
}

use Outcome::{Classes, Numbers, Refused};

/// A table, its target, further arguments, and what becomes of it. The margins are those of chance: few
/// rows are split by another seed, and noise is predicted badly by both.
#[rustfmt::skip]
const TABLES: &[(&str, &str, &[&str], Outcome)] = &[
    ("palmerpenguins/penguins", "species", &[], Classes(0.01)),
    ("statsmodels/anes96", "vote", &[], Classes(0.02)),
    ("statsmodels/ccard", "AVGEXP", &[], Numbers(0.1)),
    ("statsmodels/engel", "foodexp", &[], Numbers(0.1)),
    ("statsmodels/fair", "affairs", &[], Numbers(0.02)),
    ("statsmodels/grunfeld", "invest", &[], Numbers(0.05)),
    ("statsmodels/heart", "censors", &[], Classes(0.1)),
    ("statsmodels/modechoice", "choice", &[], Classes(0.02)),
    ("statsmodels/randhie", "mdvis", &[], Numbers(0.02)),
    ("statsmodels/star98", "NABOVE", &[], Numbers(0.1)),
    ("statsmodels/statecrime", "murder", &[], Numbers(0.1)),
    ("statsmodels/sunspots", "SUNACTIVITY", &["--features", "YEAR"], Numbers(0.1)),
    ("ISLP/Auto", "mpg", &[], Numbers(0.03)),
    ("ISLP/Bikeshare", "bikers", &[], Numbers(0.02)),
    ("ISLP/Boston", "medv", &[], Numbers(0.05)),
    ("ISLP/Caravan", "Purchase", &[], Classes(0.03)),
    ("ISLP/Carseats", "Sales", &[], Numbers(0.03)),
    ("ISLP/College", "Apps", &[], Numbers(0.05)),
    ("ISLP/Credit", "Balance", &[], Numbers(0.03)),
    ("ISLP/Default", "default", &[], Classes(0.02)),
    ("ISLP/Hitters", "Salary", &["--drop-missing"], Numbers(0.1)),
    ("ISLP/NYSE", "log_volume", &[], Numbers(0.03)),
    ("ISLP/OJ", "Purchase", &[], Classes(0.02)),
    ("ISLP/Smarket", "Direction", &[], Classes(0.01)),
    ("ISLP/Wage", "wage", &[], Numbers(0.02)),
    ("ISLP/Weekly", "Direction", &[], Classes(0.01)),
    ("vega/barley", "yield", &[], Numbers(0.1)),
    ("vega/iris", "species", &[], Classes(0.01)),
    ("vega/seattle_weather", "weather", &[], Classes(0.03)),
    ("vega/stocks", "price", &[], Numbers(0.05)),
    ("ISLP/Hitters", "Salary", &[], Refused("fill it in, or leave such rows out with --drop-missing")),
    ("ISLP/NCI60labs", "label", &[], Refused("there are no features")),
    ("statsmodels/co2", "co2", &[], Refused("fill it in, or leave such rows out with --drop-missing")),
    ("statsmodels/sunspots", "SUNACTIVITY", &[], Refused("no column can be used")),
    ("vega/cars", "Miles_per_Gallon", &[], Refused("fill it in, or leave such rows out with --drop-missing")),
    ("vega/wheat", "wages", &[], Refused("fill it in, or leave such rows out with --drop-missing")),
];

/// What `train` made of a table: the exit code, its words, and the model's description.
fn train(data: &Path, target: &str, more: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let out = data.with_extension("model.json").display().to_string();
    let data = data.display().to_string();
    let args = ["train", "--data", &data, "--target", target, "--out", &out];
    let trained = run(&[&args[..], more].concat());
    let code = trained.status.code();
    let told = stderr(&trained) + &stdout(&trained);
    let model = match code {
        Some(0) => stdout(&run(&["inspect", "--model", &out, "--json"])),
        _ => "null".to_owned(),
    };
    (code, told, serde_json::from_str(&model).unwrap())
}

/// Compares a table's outcome with what it must be; both scores, and what is wrong.
fn compare(
    outcome: &Outcome,
    (code, told, model): &(Option<i32>, String, serde_json::Value),
    theirs: Option<f64>,
) -> (Option<f64>, Option<String>) {
    let (name, margin) = match outcome {
        Classes(margin) => ("auc", margin),
        Numbers(margin) => ("r2", margin),
        Refused(reason) => {
            let is_right = *code == Some(1) && told.contains(reason);
            return (None, (!is_right).then(|| format!("{code:?}: {told}")));
        }
    };
    if *code != Some(0) {
        return (None, Some(format!("{code:?}: {told}")));
    }
    let Some(ours) = model["scores"][name].as_f64() else {
        return (None, Some(format!("it has no {name}: {}", model["scores"])));
    };
    let is_worse = theirs.is_none_or(|theirs| ours < theirs - margin);
    (
        Some(ours),
        is_worse.then(|| format!("{ours:.3} is less than {theirs:.3?} - {margin}")),
    )
}

#[test]
fn tables_from_pypi_train_as_scikit_learn_does_or_are_refused() {
    if !are_asked_for() {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables");
    let python = environment("tables", &scripts.join("real.txt"), &["--no-deps"]);
    let tables = folder().join("tables-csv");
    let mut make = Command::new(python);
    make.arg("-B").arg(scripts.join("real.py")).arg(&tables);
    make.args(
        TABLES
            .iter()
            .map(|(name, target, ..)| format!("{name}={target}")),
    );
    if let Err(text) = output(make, "tables", SCRIPT_LIMIT) {
        panic!("{text}");
    }
    let scores = std::fs::read_to_string(tables.join("scores.json")).unwrap();
    let scores: BTreeMap<String, f64> = serde_json::from_str(&scores).unwrap();
    let mut report =
        "| table | target | outcome | train | scikit-learn |\n|---|---|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    for (name, target, more, outcome) in TABLES {
        let file = name.replace('/', "-");
        let trained = train(&tables.join(format!("{file}.csv")), target, more);
        let theirs = scores.get(*name).copied();
        let (ours, problem) = compare(outcome, &trained, theirs);
        let what = match outcome {
            Classes(_) => "classes, AUC",
            Numbers(_) => "numbers, R2",
            Refused(reason) => reason,
        };
        let algorithm = trained.2["algorithm"].as_str().unwrap_or_default();
        let shown =
            |score: Option<f64>| score.map_or_else(String::new, |score| format!("{score:.3}"));
        writeln!(
            report,
            "| {name} | {target} {} | {what} | {} {algorithm} | {} |",
            more.join(" "),
            shown(ours),
            shown(theirs)
        )
        .unwrap();
        wrong.extend(problem.map(|problem| format!("{name}: {problem}")));
    }
    eprintln!("{report}");
    assert!(wrong.is_empty(), "{report}\n{}", wrong.join("\n"));
}
