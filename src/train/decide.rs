//! Decides what a column is; the rules are told in [`columns`](crate::train::columns).

use std::collections::{BTreeMap, BTreeSet};

use crate::models::cells::{NumberStyle, WHOLE_MAX};
use crate::models::moments::MomentOrder;
use crate::train::columns::{ColumnDecision, ColumnKind, ColumnScan};
use crate::train::tallies::{CellTally, echo};

/// Problems that are told of a column, and notes on spellings.
const PROBLEMS_SHOWN: usize = 10;

/// Distinct numbers up to which 0 and 0.0 are worth a note: they may be classes.
const CLASSES_OF_NUMBERS: usize = 10;

impl ColumnScan {
    /// Decides what the column is.
    pub fn decide(self) -> ColumnDecision {
        let numbers = self.numbers();
        let found = (self.constant(numbers))
            .or_else(|| self.index())
            .or_else(|| self.yes_no())
            .or_else(|| self.number(numbers))
            .or_else(|| self.moment())
            .or_else(|| self.nearly_number(numbers));
        let (kind, why) = found.unwrap_or_else(|| self.text());
        let mut decision = ColumnDecision {
            kind,
            why,
            style: NumberStyle::default(),
            order: MomentOrder::default(),
            dash_is_label: false,
            missing: self.missing + self.dashes,
            range: None,
            problems: Vec::new(),
            notes: Vec::new(),
        };
        match kind {
            ColumnKind::Number | ColumnKind::WholeNumber => {
                self.tell_numbers(&mut decision, numbers)
            }
            ColumnKind::Index => decision.range = numbers.range,
            ColumnKind::Constant if numbers.count > 0 => self.tell_numbers(&mut decision, numbers),
            ColumnKind::Moment => self.tell_moments(&mut decision),
            ColumnKind::YesNo | ColumnKind::Constant => {}
            _ => self.tell_texts(&mut decision, numbers),
        }
        if kind == ColumnKind::Index && !is_index_name(&self.name) {
            let note = format!(
                "it counts the rows and is left out; give --column {}=number if it says something",
                self.name
            );
            decision.notes.push(note);
        }
        self.tell_spellings(&mut decision);
        decision
    }

    /// The numbers with the decimal sign that the column has.
    fn numbers(&self) -> &CellTally {
        let all = &self.tallies;
        match all.only_comma > 0 && all.only_point == 0 {
            true => &all.comma,
            false => &all.point,
        }
    }

    /// Whether there are whole numbers beyond 2^53 and no fractions: codes, not quantities.
    fn has_long_codes(&self, numbers: &CellTally) -> bool {
        self.tallies.too_long.count > 0 && numbers.fractions == 0
    }

    fn constant(&self, numbers: &CellTally) -> Option<(ColumnKind, String)> {
        let values = self.tallies.values;
        if values == 0 {
            return Some((ColumnKind::Constant, "no value".to_owned()));
        }
        let is_one_number = numbers.count == values
            && numbers.range.is_some_and(|(low, high)| low == high)
            && !self.has_long_codes(numbers);
        let mut texts = self.distinct.iter().flatten().map(|(text, _)| text.trim());
        let first = texts.next();
        let is_one_text = first.is_some() && texts.all(|text| Some(text) == first);
        let is_constant = values == self.rows && (is_one_number || is_one_text);
        is_constant.then(|| (ColumnKind::Constant, "the same in every row".to_owned()))
    }

    fn index(&self) -> Option<(ColumnKind, String)> {
        let all = &self.tallies;
        // Two rows with 0 and 1 are as good as yes and no.
        let enough = if is_index_name(&self.name) { 2 } else { 3 };
        let is_index = !all.is_uncounted
            && all.values >= enough
            && all.point.fractions == 0
            && all.point.count == all.values
            && all.too_long.count == 0;
        is_index.then(|| (ColumnKind::Index, "counts rows".to_owned()))
    }

    fn yes_no(&self) -> Option<(ColumnKind, String)> {
        // "y" with "f" is no pair.
        let [words, yes_letters, true_letters] = self.tallies.words;
        let is_yes_no = words == self.tallies.values && (yes_letters == 0 || true_letters == 0);
        let why = match self.tallies.point.count {
            0 => "words for yes and no",
            _ => "0 and 1",
        };
        is_yes_no.then(|| (ColumnKind::YesNo, why.to_owned()))
    }

