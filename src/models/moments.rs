//! Dates and times.

use serde::{Deserialize, Serialize};

/// Years that a moment may have; others are typing errors, or no dates.
const YEARS: std::ops::RangeInclusive<i64> = 1600..=2200;

/// No moment of these years is further from 1970.
pub const MOMENT_SECONDS_MAX: f64 = 12_000_000_000.0;

const DAY_SECONDS: f64 = 86_400.0;

/// Which part of a date comes first, where its year does not. A date whose year comes first is read
/// in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentOrder {
    /// 2024-03-01 or 2024/03/01 alone.
    #[default]
    YearFirst,
    /// The first of March is 01.03.2024 or 01/03/2024.
    DayFirst,
    /// The first of March is 03/01/2024.
    MonthFirst,
}

impl MomentOrder {
    /// A date and time in this order.
    pub fn example(self) -> &'static str {
        match self {
            MomentOrder::YearFirst => "2024-12-31T12:30:00",
            MomentOrder::DayFirst => "31/12/2024 12:30",
            MomentOrder::MonthFirst => "12/31/2024 12:30",
        }
    }
}

/// How a date is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MomentForm {
    YearFirst,
    Dots,
    /// Slashes or hyphens, which Americans and others use for different orders.
    Slashes,
}

/// A moment in seconds since 1970, in both orders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MomentReading {
    pub(crate) form: MomentForm,
    pub(crate) day_first: Option<f64>,
    pub(crate) month_first: Option<f64>,
}

/// Reads a date, or a date and a time, as seconds since 1970 in UTC.
pub fn parse_moment(text: &str, order: MomentOrder) -> Option<f64> {
    let reading = read_moment(text.trim())?;
    match order {
        MomentOrder::YearFirst if reading.form != MomentForm::YearFirst => None,
        MomentOrder::YearFirst | MomentOrder::DayFirst => reading.day_first,
        MomentOrder::MonthFirst => reading.month_first,
    }
}

/// Reads a moment in whatever orders it can be one.
pub(crate) fn read_moment(text: &str) -> Option<MomentReading> {
    // The shortest is "1/3/2024".
    if text.len() < 8 || !text.as_bytes()[0].is_ascii_digit() {
        return None;
    }
    let (date, time) = text.split_at(text.find(['T', ' ']).unwrap_or(text.len()));
    let seconds = match time.get(1..) {
        Some(time) => read_time(time)?,
        None => 0.0,
    };
    let between = date.chars().find(|one| !one.is_ascii_digit())?;
    let mut parts = date.split(between);
    let parts = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let (first, second, third, None) = parts else {
        return None;
    };
    let (form, year) = match (between, first.len(), third.len()) {
        ('-' | '/', 4, 1 | 2) => (MomentForm::YearFirst, first),
        ('.', 1 | 2, 4) => (MomentForm::Dots, third),
        ('-' | '/', 1 | 2, 4) => (MomentForm::Slashes, third),
        _ => return None,
    };
    let year = read_digits(year, 4)?;
    let at = |month: i64, day: i64| {
        days_of(year, month, day).map(|days| days as f64 * DAY_SECONDS + seconds)
    };
    let second = read_digits(second, 2)?;
    let (day_first, month_first) = match form {
        MomentForm::YearFirst => {
            let moment = at(second, read_digits(third, 2)?);
            (moment, moment)
        }
        _ => {
            let first = read_digits(first, 2)?;
            (at(second, first), at(first, second))
        }
    };
    // What is a date in no order is none.
    day_first.or(month_first)?;
    Some(MomentReading {
        form,
        day_first,
        month_first,
    })
}

