//! Formatting of figures: plain-text tables with aligned columns, milliseconds, rates and shares.
//!
//! Pure: it makes text and writes nothing. A missing figure is a dash, never a zero.

use std::fmt;
use std::time::Duration;

use crate::drill::measure::{Latencies, Tally};

/// Probes below which a p99 is marked as a guess.
const P99_NEEDS: u64 = 1_000;

/// A table whose first column is left-aligned and whose others are right-aligned.
#[derive(Debug, Clone)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Makes a table with a head line.
    pub fn new(head: &[&str]) -> Self {
        TextTable {
            rows: vec![head.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row; missing cells stay empty, cells beyond the head are shown too.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Formats it as Markdown, aligned so that it is readable as text.
    pub fn markdown(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| {
            // A bar would end the cell.
            row.get(column)
                .map_or(String::new(), |cell| cell.replace('|', "\\|"))
        };
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| cell(row, column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).max(3)).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                text.push_str(&format!("| {:<width$} ", cell(row, column)));
            }
            text.push_str("|\n");
            if number == 0 {
                let rules = widths.iter().map(|width| "-".repeat(width + 2));
                text.push_str(&format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
            }
        }
        text
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Formats a latency in milliseconds with its significant digits, or a dash.
pub fn millis(latency: Option<Duration>) -> String {
    match latency.map(|latency| latency.as_secs_f64() * 1e3) {
        None => "-".to_owned(),
        Some(millis) if millis < 10.0 => format!("{millis:.2}"),
        Some(millis) if millis < 100.0 => format!("{millis:.1}"),
        Some(millis) => format!("{millis:.0}"),
    }
}

/// Formats the 0.99 quantile in milliseconds, with `~` in front if fewer than 1,000 latencies make
/// it a guess.
pub fn p99_millis(latencies: &Latencies) -> String {
    let mark = if (1..P99_NEEDS).contains(&latencies.count()) {
        "~"
    } else {
        ""
    };
    format!("{mark}{}", millis(latencies.quantile(0.99)))
}

/// Formats a number of events per second.
pub fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

/// Formats `part` as a share of `whole`, or a dash if there is no whole.
pub fn share(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!("{:.2}", part / whole)
    } else {
        "-".to_owned()
    }
}

/// Formats the outcomes of all requests: `200: 45, 503: 12, timeout: 3`.
pub fn outcomes(tally: &Tally) -> String {
    let statuses = tally
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {count}"));
    let failures = tally
        .failures
        .iter()
        .map(|(reason, count)| format!("{reason}: {count}"));
    let text: Vec<String> = statuses.chain(failures).collect();
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new(&["load", "p99 ms"]);
        table.row(["idle", "1"]);
        table.row(["10x, shared", "1000.25"]);
        assert_eq!(
            table.to_string(),
            "load          p99 ms\nidle               1\n10x, shared  1000.25\n"
        );
    }

    #[test]
    fn a_table_can_be_pasted_into_markdown() {
        let mut table = TextTable::new(&["load", "p99 ms"]);
        table.row(["10x | shared"]);
        assert_eq!(
            table.markdown(),
            "| load          | p99 ms |\n|---------------|--------|\n| 10x \\| shared |        |\n"
        );
    }

    #[test]
    fn figures_are_shown_with_the_digits_that_mean_something() {
        assert_eq!(millis(None), "-");
        assert_eq!(millis(Some(Duration::from_micros(263))), "0.26");
        assert_eq!(millis(Some(Duration::from_micros(12_340))), "12.3");
        assert_eq!(millis(Some(Duration::from_millis(1_000))), "1000");
        assert_eq!(
            (rate(9.96), rate(51_234.4)),
            ("10.0".to_owned(), "51234".to_owned())
        );
        assert_eq!(
            (share(1.0, 4.0), share(1.0, 0.0)),
            ("0.25".to_owned(), "-".to_owned())
        );
    }

    #[test]
    fn a_p99_of_few_is_marked() {
        let mut latencies = Latencies::default();
        assert_eq!(p99_millis(&latencies), "-");
        (0..999).for_each(|_| latencies.record(Duration::from_millis(5)));
        assert_eq!(p99_millis(&latencies), "~5.00");
        latencies.record(Duration::from_millis(5));
        assert_eq!(p99_millis(&latencies), "5.00");
    }

    #[test]
    fn outcomes_name_status_codes_before_reasons() {
        let tally = Tally {
            statuses: [(503, 2), (200, 7)].into(),
            failures: [("timeout", 1)].into(),
            ..Tally::default()
        };
        assert_eq!(outcomes(&tally), "200: 7, 503: 2, timeout: 1");
        assert_eq!(outcomes(&Tally::default()), "-");
    }
}