    fn number(&self, numbers: &CellTally) -> Option<(ColumnKind, String)> {
        if numbers.count < self.tallies.values || self.has_long_codes(numbers) {
            return None;
        }
        Some(match is_whole(numbers)? {
            true => (ColumnKind::WholeNumber, "whole numbers".to_owned()),
            false => (ColumnKind::Number, "numbers".to_owned()),
        })
    }

    fn moment(&self) -> Option<(ColumnKind, String)> {
        let (order, _) = self.order()?;
        let why = match order {
            MomentOrder::YearFirst => "dates",
            MomentOrder::DayFirst => "dates, day first",
            MomentOrder::MonthFirst => "dates, month first",
        };
        Some((ColumnKind::Moment, why.to_owned()))
    }

    /// The order that all dates have, and whether it is but a custom.
    fn order(&self) -> Option<(MomentOrder, bool)> {
        let all = &self.tallies;
        let fits = |tally: &CellTally| tally.count == all.values;
        match (fits(&all.day_first), fits(&all.month_first)) {
            (true, true) if all.dots + all.slashes == 0 => Some((MomentOrder::YearFirst, false)),
            (true, true) if all.slashes == 0 => Some((MomentOrder::DayFirst, false)),
            (true, true) => Some((MomentOrder::MonthFirst, true)),
            (true, false) => Some((MomentOrder::DayFirst, false)),
            (false, true) => Some((MomentOrder::MonthFirst, false)),
            (false, false) => None,
        }
    }

    fn nearly_number(&self, numbers: &CellTally) -> Option<(ColumnKind, String)> {
        let values = self.tallies.values;
        let others = values - numbers.count;
        if values < 20 || others * 20 > values || self.has_long_codes(numbers) {
            return None;
        }
        let kind = if is_whole(numbers)? {
            ColumnKind::WholeNumber
        } else {
            ColumnKind::Number
        };
        Some((kind, format!("numbers, but for {others} of {values} cells")))
    }

    fn text(&self) -> (ColumnKind, String) {
        let all = &self.tallies;
        let (distinct, values) = match &self.distinct {
            Some(distinct) => (distinct.len() as u64, all.values),
            // It is taken to go on as it was.
            None => self.counted,
        };
        // A few texts after many numbers say nothing of how many values there are.
        let is_known = !self.were_numbers;
        let is_all = is_known && distinct == values && values >= 20;
        if !is_all && (!is_known || values < 100 || distinct * 10 <= values * 9) {
            let why = match self.distinct {
                Some(_) => String::new(),
                None => format!("more than {} values", distinct - 1),
            };
            return (ColumnKind::Category, why);
        }
        let words = all.word_count as f64 / all.values as f64;
        let is_short = words <= 3.0 && all.length < 40 * all.values;
        if !is_short {
            return (ColumnKind::FreeText, format!("texts of {words:.0} words"));
        }
        let nearly = if is_all { "" } else { "nearly " };
        (
            ColumnKind::Identifier,
            format!("{nearly}as many values as rows"),
        )
    }

    fn tell_numbers(&self, decision: &mut ColumnDecision, numbers: &CellTally) {
        let all = &self.tallies;
        let decimal_comma = std::ptr::eq(numbers, &all.comma);
        decision.range = numbers.range;
        decision.style = NumberStyle {
            decimal_comma,
            thousands: numbers.thousands,
            percent: numbers.percents > 0,
            currency: numbers.currency.map(str::to_owned),
        };
        let quote = |(line, text): &(u64, String)| format!("line {line}: {text} is no number");
        decision.problems = numbers.others.first.iter().map(quote).collect();
        let notes = &mut decision.notes;
        if numbers.others.count > numbers.others.first.len() as u64 {
            notes.push(format!(
                "{} cells are no numbers; the first are told",
                numbers.others.count
            ));
        }
        let is_sure = all.only_point > 0 || decimal_comma;
        if numbers.thousands == Some(',') && !is_sure {
            notes.push(
                "1,234 may be a thousand or a fraction; it is taken for a thousand, as nothing in the column says otherwise"
                    .to_owned(),
            );
        }
        if numbers.percents > 0 && numbers.percents < numbers.count {
            notes.push(format!(
                "{} of {} numbers have a percent sign: 50 % and 50 are taken for the same",
                numbers.percents, numbers.count
            ));
        }
        if let Some((line, code)) = all.codes.first.first() {
            notes.push(format!(
                "line {line}: {code} starts with a zero, as codes do; if they are codes, give --column {}=category",
                self.name
            ));
        }
    }

