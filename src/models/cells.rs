//! What a cell's text says: a number, yes or no, or nothing; [`moments`](crate::models::moments) has the dates.

use serde::{Deserialize, Serialize};

/// Characters that may stand between groups of three digits, and what a style calls them.
const THOUSANDS: [(char, char); 7] = [
    (',', ','),
    ('.', '.'),
    (' ', ' '),
    ('\'', '\''),
    ('\u{2019}', '\''),
    ('\u{a0}', '\u{a0}'),
    ('\u{202f}', '\u{a0}'),
];

/// Currencies that may stand before or after a number; the longer ones first, for "$" ends "US$".
const CURRENCIES: [&str; 28] = [
    "US$", "A$", "C$", "R$", "EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "SEK", "NOK", "DKK",
    "PLN", "CZK", "kr", "zł", "Kč", "€", "$", "£", "¥", "₹", "₩", "₽", "₺", "₪",
];

/// The whole numbers up to here are each a number of their own.
pub(crate) const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// How the values of one column are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// How its numbers are written.
    #[serde(default)]
    pub style: NumberStyle,
    /// Further words for a missing value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How numbers are written; by default as a program writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NumberStyle {
    /// Whether the decimal sign is a comma.
    pub decimal_comma: bool,
    /// What may stand between groups of three digits: `,`, `.`, `'`, a blank or U+00A0.
    pub thousands: Option<char>,
    /// Whether a percent sign may follow.
    pub percent: bool,
    /// The currency that may stand before or after.
    pub currency: Option<String>,
}

impl NumberStyle {
    /// Whether a number has nothing but its digits, sign, point and exponent.
    pub(crate) fn is_plain(&self) -> bool {
        !self.decimal_comma && self.thousands.is_none() && !self.percent && self.currency.is_none()
    }
}

/// One number with all that is around its digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spelling {
    pub(crate) value: f64,
    pub(crate) thousands: Option<char>,
    pub(crate) percent: bool,
    pub(crate) currency: Option<&'static str>,
}

/// Reads a number as programs write it. Infinities and NaN are none.
pub(crate) fn plain_number(text: &str) -> Option<f64> {
    short_decimal(text.as_bytes()).or_else(|| {
        let first = *text.as_bytes().first()?;
        // Most texts are turned away here, before the parser looks at them.
        if !first.is_ascii_digit() && !matches!(first, b'+' | b'-' | b'.') {
            return None;
        }
        text.parse().ok().filter(|number: &f64| number.is_finite())
    })
}

/// Powers of ten that 64-bit floating point holds exactly.
const POWERS: [f64; 17] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
];

/// Reads a number as Rust does, infinities and NaN too: the nearest in 64-bit floating point.
///
/// A few digits without an exponent, which are most numbers in tables, take a fraction of the time.
pub(crate) fn parse_decimal(text: &str) -> Option<f64> {
    short_decimal(text.as_bytes()).or_else(|| text.parse().ok())
}

/// Reads a number of up to 17 digits without an exponent. Its digits and the power of ten are exact, so
/// their quotient is the nearest number: it is rounded once.
fn short_decimal(text: &[u8]) -> Option<f64> {
    // Signs are not branched on, as they cannot be foreseen either.
    let sign = usize::from(text.first() == Some(&b'-'));
    let text = &text[sign..];
    let (digits, fraction) = match text.len() {
        1..=8 => digits_of_eight(text)?,
        9..=17 => digits_of_many(text)?,
        _ => return None,
    };
    if digits > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    let value = digits as f64 / POWERS[fraction];
    Some(f64::from_bits(value.to_bits() | (sign as u64) << 63))
}

/// The digits of up to eight bytes as one number, and how many stand after the point. They are looked
/// at together, as tables have numbers of all lengths and a processor cannot foresee which comes.
fn digits_of_eight(text: &[u8]) -> Option<(u64, usize)> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let length = text.len();
    let at = |place: usize| u64::from(text[place]) << (8 * place);
    // The first byte is the lowest; those that do not exist are zeros.
    let bytes = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => {
            let last = u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4));
            u64::from(u32::from_le_bytes(*first)) | last
        }
        _ => at(0) | at(length / 2) | at(length - 1),
    };
    let other = bytes ^ (ONES * u64::from(b'.'));
    let points = other.wrapping_sub(ONES) & !other & (ONES << 7);
    let (digits, count, fraction) = match points.trailing_zeros() as usize / 8 {
        8 => (bytes, length, 0),
        point => {
            let before = (1_u64 << (8 * point)) - 1;
            let joined = bytes & before | (bytes >> 8) & !before;
            (joined, length - 1, length - 1 - point)
        }
    };
    if count == 0 {
        return None;
    }
    // The last digit becomes the highest byte, after zeros.
    let zeros = 8 * (8 - count);
    let digits = (digits << zeros) | ((ONES * u64::from(b'0')) & ((1_u64 << zeros) - 1));
    let is_digit =
        (digits & (ONES * 0xf0)) | ((digits.wrapping_add(ONES * 6) & (ONES * 0xf0)) >> 4);
    if is_digit != ONES * 0x33 {
        return None;
    }
    // Neighbours are joined: digits to pairs, pairs to fours, fours to the number. What the highest of
    // them would be joined with falls off.
    let pairs = (digits & (ONES * 0x0f)).wrapping_mul((10 << 8) + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul((100 << 16) + 1) >> 16;
    let number = (fours & 0x0000_ffff_0000_ffff).wrapping_mul((10_000 << 32) + 1) >> 32;
    Some((number, fraction))
}

