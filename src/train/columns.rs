//! What a column of a table is, decided in one pass over its cells by these rules, the first that
//! holds:
//!
//! | The cells that are not missing                                          | The column is    |
//! |-------------------------------------------------------------------------|------------------|
//! | there is none                                                           | `Constant`       |
//! | one and the same value, and no cell is missing                          | `Constant`       |
//! | whole numbers that go up by one from row to row: two rows or more under | `Index`          |
//! | a name such as "", "Unnamed: 0", "index", "id"; three under another     |                  |
//! | all are 0 or 1, yes or no, true or false, y or n, t or f                | `YesNo`          |
//! | whole numbers, some beyond 2^53: they are taken as texts                | see texts        |
//! | all are whole numbers, or numbers, in one style                         | `WholeNumber`, `Number` |
//! | all are dates in one order, with or without a time                      | `Moment`         |
//! | at least 95 % are numbers, in 20 rows or more                           | the same, with problems |
//! | texts, each in one row (20 or more) or nearly so (over 90 % distinct in | `Identifier`     |
//! | 100 or more), below 40 characters and at most 3 words on average        |                  |
//! | such texts, but longer                                                  | `FreeText`       |
//! | other texts                                                             | `Category`       |
//!
//! The decimal sign is a comma if some cell says so and no cell says that it is a point. The cell "-"
//! is missing, unless the column has texts, and more of them than of anything else.
//!
//! Texts are counted up to 10,000 distinct ones (or 4 MiB of them); beyond, their share of the rows is
//! taken to go on as it was, and they are not counted. A column of numbers is counted up to 200: if
//! texts come after them, it is a `Category`.

use std::collections::HashMap;

use crate::models::cells::{NumberStyle, is_missing};
use crate::models::moments::MomentOrder;
use crate::train::tallies::{CellReading, Tallies};

/// Distinct texts of a column that are counted, and the bytes they may have together.
const DISTINCT_MAX: usize = 10_000;
const DISTINCT_BYTES_MAX: usize = 4 << 20;

/// Distinct texts that are counted while all are numbers: their number decides nothing, and a table
/// may have thousands of such columns.
const DISTINCT_NUMBERS_MAX: usize = 200;

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Whole numbers.
    WholeNumber,
    /// Yes or no.
    YesNo,
    /// Labels, each in several rows.
    Category,
    /// Dates, with or without a time.
    Moment,
    /// The same in every row.
    Constant,
    /// A name of its own for each row.
    Identifier,
    /// Sentences.
    FreeText,
    /// It counts the rows.
    Index,
}

impl ColumnKind {
    /// The kind in words.
    pub fn describe(self) -> &'static str {
        match self {
            ColumnKind::Number => "number",
            ColumnKind::WholeNumber => "whole number",
            ColumnKind::YesNo => "yes/no",
            ColumnKind::Category => "category",
            ColumnKind::Moment => "date",
            ColumnKind::Constant => "constant",
            ColumnKind::Identifier => "identifier",
            ColumnKind::FreeText => "free text",
            ColumnKind::Index => "row index",
        }
    }
}

/// What was found out about a column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDecision {
    /// What it is.
    pub kind: ColumnKind,
    /// Why, in a few words.
    pub why: String,
    /// How its numbers are written.
    pub style: NumberStyle,
    /// How its dates are written.
    pub order: MomentOrder,
    /// Whether "-" is a label; otherwise it is a missing value.
    pub dash_is_label: bool,
    /// Number of cells without a value.
    pub missing: u64,
    /// The smallest and the largest number, or moment.
    pub range: Option<(f64, f64)>,
    /// Cells that spoil the column, each with its line; at most ten.
    pub problems: Vec<String>,
    /// What the operator should know of it.
    pub notes: Vec<String>,
}

/// One text of a column.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) line: u64,
    pub(crate) reading: CellReading,
}

/// Gathers the cells of a column as they come. Its memory is bounded.
#[derive(Debug)]
pub struct ColumnScan {
    pub(crate) name: String,
    pub(crate) missing_words: Vec<String>,
    pub(crate) rows: u64,
    pub(crate) missing: u64,
    /// Cells "-", which may be missing ones or labels.
    pub(crate) dashes: u64,
    /// The texts as they are; none once there were too many.
    pub(crate) distinct: Option<HashMap<Box<str>, Seen>>,
    pub(crate) distinct_bytes: usize,
    /// How many distinct texts there were, in how many cells, when they were counted last.
    pub(crate) counted: (u64, u64),
    /// Whether counting ended early, as all were numbers.
    pub(crate) were_numbers: bool,
    pub(crate) tallies: Tallies,
}