    fn tell_moments(&self, decision: &mut ColumnDecision) {
        let Some((order, is_custom)) = self.order() else {
            return;
        };
        decision.order = order;
        decision.range = match order {
            MomentOrder::MonthFirst => self.tallies.month_first.range,
            _ => self.tallies.day_first.range,
        };
        if is_custom {
            decision.notes.push(
                "nothing says whether 03/01/2024 is in March or in January; the month is taken to come first"
                    .to_owned(),
            );
        }
    }

    fn tell_texts(&self, decision: &mut ColumnDecision, numbers: &CellTally) {
        let all = &self.tallies;
        let quote =
            |(line, text): &(u64, String), what: &str| format!("line {line}: {text} {what}");
        if self.dashes > 0 && all.texts * 2 > all.values {
            decision.dash_is_label = true;
            decision.missing = self.missing;
        }
        if decision.kind == ColumnKind::Category {
            match &self.distinct {
                Some(distinct) => {
                    let texts: BTreeSet<&str> = distinct.keys().map(|text| text.trim()).collect();
                    let values = texts.len() + usize::from(decision.dash_is_label);
                    decision.why = format!("{values} values");
                }
                None => decision.notes.push(format!(
                    "it has more than {} values, which are too many to count",
                    self.counted.0 - 1
                )),
            }
        }
        if self.has_long_codes(numbers) {
            // The digits are told without the quotes of a text.
            let long = all.too_long.first.iter().take(1);
            decision.problems.extend(long.map(|(line, text)| format!(
                "line {line}: {} has more digits than a number can hold; treat it as text with --column {}=category, or exclude it",
                text.trim_matches('"'), self.name
            )));
            return;
        }
        let moments = match all.day_first.count > all.month_first.count {
            true => &all.day_first,
            false => &all.month_first,
        };
        for (tally, name) in [(numbers, "number"), (moments, "date")] {
            // The one cell that makes texts of a column should be known.
            if let (true, Some(first)) = (tally.count * 2 > all.values, tally.others.first.first())
            {
                decision.notes.push(format!(
                    "{}, so the column is taken for texts, though {} of {} cells are {name}s",
                    quote(first, &format!("is no {name}")),
                    tally.count,
                    all.values
                ));
            }
        }
        if let Some(first) = all.several_lines.first.first() {
            decision.notes.push(quote(
                first,
                "goes on over several lines, as after a stray quote; close the quote, or double it within a cell",
            ));
        }
    }

    /// Notes which labels are the same but for their spelling.
    fn tell_spellings(&self, decision: &mut ColumnDecision) {
        let are_numbers = match decision.kind {
            ColumnKind::Number | ColumnKind::WholeNumber => true,
            ColumnKind::YesNo | ColumnKind::Category => false,
            _ => return,
        };
        let mut groups: BTreeMap<String, Vec<(u64, &str)>> = BTreeMap::new();
        for (text, seen) in self.distinct.iter().flatten() {
            let exact = seen
                .reading
                .point
                .filter(|number| number.value.abs() < WHOLE_MAX);
            let meant = match exact {
                Some(number) => number.value.to_string(),
                None => text.trim().to_lowercase(),
            };
            groups.entry(meant).or_default().push((seen.line, text));
            // Quantities may be written as they like.
            if are_numbers && groups.len() > CLASSES_OF_NUMBERS {
                return;
            }
        }
        let mut several: Vec<_> = groups
            .into_values()
            .filter(|group| group.len() > 1)
            .collect();
        several.iter_mut().for_each(|group| group.sort_unstable());
        several.sort_unstable();
        for group in several.iter().take(PROBLEMS_SHOWN) {
            let shown: Vec<String> = (group.iter().take(PROBLEMS_SHOWN))
                .map(|(line, text)| format!("{} (line {line})", echo(text)))
                .collect();
            decision
                .notes
                .push(format!("{} differ only in spelling", shown.join(" and ")));
        }
    }
}

/// Whether the numbers are whole ones that can all be told apart; none if there are none.
fn is_whole(numbers: &CellTally) -> Option<bool> {
    let (low, high) = numbers.range?;
    Some(numbers.fractions == 0 && low >= -WHOLE_MAX && high <= WHOLE_MAX)
}

/// Whether a program or a person calls a column of row numbers so.
fn is_index_name(name: &str) -> bool {
    let lower = name.trim().to_lowercase();
    let usual = [
        "",
        "index",
        "id",
        "rownames",
        "row.names",
        "row_names",
        "rowname",
        "row",
        "#",
    ];
    // R calls a column without a name X; the features of many tables are called x.
    name.trim() == "X" || lower.starts_with("unnamed: ") || usual.contains(&lower.as_str())
}
