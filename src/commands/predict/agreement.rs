//! Holds that a model gets the same rows, and so gives the same answers, from a record in JSON, from
//! a cell in CSV and from the table it was trained on, whatever the columns are.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::ModelRequest;
use crate::lanes::memory_budget::{Budget, Charge};
use crate::models::format::Format as _;
use crate::models::native::Native;
use crate::protocol::instances::Predict;
use crate::protocol::{BodyHead, Dialect as _, RowSpec};
use crate::train::algorithms::{ALGORITHMS, Algorithm};
use crate::train::data::{DataOptions, TrainingData};
use crate::train::random::SplitMix;
use crate::train::{Recipe, Task, model_file};

/// What stands for a missing value by `--missing`, beside the usual words.
const OWN_MISSING: [&str; 2] = ["-99", "1900-01-01"];

/// Rows that training does not see: a tenth of their labels are unseen.
const NEW_ROWS: usize = 12;

/// How the cells of a column are written.
#[derive(Debug, Clone, Copy)]
enum Writing {
    Plain,
    Whole,
    DecimalComma,
    /// What stands between thousands, and the decimal sign.
    Thousands(char, char),
    /// What stands between the number and its sign.
    Percent(&'static str),
    CurrencyBefore(&'static str),
    CurrencyAfter(&'static str),
    YesNo([&'static str; 2]),
    Labels(&'static [&'static str]),
    /// So many labels, some of them rare.
    ManyLabels(usize),
    /// Whole numbers that 64-bit floating point cannot tell apart.
    LongCodes,
    Date(DateForm),
    Constant,
    Identifier,
    FreeText,
}

#[derive(Debug, Clone, Copy)]
enum DateForm {
    Iso,
    IsoTime,
    IsoZone,
    Dots,
    Slashes,
}

#[rustfmt::skip]
const WRITINGS: [Writing; 33] = [
    Writing::Plain, Writing::Plain, Writing::Whole, Writing::DecimalComma,
    Writing::Thousands(',', '.'), Writing::Thousands('.', ','), Writing::Thousands(' ', ','),
    Writing::Thousands('\'', '.'), Writing::Thousands('\u{202f}', ','),
    Writing::Percent(""), Writing::Percent(" "), Writing::CurrencyBefore("US$"),
    Writing::CurrencyBefore("€ "), Writing::CurrencyAfter(" EUR"), Writing::CurrencyAfter("kr"),
    Writing::YesNo(["no", "Yes"]), Writing::YesNo(["False", "True"]), Writing::YesNo(["f", "t"]),
    Writing::YesNo(["N", "Y"]), Writing::YesNo(["0", "1"]),
    Writing::Labels(&["red", "green", "dark blue"]), Writing::Labels(&["a,b", "\"q\"", "ü;|", "d'|e"]),
    Writing::Labels(&["true", "false", "unknown"]), Writing::Labels(&["1", "4.0", "2.50", "many", "inf"]),
    Writing::Labels(&["x", "-", "y", "z"]), Writing::ManyLabels(12), Writing::ManyLabels(50),
    Writing::LongCodes, Writing::Date(DateForm::Iso), Writing::Date(DateForm::IsoTime),
    Writing::Date(DateForm::IsoZone), Writing::Date(DateForm::Dots), Writing::Date(DateForm::Slashes),
];

const LEFT_OUT: [Writing; 3] = [Writing::Constant, Writing::Identifier, Writing::FreeText];

/// One value as a table's cell and as it stands in JSON.
#[derive(Debug, Clone)]
struct TestCell {
    cell: String,
    json: String,
}

impl TestCell {
    fn number(cell: String, json: String) -> Self {
        TestCell { cell, json }
    }

    fn text(text: impl Into<String>) -> Self {
        let cell = text.into();
        let json = serde_json::Value::from(cell.as_str()).to_string();
        TestCell { cell, json }
    }
}

#[derive(Debug, Clone)]
struct TestColumn {
    writing: Writing,
    has_missing: bool,
    seed: u64,
}

/// A table, and how a model is trained on it.
#[derive(Debug, Clone)]
struct TestTable {
    columns: Vec<TestColumn>,
    rows: usize,
    /// Number of classes; 0 for numbers.
    classes: usize,
    algorithm: usize,
    delimiter: u8,
}

fn cases() -> impl Strategy<Value = TestTable> {
    let writing = prop_oneof![
        12 => prop::sample::select(&WRITINGS[..]),
        1 => prop::sample::select(&LEFT_OUT[..]),
    ];
    let column = (writing, any::<bool>(), any::<u64>());
    let column = column.prop_map(|(writing, has_missing, seed)| TestColumn {
        writing,
        has_missing,
        seed,
    });
    (
        prop::collection::vec(column, 1..6),
        25usize..70,
        prop::sample::select(vec![0usize, 0, 2, 3]),
        any::<prop::sample::Index>(),
        prop::sample::select(vec![b',', b';', b'\t', b'|']),
    )
        .prop_map(|(columns, rows, classes, algorithm, delimiter)| TestTable {
            columns,
            rows,
            classes,
            algorithm: algorithm.index(algorithms(classes).len()),
            delimiter,
        })
}

fn algorithms(classes: usize) -> Vec<&'static Algorithm> {
    let task = match classes {
        0 => Task::Regression,
        _ => Task::Classification,
    };
    ALGORITHMS
        .iter()
        .filter(|algorithm| algorithm.task == task)
        .collect()
}

fn pick<T: Copy>(from: &[T], random: &mut SplitMix) -> T {
    from[random.below(from.len())]
}

impl TestColumn {
    /// The values of so many rows, of which the last ones are new to the model.
    fn values(&self, rows: usize) -> Vec<TestCell> {
        let mut random = SplitMix::new(self.seed);
        let value = |row: usize| {
            // The model learns from the first row that a value may be missing.
            let is_missing = self.has_missing && (row == 0 || random.below(8) == 0);
            let is_new = row >= rows - NEW_ROWS && random.below(10) == 0;
            match is_missing {
                true => self.missing(&mut random),
                false => self.value(row, is_new, &mut random),
            }
        };
        (0..rows).map(value).collect()
    }

    fn missing(&self, random: &mut SplitMix) -> TestCell {
        let words = [
            "", "NA", "N/A", "NaN", "nan", "null", "NULL", "none", "None", "?", ".",
        ];
        let cell = match (self.writing, random.below(8)) {
            (Writing::Date(_), 0) => OWN_MISSING[1],
            (_, 0) => OWN_MISSING[0],
            // It is a label beside more texts than other values.
            (Writing::Plain | Writing::Whole | Writing::DecimalComma, 1) => "-",
            _ => pick(&words, random),
        };
        TestCell::number(cell.to_owned(), "null".to_owned())
    }

    fn value(&self, row: usize, is_new: bool, random: &mut SplitMix) -> TestCell {
        match self.writing {
            Writing::Plain => {
                // All bits of a double, near 1 or far from it.
                let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
                let number = unit * 10f64.powi(random.below(9) as i32 - 4);
                TestCell::number(number.to_string(), number.to_string())
            }
            Writing::Whole => {
                // Never -99, which a cell calls missing and JSON does not.
                let number = random.below(2000) as i64 - 90;
                let json = pick(&["", ".0", "e0"], random);
                TestCell::number(number.to_string(), format!("{number}{json}"))
            }
            Writing::YesNo(words) => {
                let yes = random.below(2);
                let json = match random.below(4) {
                    0 => yes.to_string(),
                    1 => format!("\"{}\"", words[yes]),
                    2 => format!("{yes}.0"),
                    _ => (yes == 1).to_string(),
                };
                TestCell::number(words[yes].to_owned(), json)
            }
            Writing::Labels(_) | Writing::ManyLabels(_) if is_new => {
                let new = ["new", "2", "True", "0.5", " ü "];
                TestCell::text(pick(&new, random))
            }
            Writing::Labels(labels) => label(pick(labels, random), random),
            Writing::ManyLabels(count) => {
                let place = random.below(count).min(random.below(count));
                TestCell::text(format!("label {place}"))
            }
            Writing::LongCodes => {
                let code = (9_007_199_254_740_990 + random.below(12)).to_string();
                let json = pick(&["", "\""], random);
                TestCell::number(code.clone(), format!("{json}{code}{json}"))
            }
            Writing::Date(form) => date(form, random),
            Writing::Constant => TestCell::text("same"),
            Writing::Identifier => TestCell::text(format!("person {row}")),
            Writing::FreeText => {
                TestCell::text(format!("this is, what \"one\" says of number {row}"))
            }
            _ => self.number(random),
        }
    }

    /// A number with a fraction as a person writes it.
    fn number(&self, random: &mut SplitMix) -> TestCell {
        let (whole, cents) = (random.below(4_000_000), 1 + random.below(99));
        let sign = pick(&["", "-"], random);
        let groups = |between: &str| {
            let (thousands, rest) = (whole / 1000, whole % 1000);
            match (thousands / 1000, thousands % 1000) {
                (0, 0) => rest.to_string(),
                (0, thousands) => format!("{thousands}{between}{rest:03}"),
                (millions, thousands) => {
                    format!("{millions}{between}{thousands:03}{between}{rest:03}")
                }
            }
        };
        let cell = match self.writing {
            Writing::DecimalComma => format!("{sign}{whole},{cents:02}"),
            Writing::Thousands(between, decimal) => {
                let sign = if sign.is_empty() { "" } else { "\u{2212}" };
                format!("{sign}{}{decimal}{cents:02}", groups(&between.to_string()))
            }
            Writing::Percent(blank) => format!("{sign}{whole}.{cents:02}{blank}%"),
            Writing::CurrencyBefore(currency) => {
                format!("{sign}{currency}{}.{cents:02}", groups(","))
            }
            Writing::CurrencyAfter(currency) => {
                format!("{sign}{}.{cents:02}{currency}", groups(","))
            }
            _ => unreachable!("{:?} is no number", self.writing),
        };
        TestCell::number(cell, format!("{sign}{whole}.{cents:02}"))
    }
}

/// A label; in JSON it may be a number or a truth value, as a program holds it that has read the
/// table.
fn label(label: &str, random: &mut SplitMix) -> TestCell {
    let bare = matches!(label, "1" | "4.0" | "true" | "false") && random.below(2) == 0;
    let blanks = pick(&["", " "], random);
    match bare {
        true => TestCell::number(label.to_owned(), label.to_owned()),
        false => TestCell::text(format!("{blanks}{label}{blanks}")),
    }
}

fn date(form: DateForm, random: &mut SplitMix) -> TestCell {
    let (year, month, day) = (
        1960 + random.below(80),
        1 + random.below(12),
        1 + random.below(28),
    );
    let (hour, minute, second) = (random.below(24), random.below(60), random.below(60));
    let iso = format!("{year}-{month:02}-{day:02}");
    let (cell, iso) = match form {
        DateForm::Iso => (iso.clone(), iso),
        DateForm::IsoTime => {
            let time = format!("{hour:02}:{minute:02}:{second:02}.25");
            (format!("{iso} {time}"), format!("{iso}T{time}Z"))
        }
        DateForm::IsoZone => {
            let time = format!("{iso}T{hour:02}:{minute:02}+05:30");
            (time.clone(), time)
        }
        DateForm::Dots => (format!("{day}.{month:02}.{year}"), iso),
        DateForm::Slashes => (format!("{month:02}/{day:02}/{year}"), iso),
    };
    TestCell::number(cell, format!("\"{iso}\""))
}

/// A table as its delimiter has it.
fn table(delimiter: u8, header: &[String], rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .from_writer(Vec::new());
    writer.write_record(header).unwrap();
    rows.iter()
        .for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

/// The bits of numbers; every NaN counts the same.
fn bits(values: &[f64]) -> Vec<u64> {
    let bits = |value: &f64| {
        if value.is_nan() {
            f64::NAN.to_bits()
        } else {
            value.to_bits()
        }
    };
    values.iter().map(bits).collect()
}

fn answer_bits(output: &Output) -> (Vec<u32>, Vec<u64>) {
    match output {
        Output::Numbers(numbers) => (Vec::new(), bits(numbers)),
        Output::Classes {
            indices,
            probabilities,
        } => (
            indices.clone(),
            bits(probabilities.as_deref().unwrap_or_default()),
        ),
    }
}

/// Decodes a body as the server does.
fn served(model: &Loaded, content_type: &str, body: &[u8]) -> Result<Rows, String> {
    let head = BodyHead {
        content_type: Some(content_type.to_owned()),
        ..BodyHead::default()
    };
    let row_spec = RowSpec {
        signature: model.model.signature(),
        precision: model.model.precision(),
        rows_max: 1000,
    };
    let budget = Arc::new(Budget::new(1 << 30, 0));
    let asked = Predict.decode(&head, body, row_spec, &mut Charge::new(&budget));
    asked.map(|asked| asked.rows).map_err(|error| error.text)
}

/// Reads a table as `predict` does.
fn offline(model: Loaded, delimiter: u8, body: &[u8]) -> Result<Rows, String> {
    let told = |error: TableError| error.0;
    let mut table = TableReader::of_text("t.csv", body, delimiter).map_err(told)?;
    let width = model.model.signature().features.len();
    let answering = Answering::new(model, table.layout()).map_err(told)?;
    let mut values = Vec::new();
    while let Some(mut block) = table.next_block().map_err(told)? {
        let (chunk, failure) = Chunk::read(&mut block, &answering);
        if let Some(problem) = chunk.problems.into_iter().flatten().next() {
            return Err(problem);
        }
        failure.map_or(Ok(()), |failure| Err(failure.0))?;
        values.extend(chunk.values);
    }
    Ok(Rows::new(values, width).unwrap())
}

/// The rows of a table: as its cells, and as records in JSON.
struct TestRows {
    header: Vec<String>,
    cells: Vec<Vec<String>>,
    records: Vec<String>,
}

impl TestTable {
    fn rows(&self) -> TestRows {
        let all = self.rows + NEW_ROWS;
        // One column that is a feature in any case.
        let number = TestColumn {
            writing: Writing::Plain,
            has_missing: false,
            seed: 5,
        };
        let columns: Vec<&TestColumn> = self.columns.iter().chain([&number]).collect();
        let values: Vec<Vec<TestCell>> = columns.iter().map(|column| column.values(all)).collect();
        let mut random = SplitMix::new(self.rows as u64);
        let mut cells = |row: usize| {
            let target = match self.classes {
                0 => format!("{}.5", random.below(1000)),
                classes => format!("class {}", row % classes),
            };
            let cells = values.iter().map(|column| column[row].cell.clone());
            cells.chain([target]).collect()
        };
        let record = |row: usize| {
            let fields = values.iter().enumerate();
            let fields = fields.map(|(place, column)| format!("\"c{place}\":{}", column[row].json));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        let names = (0..columns.len()).map(|place| format!("c{place}"));
        TestRows {
            header: names.chain(["target".to_owned()]).collect(),
            cells: (0..all).map(&mut cells).collect(),
            records: (0..all).map(record).collect(),
        }
    }

    /// Trains, and holds the ways of a row against each other.
    fn check(&self) -> Result<(), TestCaseError> {
        let TestRows {
            header,
            cells,
            records,
        } = self.rows();
        let (data, recipe) = self.data(&table(self.delimiter, &header, &cells[..self.rows]));
        let fitted = recipe.fit(&data, &data.rows, &data.targets).unwrap();
        let scored = compute::predict(&fitted.model, &data.rows).unwrap();
        let named = ("m", "2026-01-01T00:00:00Z");
        let bytes = model_file::write(&data, recipe.algorithm, fitted, (0, None), named).unwrap();
        let load = || Native.load(&bytes, &ModelRequest::default()).unwrap();
        let loaded = load();
        let body = format!("{{\"instances\":[{}]}}", records.join(","));
        let commas = table(b',', &header, &cells);
        let own = table(self.delimiter, &header, &cells);
        let read = [
            ("JSON", served(&loaded, "application/json", body.as_bytes())),
            ("the server's CSV", served(&loaded, "text/csv", &commas)),
            ("predict", offline(load(), self.delimiter, &own)),
        ];
        let features: Vec<&str> = loaded.model.signature().names().collect();
        let predict = |rows: &Rows| compute::predict(loaded.model.as_ref(), rows).unwrap();
        let mut first: Option<Rows> = None;
        for (way, rows) in read {
            let rows = rows.map_err(TestCaseError::fail)?;
            let first = first.get_or_insert_with(|| rows.clone());
            for (row, values) in rows.iter().enumerate() {
                let told = || format!("{way}, {features:?}: {} {:?}", records[row], cells[row]);
                let trained = data.rows.iter().nth(row);
                let same = first.iter().nth(row);
                for expected in trained.into_iter().chain(same) {
                    prop_assert_eq!(bits(values), bits(expected), "{}", told());
                }
            }
            prop_assert_eq!(answer_bits(&predict(&rows)), answer_bits(&predict(first)));
            let trained = rows.values()[..data.rows.values().len()].to_vec();
            let trained = predict(&Rows::new(trained, rows.width()).unwrap());
            prop_assert_eq!(answer_bits(&trained), answer_bits(&scored), "{}", way);
        }
        Ok(())
    }

    fn data(&self, table: &[u8]) -> (TrainingData, Recipe) {
        let algorithm = algorithms(self.classes)[self.algorithm];
        let options = DataOptions {
            target: "target".to_owned(),
            missing: OWN_MISSING.map(str::to_owned).to_vec(),
            task: Some(algorithm.task),
            ..DataOptions::default()
        };
        let table = TableReader::of_text("t.csv", table, self.delimiter).unwrap();
        let data = TrainingData::read(table, &options).unwrap();
        // The fewest trees that say something.
        let parameter = match algorithm.name {
            name if name.starts_with("boosted") => Some(("max_iter", "5")),
            name if name.starts_with("random") => Some(("n_estimators", "5")),
            _ => None,
        };
        let parameters = parameter.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let recipe = Recipe {
            algorithm,
            parameters: parameters.into_iter().collect(),
            is_balanced: false,
            seed: 1,
            threads: 1,
        };
        (data, recipe)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_record_a_cell_and_a_training_row_become_the_same_row(case in cases()) {
        case.check()?;
    }
}
