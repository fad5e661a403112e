//! What is wrong with a body that is not JSON, in words that a person can act on.
//!
//! The parser says where it stopped. What stands there, and which feature it was for, says more:
//! quite a few clients send NaN, or numbers that no double can hold.

use crate::error::{Code, RequestError};

/// How many characters of a number are quoted.
const SHOWN_MAX: usize = 40;

/// What Windows puts before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Removes a byte order mark from a body.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Replaces the word `NaN`, which is not JSON, by `null` wherever it is a value; `None` if it is none
/// anywhere.
pub(in crate::protocol) fn with_nulls(body: &[u8]) -> Option<Vec<u8>> {
    const WORD: &[u8] = b"NaN";
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let mut nulls: Option<Vec<u8>> = None;
    let (mut copied, mut place, mut in_text) = (0, 0, false);
    while place < body.len() {
        match body[place] {
            b'\\' if in_text => place += 1,
            b'"' => in_text = !in_text,
            b'N' if !in_text && body[place..].starts_with(WORD) => {
                let end = place + WORD.len();
                let stands_alone = !body.get(end).is_some_and(is_part)
                    && !place
                        .checked_sub(1)
                        .is_some_and(|before| is_part(&body[before]));
                if stands_alone {
                    let out = nulls
                        .get_or_insert_with(|| Vec::with_capacity(body.len() + body.len() / 8));
                    out.extend_from_slice(&body[copied..place]);
                    out.extend_from_slice(b"null");
                    copied = end;
                }
                place = end - 1;
            }
            _ => {}
        }
        place += 1;
    }
    let mut out = nulls?;
    out.extend_from_slice(&body[copied.min(body.len())..]);
    Some(out)
}

/// Says that a body is empty, where it is.
pub(in crate::protocol) fn emptiness(body: &[u8]) -> Option<&'static str> {
    match without_mark(body) {
        [] => Some("the body is empty"),
        body if body.trim_ascii().is_empty() => Some("the body is blank"),
        _ => None,
    }
}

/// Explains why the parser rejected a body; `place` is the feature being read, if any.
pub(in crate::protocol) fn not_json(
    body: &[u8],
    error: &serde_json::Error,
    place: Option<String>,
) -> RequestError {
    let text = error.to_string();
    let (line, column) = (error.line(), error.column());
    let token = token(body, line, column);
    let what = place.unwrap_or_else(|| "a value".to_owned());
    if text.starts_with("number out of range") {
        let text = format!(
            "{what} is {}, too large for a double: send a finite number (line {line} column {column})",
            short(token)
        );
        return RequestError::new(Code::InvalidInput, text);
    }
    let word = token.trim_start_matches(['+', '-']);
    let is_no_json = ["nan", "inf", "infinity"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known));
    let text = if is_no_json {
        format!(
            "the body is not JSON: {what} is {}, which JSON cannot express: send a finite number (line {line} column {column})",
            short(token)
        )
    } else {
        format!("the body is not JSON: {text}")
    };
    RequestError::new(Code::InvalidJson, text)
}

/// The word or number in which, or after which, the parser stopped.
fn token(body: &[u8], line: usize, column: usize) -> &str {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let ends = body.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let start = match line.checked_sub(2) {
        None => 0,
        Some(before) => ends.map(|(at, _)| at + 1).nth(before).unwrap_or(0),
    };
    let at = start.saturating_add(column).min(body.len());
    let (before, after) = body.split_at(at);
    let back = before.iter().rev().take_while(|byte| is_part(byte)).count();
    let on = after.iter().take_while(|byte| is_part(byte)).count();
    // Only ASCII is part of one.
    std::str::from_utf8(&body[at - back..at + on]).unwrap_or_default()
}

fn short(token: &str) -> String {
    match token.get(..SHOWN_MAX) {
        Some(start) if token.len() > SHOWN_MAX => format!("{start}…"),
        _ => token.to_owned(),
    }
}
