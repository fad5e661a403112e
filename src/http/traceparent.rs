//! The `traceparent` field: which trace a request belongs to (W3C Trace Context, section 3.2). Pure.
//!
//! The server makes no spans. It reads the field so that a request's log line, and the console's
//! lists, can be found from a trace.

/// Length of the field in version 00; later versions may append to it.
const LENGTH: usize = 55;

/// Where the parts are: the version, the trace's id, the caller's span, the flags.
const PARTS: [std::ops::Range<usize>; 4] = [0..2, 3..35, 36..52, 53..55];

/// Returns the field without what a later version appends; `None` if it is invalid, which the
/// specification wants ignored.
pub(crate) fn read(value: &[u8]) -> Option<String> {
    let known = std::str::from_utf8(value.get(..LENGTH)?).ok()?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let [version, trace, parent, _] = PARTS.map(|part| known.get(part));
    let digits = PARTS
        .iter()
        .all(|part| known.as_bytes()[part.clone()].iter().copied().all(is_hex));
    let dashes = [2, 35, 52].iter().all(|at| known.as_bytes()[*at] == b'-');
    let is_zero =
        |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|byte| byte == b'0'));
    let rest = &value[LENGTH..];
    let ends = match version? {
        "ff" => false,
        "00" => rest.is_empty(),
        _ => rest.is_empty() || rest[0] == b'-',
    };
    (digits && dashes && ends && !is_zero(trace) && !is_zero(parent)).then(|| known.to_owned())
}

/// The trace's id in a field that [`read`] returned.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.get(PARTS[1].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_field_is_kept_and_names_its_trace() {
        let kept = read(VALID.as_bytes());
        assert_eq!(kept.as_deref(), Some(VALID));
        assert_eq!(trace_id(VALID), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let later = VALID.replacen("00", "cc", 1);
        assert_eq!(read(later.as_bytes()), Some(later.clone()));
        assert_eq!(read(format!("{later}-more").as_bytes()), Some(later));
    }

    #[test]
    fn an_invalid_field_is_ignored() {
        let table = [
            ("empty", String::new()),
            ("short", VALID[..54].to_owned()),
            ("longer than version 00", format!("{VALID}-x")),
            ("the invalid version", VALID.replacen("00", "ff", 1)),
            (
                "another end of a later version",
                VALID.replacen("00", "01", 1) + "x",
            ),
            ("upper case", VALID.to_uppercase()),
            ("no digit", VALID.replacen("4bf9", "4bg9", 1)),
            ("no dash", VALID.replacen("36-00", "36_00", 1)),
            (
                "no trace",
                format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            ),
            (
                "no caller",
                format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16)),
            ),
            ("a letter of two bytes", VALID.replacen("4b", "ü", 1)),
        ];
        for (name, value) in table {
            assert_eq!(read(value.as_bytes()), None, "{name}");
        }
    }
}