/// The digits of up to seventeen bytes as one number, and how many stand after the point.
fn digits_of_many(text: &[u8]) -> Option<(u64, usize)> {
    let mut digits: u64 = 0;
    let mut point = None;
    for (at, byte) in text.iter().enumerate() {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => digits = digits * 10 + u64::from(digit),
            _ if *byte == b'.' && point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    Some((digits, point.map_or(0, |at| text.len() - 1 - at)))
}

/// Reads a number in whatever style has this decimal sign.
pub(crate) fn spell_number(text: &str, decimal: char) -> Option<Spelling> {
    let mut rest = text.trim();
    // Words end here: no sign or currency starts so, or there is no digit.
    let first = *rest.as_bytes().first()?;
    let may_start = !first.is_ascii_lowercase() || first == b'k';
    if !may_start || !rest.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut sign = None;
    take_sign(&mut rest, &mut sign);
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let mut currency = match is_digit(rest.as_bytes().first()) {
        true => None,
        false => CURRENCIES.into_iter().find(|own| rest.starts_with(own)),
    };
    if let Some(own) = currency {
        rest = rest[own.len()..].trim_start();
        take_sign(&mut rest, &mut sign);
    }
    let percent = rest.ends_with('%');
    if percent {
        rest = rest[..rest.len() - 1].trim_end();
    } else if currency.is_none() && !is_digit(rest.as_bytes().last()) {
        currency = CURRENCIES.into_iter().find(|own| rest.ends_with(own));
        rest = rest[..rest.len() - currency.map_or(0, str::len)].trim_end();
    }
    if percent && currency.is_some() {
        return None;
    }
    let (digits, thousands) = join_groups(rest, decimal)?;
    let value: f64 = digits
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())?;
    Some(Spelling {
        value: if sign == Some('-') { -value } else { value },
        thousands,
        percent,
        currency,
    })
}

/// Takes a sign from the start of a text, if none was taken before.
fn take_sign(rest: &mut &str, sign: &mut Option<char>) {
    if sign.is_some() {
        return;
    }
    // U+2212 is the minus of typesetters, and so of web pages.
    let signs = [("+", '+'), ("-", '-'), ("\u{2212}", '-')];
    for (written, meant) in signs {
        if let Some(after) = rest.strip_prefix(written) {
            *rest = after;
            *sign = Some(meant);
            return;
        }
    }
}

