//! Counts what the cells of a column can be read as.

use crate::models::cells::{Spelling, WHOLE_MAX, parse_yes_no, plain_number, spell_number};
use crate::models::moments::{MomentForm, MomentReading, read_moment};

/// Lines that are kept of each kind of find.
const LINES_KEPT: usize = 10;

/// How many characters of a cell a problem quotes.
const ECHO_MAX: usize = 40;

/// What the text of one cell can be read as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CellReading {
    pub(crate) point: Option<Spelling>,
    pub(crate) comma: Option<Spelling>,
    pub(crate) moment: Option<MomentReading>,
    pub(crate) words: Words,
    pub(crate) is_code: bool,
    pub(crate) length: u32,
    pub(crate) word_count: u32,
}

/// Which words for yes and no a text is among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    None,
    Usual,
    YesOrNoLetter,
    TrueOrFalseLetter,
}

impl CellReading {
    /// Reads a text. A decimal comma is looked for only where the column may still have one.
    pub(crate) fn of(text: &str, may_have_comma: bool) -> Self {
        let with_comma = || may_have_comma.then(|| spell_number(text, ',')).flatten();
        let first = text.as_bytes().first().copied().unwrap_or_default();
        let plain = plain_number(text).map(|value| Spelling {
            value,
            thousands: None,
            percent: false,
            currency: None,
        });
        // No text is both: the groups of a date are no thousands.
        let moment = if plain.is_some() {
            None
        } else {
            read_moment(text)
        };
        let (point, comma) = match plain {
            // Without a point the decimal sign does not matter.
            Some(_) if !text.contains('.') => (plain, plain),
            Some(_) => (plain, with_comma()),
            None if moment.is_some() => (None, None),
            None => (spell_number(text, '.'), with_comma()),
        };
        let is_number = point.or(comma).is_some();
        let words = match first.to_ascii_lowercase() {
            b'y' | b'n' | b't' | b'f' | b'0' | b'1' if parse_yes_no(text).is_some() => {
                match (text.len(), first.to_ascii_lowercase()) {
                    (1, b'y' | b'n') => Words::YesOrNoLetter,
                    (1, b't' | b'f') => Words::TrueOrFalseLetter,
                    _ => Words::Usual,
                }
            }
            _ => Words::None,
        };
        CellReading {
            point,
            comma,
            moment,
            words,
            is_code: first == b'0' && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit),
            length: if is_number {
                text.len()
            } else {
                text.chars().count()
            } as u32,
            word_count: if is_number {
                1
            } else {
                text.split_whitespace().count() as u32
            },
        }
    }
}

/// The first lines of what was found, and how often it was.
#[derive(Debug, Default)]
pub(crate) struct Finds {
    pub(crate) count: u64,
    pub(crate) first: Vec<(u64, String)>,
}

impl Finds {
    pub(crate) fn add(&mut self, text: &str, line: u64) {
        self.count += 1;
        if self.first.len() < LINES_KEPT {
            self.first.push((line, echo(text)));
        }
    }
}

/// What is known of the cells that can be read in one way.
#[derive(Debug, Default)]
pub(crate) struct CellTally {
    pub(crate) count: u64,
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) others: Finds,
    /// Of numbers: how many are no whole ones, and how they are written.
    pub(crate) fractions: u64,
    pub(crate) grouped: u64,
    pub(crate) percents: u64,
    pub(crate) thousands: Option<char>,
    pub(crate) currency: Option<&'static str>,
}

impl CellTally {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let (low, high) = self.range.unwrap_or((value, value));
        self.range = Some((low.min(value), high.max(value)));
    }

    /// Counts a number if it is written as those before.
    fn add_number(&mut self, number: Option<&Spelling>, text: &str, line: u64) {
        let agrees = |number: &&Spelling| {
            (number.thousands.is_none()
                || self
                    .thousands
                    .is_none_or(|own| number.thousands == Some(own)))
                && (number.currency.is_none()
                    || self.currency.is_none_or(|own| number.currency == Some(own)))
        };
        let Some(number) = number.filter(agrees) else {
            return self.others.add(text, line);
        };
        self.add(number.value);
        self.thousands = self.thousands.or(number.thousands);
        self.currency = self.currency.or(number.currency);
        self.grouped += u64::from(number.thousands.is_some());
        self.percents += u64::from(number.percent);
        self.fractions += u64::from(number.value.fract() != 0.0);
    }

    fn add_moment(&mut self, moment: Option<f64>, text: &str, line: u64) {
        match moment {
            Some(moment) => self.add(moment),
            None => self.others.add(text, line),
        }
    }
}

/// What is known of all cells with a value.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) values: u64,
    /// Numbers with a decimal point, and with a decimal comma.
    pub(crate) point: CellTally,
    pub(crate) comma: CellTally,
    /// Numbers that have one of the two and cannot have the other.
    pub(crate) only_point: u64,
    pub(crate) only_comma: u64,
    /// Whole numbers that cannot be told from their neighbours, and numbers such as 007.
    pub(crate) too_long: Finds,
    pub(crate) codes: Finds,
    pub(crate) day_first: CellTally,
    pub(crate) month_first: CellTally,
    pub(crate) dots: u64,
    pub(crate) slashes: u64,
    /// Words for yes and no: all, and the letters of the two pairs.
    pub(crate) words: [u64; 3],
    pub(crate) texts: u64,
    pub(crate) several_lines: Finds,
    pub(crate) length: u64,
    pub(crate) word_count: u64,
    /// The first row's number less the row, if all go on so.
    pub(crate) start: Option<f64>,
    pub(crate) is_uncounted: bool,
}

impl Tallies {
    pub(crate) fn add(&mut self, reading: &CellReading, text: &str, line: u64, row: u64) {
        self.values += 1;
        self.length += u64::from(reading.length);
        self.word_count += u64::from(reading.word_count);
        if reading.words != Words::None {
            self.words[0] += 1;
            self.words[1] += u64::from(reading.words == Words::YesOrNoLetter);
            self.words[2] += u64::from(reading.words == Words::TrueOrFalseLetter);
        }
        self.point.add_number(reading.point.as_ref(), text, line);
        self.comma.add_number(reading.comma.as_ref(), text, line);
        if !self.is_uncounted {
            let start = reading.point.map(|number| number.value - row as f64);
            self.is_uncounted = start.is_none() || self.start.is_some_and(|own| Some(own) != start);
            self.start = start;
        }
        let Some(number) = reading.point.or(reading.comma) else {
            return self.add_text(reading, text, line);
        };
        self.only_point += u64::from(reading.comma.is_none());
        self.only_comma += u64::from(reading.point.is_none());
        if reading.is_code {
            self.codes.add(text, line);
        }
        let digits = text.trim_start_matches(['+', '-']);
        if number.value.abs() >= WHOLE_MAX
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.trim_start_matches('0') != "9007199254740992"
        {
            self.too_long.add(text, line);
        }
    }

    fn add_text(&mut self, reading: &CellReading, text: &str, line: u64) {
        if text.contains('\n') {
            self.several_lines.add(text, line);
        }
        match &reading.moment {
            Some(moment) => {
                self.dots += u64::from(moment.form == MomentForm::Dots);
                self.slashes += u64::from(moment.form == MomentForm::Slashes);
            }
            None => self.texts += 1,
        }
        self.day_first
            .add_moment(reading.moment.and_then(|one| one.day_first), text, line);
        self.month_first
            .add_moment(reading.moment.and_then(|one| one.month_first), text, line);
    }
}

/// Quotes a cell, truncated and escaped.
pub(crate) fn echo(text: &str) -> String {
    let short: String = text.chars().take(ECHO_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