impl ColumnScan {
    /// Starts a column with this name; `missing` are further words for a missing value.
    pub fn new(name: &str, missing: &[String]) -> Self {
        ColumnScan {
            name: name.to_owned(),
            missing_words: missing.to_vec(),
            rows: 0,
            missing: 0,
            dashes: 0,
            distinct: Some(HashMap::new()),
            distinct_bytes: 0,
            counted: (0, 0),
            were_numbers: false,
            tallies: Tallies::default(),
        }
    }

    /// Takes the cell of the next row, which stands in this line.
    pub fn add(&mut self, text: &str, line: u64) {
        self.rows += 1;
        let cell = text.trim();
        if is_missing(cell, &self.missing_words) {
            if cell == "-" && !self.missing_words.iter().any(|word| word.trim() == "-") {
                self.dashes += 1;
            } else {
                self.missing += 1;
            }
            return;
        }
        let may_have_comma = self.tallies.only_point == 0;
        let Some(distinct) = &mut self.distinct else {
            return self.tallies.add(
                &CellReading::of(cell, may_have_comma),
                cell,
                line,
                self.rows,
            );
        };
        if let Some(seen) = distinct.get(text) {
            return self.tallies.add(&seen.reading, cell, line, self.rows);
        }
        let reading = CellReading::of(cell, may_have_comma);
        self.tallies.add(&reading, cell, line, self.rows);
        self.distinct_bytes += text.len();
        distinct.insert(text.into(), Seen { line, reading });
        let all = &self.tallies;
        let are_numbers =
            all.point.count.max(all.comma.count) == all.values && all.too_long.count == 0;
        let most = if are_numbers {
            DISTINCT_NUMBERS_MAX
        } else {
            DISTINCT_MAX
        };
        if distinct.len() > most || self.distinct_bytes > DISTINCT_BYTES_MAX {
            self.counted = (distinct.len() as u64, self.tallies.values);
            self.were_numbers = are_numbers;
            self.distinct = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::cells::parse_number;
    use crate::models::moments::parse_moment;

    /// The first cell is in line 2, after the header.
    fn decide<T: AsRef<str>>(name: &str, cells: impl IntoIterator<Item = T>) -> ColumnDecision {
        let mut scan = ColumnScan::new(name, &["-999".to_owned()]);
        (cells.into_iter().zip(2..)).for_each(|(cell, line)| scan.add(cell.as_ref(), line));
        scan.decide()
    }

    #[test]
    fn the_style_is_that_of_all_numbers() {
        type Case = (
            &'static [&'static str],
            ColumnKind,
            bool,
            Option<char>,
            Option<(f64, f64)>,
            usize,
        );
        #[rustfmt::skip]
        let table: [Case; 12] = [
            (&["1,234", "5,678"], ColumnKind::WholeNumber, false, Some(','), Some((1234.0, 5678.0)), 1),
            (&["1,234", "5.5"], ColumnKind::Number, false, Some(','), Some((5.5, 1234.0)), 0),
            (&["1,234", "1,234,567"], ColumnKind::WholeNumber, false, Some(','), Some((1234.0, 1_234_567.0)), 0),
            (&["1,234", "5,5"], ColumnKind::Number, true, None, Some((1.234, 5.5)), 0),
            (&["1.234", "5,5"], ColumnKind::Number, true, Some('.'), Some((5.5, 1234.0)), 0),
            (&["1.234", "5.678"], ColumnKind::Number, false, None, Some((1.234, 5.678)), 0),
            (&["0,5", "1"], ColumnKind::Number, true, None, Some((0.5, 1.0)), 0),
            (&["0.5", "1,5"], ColumnKind::Category, false, None, None, 0),
            (&["1 000", "2 000,5"], ColumnKind::Number, true, Some(' '), Some((1000.0, 2000.5)), 0),
            (&["1 000", "2,000.5"], ColumnKind::Category, false, None, None, 0),
            (&["5 %", "7"], ColumnKind::WholeNumber, false, None, Some((5.0, 7.0)), 1),
            (&["$ 5", "€ 7"], ColumnKind::Category, false, None, None, 0),
        ];
        for (cells, kind, decimal_comma, thousands, range, notes) in table {
            let found = decide("a", cells);
            assert_eq!(
                (found.kind, found.range, found.notes.len()),
                (kind, range, notes),
                "{cells:?} {found:?}"
            );
            assert_eq!(
                (found.style.decimal_comma, found.style.thousands),
                (decimal_comma, thousands),
                "{cells:?}"
            );
            let read = cells
                .iter()
                .all(|cell| parse_number(cell, &found.style).is_some());
            assert_eq!(read, kind != ColumnKind::Category, "{cells:?}");
        }
        assert_eq!(
            decide("a", ["€ 5", "7 €"]).style.currency.as_deref(),
            Some("€")
        );
        assert!(
            decide("zip", ["01234", "90210"]).notes[0].contains("\"01234\" starts with a zero")
        );
    }

    #[test]
    fn a_few_spoiled_cells_are_problems_and_not_a_kind() {
        let numbers = (0..40).map(|n| (n * n).to_string());
        let spoiled = decide(
            "a",
            numbers
                .clone()
                .map(|n| if n == "225" { "12,5x".into() } else { n }),
        );
        assert_eq!(
            (spoiled.kind, spoiled.problems),
            (
                ColumnKind::WholeNumber,
                vec!["line 17: \"12,5x\" is no number".to_owned()]
            )
        );
        let halves = (0..40).map(|n| (f64::from(n) / 2.0).to_string());
        let comma = decide(
            "a",
            halves.map(|n| if n == "12.5" { "12,5".into() } else { n }),
        );
        assert_eq!(
            (comma.kind, comma.problems),
            (
                ColumnKind::Number,
                vec!["line 27: \"12,5\" is no number".to_owned()]
            )
        );
        let few = decide("a", ["1", "2", "4", "x"]);
        assert_eq!((few.kind, few.problems.len()), (ColumnKind::Category, 0));
        assert_eq!(
            few.notes,
            [
                "line 5: \"x\" is no number, so the column is taken for texts, though 3 of 4 cells are numbers"
            ]
        );
        let many = decide(
            "a",
            numbers
                .clone()
                .cycle()
                .take(1000)
                .enumerate()
                .map(|(row, n)| if row % 25 == 3 { format!("x{n}") } else { n }),
        );
        assert_eq!(
            (many.kind, many.problems.len(), many.notes.len()),
            (ColumnKind::WholeNumber, 10, 1)
        );
        let long = decide(
            "id",
            ["9007199254740992", "9007199254740993", "9007199254740993"],
        );
        assert_eq!(
            (long.kind, long.why.as_str()),
            (ColumnKind::Category, "2 values")
        );
        assert_eq!(
            long.problems,
            [
                "line 3: 9007199254740993 has more digits than a number can hold; treat it as text with --column id=category, or exclude it"
            ]
        );
        let long = decide("id", (0..20).map(|n| format!("90071992547409{n:04}")));
        assert_eq!((long.kind, long.range), (ColumnKind::Identifier, None));
        let date = decide("d", ["2024-03-01", "2024-03-02", "2024-03-32"]);
        assert!(
            date.notes[0].starts_with("line 4: \"2024-03-32\" is no date"),
            "{date:?}"
        );
    }

    #[test]
    fn texts_are_labels_names_or_sentences() {
        let names = |count: usize| (0..count).map(|n| format!("name {n}"));
        let kind = |count: usize| decide("a", names(count)).kind;
        assert_eq!(
            (kind(19), kind(20)),
            (ColumnKind::Category, ColumnKind::Identifier)
        );
        assert_eq!(
            decide("a", names(50).cycle().take(52)).kind,
            ColumnKind::Category
        );
        let nearly = decide("a", names(100).cycle().take(105));
        assert_eq!(
            (nearly.kind, nearly.why.as_str()),
            (ColumnKind::Identifier, "nearly as many values as rows")
        );
        let sentences = (0..30).map(|n| format!("this is the long story of number {n}"));
        assert_eq!(decide("a", sentences).kind, ColumnKind::FreeText);
        assert_eq!(kind(20_000), ColumnKind::Identifier);
        let many = decide("a", (0..60_000).map(|n| format!("name {}", n / 3)));
        assert_eq!(
            (many.kind, many.why.as_str(), many.notes.len()),
            (ColumnKind::Category, "more than 10000 values", 1)
        );
        let mixed = decide(
            "a",
            (0..3000).map(|n| {
                if n < 2500 {
                    (n % 1250).to_string()
                } else {
                    "x".into()
                }
            }),
        );
        assert_eq!(
            (mixed.kind, mixed.why.as_str()),
            (ColumnKind::Category, "more than 200 values")
        );
        let labels = decide("a", ["b", "-", "a", "b", "NA", "-999"]);
        assert_eq!(
            (labels.missing, labels.dash_is_label, labels.why.as_str()),
            (2, true, "3 values")
        );
        let numbers = decide("a", ["1", "-", "3"]);
        assert_eq!(
            (numbers.kind, numbers.missing, numbers.dash_is_label),
            (ColumnKind::WholeNumber, 1, false)
        );
        let stray = decide("a", ["ok", "5 inch,2\n3,fine", "ok"]);
        assert!(stray.notes[0].starts_with("line 3: ") && stray.notes[0].contains("stray quote"));
    }

    #[test]
    fn spellings_of_one_label_are_named() {
        let labels = decide("a", ["Red", "red", "blue", "Blue ", "green"]);
        assert_eq!(
            labels.notes,
            [
                "\"Red\" (line 2) and \"red\" (line 3) differ only in spelling",
                "\"blue\" (line 4) and \"Blue \" (line 5) differ only in spelling",
            ]
        );
        let words = decide("y", ["Yes", "No", "yes", "no ", "YES", "No"]);
        assert_eq!((words.kind, words.notes.len()), (ColumnKind::YesNo, 2));
        assert_eq!(
            decide("y", ["0", "1", "0", "0.0"]).notes,
            ["\"0\" (line 2) and \"0.0\" (line 5) differ only in spelling"]
        );
        assert_eq!(
            decide(
                "y",
                (0..30).map(|n| format!("{}.{}", n % 15, "0".repeat(1 + n % 2)))
            )
            .notes
            .len(),
            0
        );
    }

    #[test]
    fn dates_have_one_order_and_rows_are_counted() {
        #[rustfmt::skip]
        let table = [
            ([" 2024-03-01", "2024/03/02"], MomentOrder::YearFirst, 0), (["01.03.2024", "02.03.2024"], MomentOrder::DayFirst, 0),
            (["01/03/2024", "02/03/2024"], MomentOrder::MonthFirst, 1), (["01/03/2024", "13/03/2024"], MomentOrder::DayFirst, 0),
            (["03.01.2024", "03.13.2024"], MomentOrder::MonthFirst, 0), (["2024-03-01", "13/03/2024"], MomentOrder::DayFirst, 0),
        ];
        for (cells, order, notes) in table {
            let found = decide("a", cells);
            assert_eq!(
                (found.kind, found.order, found.notes.len()),
                (ColumnKind::Moment, order, notes),
                "{cells:?}"
            );
            let moments = cells.map(|cell| parse_moment(cell, order).unwrap());
            assert_eq!(found.range, Some((moments[0], moments[1])), "{cells:?}");
        }
        let year = decide("year", (1949..1961).map(|year| year.to_string()));
        assert_eq!(
            (year.kind, year.notes.len(), year.range),
            (ColumnKind::Index, 1, Some((1949.0, 1960.0)))
        );
        assert_eq!(decide("", ["5", "", "7"]).kind, ColumnKind::Index);
        assert_eq!(decide("", ["5", "6", "8"]).kind, ColumnKind::WholeNumber);
        assert_eq!(
            (decide("a", ["0", "1"]).kind, decide("id", ["0", "1"]).kind),
            (ColumnKind::YesNo, ColumnKind::Index)
        );
        assert_eq!(
            (decide("a", ["7", "7.0"]).kind, decide("a", ["x", ""]).kind),
            (ColumnKind::Constant, ColumnKind::Category)
        );
        assert_eq!(decide("a", [""; 3]).why, "no value");
    }
}