/// Writes unsigned digits as the parser wants them, and says what stood between their groups.
fn join_groups(text: &str, decimal: char) -> Option<(String, Option<char>)> {
    let (mantissa, exponent) = text.split_at(text.find(['e', 'E']).unwrap_or(text.len()));
    let (whole, fraction) = mantissa.split_once(decimal).unwrap_or((mantissa, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut between = None;
    let mut groups = whole.split(|one: char| !one.is_ascii_digit());
    if groups.by_ref().skip(1).any(|group| group.len() != 3) {
        return None;
    }
    for found in whole.chars().filter(|one| !one.is_ascii_digit()) {
        let (_, own) = THOUSANDS
            .into_iter()
            .find(|(written, _)| *written == found)?;
        if own == decimal || between.is_some_and(|other| other != own) {
            return None;
        }
        between = Some(own);
    }
    // "0,123" is a fraction, whoever wrote it, and "1234,567" has no thousands.
    let first = whole.find(|one: char| !one.is_ascii_digit()).unwrap_or(0);
    if between.is_some() && (!(1..=3).contains(&first) || whole.starts_with('0')) {
        return None;
    }
    let mut digits = String::with_capacity(text.len() + 1);
    digits.extend(whole.chars().filter(char::is_ascii_digit));
    digits.push('.');
    digits.push_str(fraction);
    digits.push_str(exponent);
    Some((digits, between))
}

/// Reads a number that is written in a style, or plainer: signs of the style may be left out. A
/// percent sign is dropped, and nothing divided.
pub fn parse_number(text: &str, style: &NumberStyle) -> Option<f64> {
    let text = text.trim();
    if style.is_plain() {
        return plain_number(text);
    }
    let spelling = spell_number(text, if style.decimal_comma { ',' } else { '.' })?;
    let is_allowed = (spelling.thousands.is_none() || spelling.thousands == style.thousands)
        && (!spelling.percent || style.percent)
        && (spelling.currency.is_none() || spelling.currency == style.currency.as_deref());
    is_allowed.then_some(spelling.value)
}

/// Reads yes or no in one of its usual spellings, in upper or lower case.
pub fn parse_yes_no(text: &str) -> Option<bool> {
    let text = text.trim();
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match text.len() {
        1..=5 if is_one_of(["1", "y", "t", "yes", "true"]) => Some(true),
        1..=5 if is_one_of(["0", "n", "f", "no", "false"]) => Some(false),
        _ => None,
    }
}

/// Whether a cell has no value: it is empty, says so, or is one of the user's words for it.
pub fn is_missing(text: &str, more: &[String]) -> bool {
    let text = text.trim();
    let is_usual = text.len() <= 4
        && matches!(
            text,
            "" | "NA" | "N/A" | "NaN" | "nan" | "null" | "NULL" | "none" | "None" | "?" | "." | "-"
        );
    is_usual || more.iter().any(|own| own.trim() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn style(decimal_comma: bool, thousands: Option<char>) -> NumberStyle {
        NumberStyle {
            decimal_comma,
            thousands,
            ..NumberStyle::default()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_number_is_the_nearest_one(text in "[-+]?[0-9]{0,10}[.]?[0-9]{0,10}(e-?[0-9])?|[-0-9.]{0,6}|-?(0|9){17}") {
            let expected = text.parse::<f64>().ok().map(f64::to_bits);
            prop_assert_eq!(parse_decimal(&text).map(f64::to_bits), expected);
        }
    }

    #[test]
    fn numbers_are_read_in_the_style_of_their_column() {
        let plain = NumberStyle::default();
        for text in [
            "inf", "nan", "-inf", "0x10", "1_0", "", "e5", "1,5", "12 %", "1e999", "--1",
        ] {
            assert_eq!(parse_number(text, &plain), None, "{text}");
        }
        for (text, value) in [
            ("+1", 1.0),
            ("1e5", 1e5),
            (" -.5 ", -0.5),
            ("1.", 1.0),
            ("007", 7.0),
        ] {
            assert_eq!(parse_number(text, &plain), Some(value), "{text}");
        }
        let (us, german) = (style(false, Some(',')), style(true, Some('.')));
        #[rustfmt::skip]
        let table = [
            ("1,234.50", &us, Some(1234.5)), ("1,234,567", &us, Some(1_234_567.0)), ("1,23", &us, None),
            ("1234,567", &us, None), ("0,123", &us, None), (",123", &us, None), ("(1,000)", &us, None),
            ("1.234,5", &german, Some(1234.5)), ("-12,5", &german, Some(-12.5)), ("1.5", &german, None),
            ("1.234", &german, Some(1234.0)), ("1,5e3", &german, Some(1500.0)), ("1,2,3", &german, None),
            ("1\u{202f}234,5", &style(true, Some('\u{a0}')), Some(1234.5)), ("1,", &us, None),
            ("1'234.5", &style(false, Some('\'')), Some(1234.5)), ("1 234", &style(false, Some(' ')), Some(1234.0)),
            ("1 234", &us, None), ("\u{2212}3", &us, Some(-3.0)), ("1.234.567,8", &german, Some(1_234_567.8)),
        ];
        for (text, style, value) in table {
            assert_eq!(parse_number(text, style), value, "{text}");
        }
        let percent = NumberStyle {
            percent: true,
            ..plain.clone()
        };
        assert_eq!(parse_number("12 %", &percent), Some(12.0));
        let money = |currency: &str| NumberStyle {
            currency: Some(currency.into()),
            ..us.clone()
        };
        for (text, currency) in [
            ("€ 3", "€"),
            ("3 EUR", "EUR"),
            ("3€", "€"),
            ("US$3", "US$"),
            ("3", "€"),
        ] {
            assert_eq!(parse_number(text, &money(currency)), Some(3.0), "{text}");
        }
        assert_eq!(parse_number("-$1,000", &money("$")), Some(-1000.0));
        assert_eq!(parse_number("$-1,000", &money("$")), Some(-1000.0));
        assert_eq!(parse_number("-$-1", &money("$")), None);
        assert_eq!(parse_number("$1", &money("€")), None);
    }

    #[test]
    fn words_for_yes_and_for_nothing() {
        assert!(
            ["TRUE", "y", "Yes", "t", "1"]
                .iter()
                .all(|text| parse_yes_no(text) == Some(true))
        );
        assert!(
            ["False", "N", "no ", "F", "0"]
                .iter()
                .all(|text| parse_yes_no(text) == Some(false))
        );
        assert!(
            ["", "ye", "2", "1.0", "yess", "é"]
                .iter()
                .all(|text| parse_yes_no(text).is_none())
        );
        let more = ["-999".to_owned()];
        assert!(
            ["", " ", "NA", "None", "?", "-", "-999"]
                .iter()
                .all(|text| is_missing(text, &more))
        );
        assert!(
            ["0", "--", "Nan", "missing"]
                .iter()
                .all(|text| !is_missing(text, &more))
        );
    }
}