/// Reads 12:30, 12:30:15 or 12:30:15.5, with Z or an offset, as seconds since midnight in UTC.
fn read_time(text: &str) -> Option<f64> {
    let (clock, zone) = text.split_at(text.find(['Z', '+', '-']).unwrap_or(text.len()));
    let offset = match zone.as_bytes() {
        [] | [b'Z'] => 0,
        [sign, ..] => {
            let zone = &zone[1..];
            let (hours, minutes) = zone.split_once(':').or_else(|| zone.split_at_checked(2))?;
            let minutes = clock_part(hours, 24)? * 60 + clock_part(minutes, 60)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
    };
    let mut parts = clock.splitn(3, ':');
    let (hours, minutes) = (
        clock_part(parts.next()?, 24)?,
        clock_part(parts.next()?, 60)?,
    );
    let mut seconds = ((hours * 60 + minutes - offset) * 60) as f64;
    if let Some(text) = parts.next() {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        seconds += clock_part(whole, 60)? as f64 + format!("0.{fraction}").parse::<f64>().ok()?;
    }
    Some(seconds)
}

/// Two digits below `end`.
fn clock_part(text: &str, end: i64) -> Option<i64> {
    read_digits(text, 2).filter(|part| text.len() == 2 && *part < end)
}

/// A number of at most so many digits and nothing else.
fn read_digits(text: &str, most: usize) -> Option<i64> {
    let is_number =
        (1..=most).contains(&text.len()) && text.bytes().all(|one| one.is_ascii_digit());
    is_number.then(|| {
        text.bytes()
            .fold(0, |sum, one| sum * 10 + i64::from(one - b'0'))
    })
}

/// The days of a month, in a leap year or not; none if there is no such month.
fn month_length(month: i64, is_leap: bool) -> Option<i64> {
    match month {
        2 => Some(if is_leap { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The days from the first of January of year 1 to that of a year.
fn days_before(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
}

/// The days since 1970 of a date; none if there is no such day.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let length = month_length(month, is_leap(year))?;
    if !YEARS.contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    let months = (1..month).filter_map(|month| month_length(month, is_leap(year)));
    Some(days_before(year) - days_before(1970) + months.sum::<i64>() + day - 1)
}

/// A moment as text that reads back as the same, whatever the order.
pub fn moment_text(seconds: f64) -> String {
    let [year, month, day, _, hour, days] = moment_parts(seconds);
    let rest = seconds - days * DAY_SECONDS;
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest == 0.0 {
        return date;
    }
    let minute = ((rest - hour * 3600.0) / 60.0).floor();
    let second = rest - hour * 3600.0 - minute * 60.0;
    let second = match second.fract() == 0.0 {
        true => format!("{second:02}"),
        false => format!("{second:09.6}"),
    };
    format!("{date}T{hour:02}:{minute:02}:{second}")
}

/// The year, month, day, weekday (Monday is 0), hour, and the whole days since 1970 of a moment in
/// UTC. All are NaN if it is.
pub fn moment_parts(seconds: f64) -> [f64; 6] {
    if !seconds.is_finite() {
        return [f64::NAN; 6];
    }
    let days = (seconds / DAY_SECONDS).floor();
    let hour = ((seconds - days * DAY_SECONDS) / 3600.0)
        .floor()
        .clamp(0.0, 23.0);
    // Far beyond any calendar, the year is as good as any.
    let since = (days as i64).clamp(-1_000_000_000, 1_000_000_000) + days_before(1970);
    // 146097 days are 400 years. The guess is at most a year off.
    let mut year = since * 400 / 146_097 + 1;
    while days_before(year) > since {
        year -= 1;
    }
    while days_before(year + 1) <= since {
        year += 1;
    }
    let (mut month, mut day) = (1, since - days_before(year));
    while let Some(length) = month_length(month, is_leap(year)).filter(|length| day >= *length) {
        day -= length;
        month += 1;
    }
    let weekday = (days + 3.0).rem_euclid(7.0);
    [
        year as f64,
        month as f64,
        (day + 1) as f64,
        weekday,
        hour,
        days,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_from_its_text() {
        for seconds in [0.0, -1.0, 951_782_400.0, 1_709_296_215.5, -11_670_998_399.0] {
            let text = moment_text(seconds);
            assert_eq!(
                parse_moment(&text, MomentOrder::DayFirst),
                Some(seconds),
                "{text}"
            );
        }
    }

    #[test]
    fn moments_are_days_that_there_are() {
        use MomentOrder::{DayFirst, MonthFirst, YearFirst};
        #[rustfmt::skip]
        let table = [
            ("1970-01-01", YearFirst, Some(0.0)), ("2024-03-01", YearFirst, Some(1_709_251_200.0)),
            ("2024-03-01T12:30", YearFirst, Some(1_709_296_200.0)), ("2024/03/01", DayFirst, Some(1_709_251_200.0)),
            ("2024-03-01 12:30:15.5Z", YearFirst, Some(1_709_296_215.5)), ("01.03.2024", DayFirst, Some(1_709_251_200.0)),
            ("2024-03-01T12:30:00+02:00", YearFirst, Some(1_709_289_000.0)), ("03/01/2024", MonthFirst, Some(1_709_251_200.0)),
            ("2024-03-01T12:30:00-0200", YearFirst, Some(1_709_303_400.0)), ("1/3/2024", DayFirst, Some(1_709_251_200.0)),
            ("1600-02-29", YearFirst, Some(-11_670_998_400.0)), ("2000-02-29", YearFirst, Some(951_782_400.0)),
            ("1900-02-29", YearFirst, None), ("2023-02-29", YearFirst, None), ("2024-13-01", YearFirst, None),
            ("2024-04-31", YearFirst, None), ("12:30:00", YearFirst, None), ("13/01/2024", MonthFirst, None),
            ("01.03.2024", YearFirst, None), ("1599-12-31", YearFirst, None), ("2201-01-01", YearFirst, None),
            ("2024-03-01T24:00", YearFirst, None), ("2024-03-01T12", YearFirst, None), ("2024-03-01 ", YearFirst, Some(1_709_251_200.0)),
            ("2024-03-01T12:30+2", YearFirst, None), ("2024-03-0é", YearFirst, None), ("2024-03/01", YearFirst, None),
            ("2024-03-01T12:30:00+é:00", YearFirst, None), ("2024-03-01Té", YearFirst, None), ("2024-03-01-02", YearFirst, None),
        ];
        for (text, order, moment) in table {
            assert_eq!(parse_moment(text, order), moment, "{text}");
        }
        let parts = |text| moment_parts(parse_moment(text, YearFirst).unwrap());
        assert_eq!(
            parts("2024-03-01T12:30"),
            [2024.0, 3.0, 1.0, 4.0, 12.0, 19_783.0]
        );
        assert_eq!(
            parts("1969-12-31T23:00"),
            [1969.0, 12.0, 31.0, 2.0, 23.0, -1.0]
        );
        assert!(moment_parts(f64::NAN)[0].is_nan() && moment_parts(1e300)[0] > 1e6);
        // Every day of six centuries is taken apart and put together again.
        for days in -135_140..84_000 {
            let [year, month, day, ..] = moment_parts(f64::from(days) * DAY_SECONDS);
            assert_eq!(
                days_of(year as i64, month as i64, day as i64),
                Some(i64::from(days))
            );
        }
    }
}
