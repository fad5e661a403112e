//! Recognises files that are no CSV, and says how to make CSV of them.

/// First bytes of files that are no text, what the file is, and what to do.
const BINARY: [(&[u8], &str, &str); 18] = [
    (b"PK\x03\x04", "a zip file", "unpack it"),
    (b"PAR1", "a parquet file", EXPORT),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook",
        "save it as CSV",
    ),
    (b"\xff\xfe\0\0", "in UTF-32", "save it in UTF-8"),
    (b"\0\0\xfe\xff", "in UTF-32", "save it in UTF-8"),
    (b"ARROW1", "an Arrow or Feather file", EXPORT),
    (b"FEA1", "a Feather file", EXPORT),
    (b"ORC", "an ORC file", EXPORT),
    (b"\x89HDF", "an HDF5 file", EXPORT),
    (b"\x93NUMPY", "a NumPy file", EXPORT),
    (
        b"SQLite format 3",
        "an SQLite database",
        "export a table as CSV",
    ),
    (b"%PDF", "a PDF document", "export its table as CSV"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", UNPACK),
    (b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file", UNPACK),
    (b"BZh91AY&SY", "packed with bzip2", UNPACK),
    (b"\x80\x04\x95", "a Python pickle", EXPORT),
    (b"$FL2", "an SPSS file", "save it as CSV"),
];

const EXPORT: &str = "write it as CSV, as with pandas' to_csv";

const UNPACK: &str = "unpack it, or pack it with gzip";

/// Why bytes are no table, if they are a known file.
pub(crate) fn binary_problem(bytes: &[u8]) -> Option<String> {
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    let (start, what, remedy) = BINARY.iter().find(|(start, ..)| {
        // A column may be called ORC.
        bytes.starts_with(start) && (*start != b"ORC" || bytes.contains(&0))
    })?;
    let (what, remedy) = match *start == b"PK\x03\x04" {
        true if has(b"xl/") || has(b"[Content_Types].xml") => {
            ("an Excel workbook", "save it as CSV")
        }
        true if has(b"opendocument") => ("an OpenDocument spreadsheet", "save it as CSV"),
        _ => (*what, *remedy),
    };
    Some(format!("it is {what}; {remedy}"))
}

/// Why a text is no table that a delimiter splits, if it is of a known form.
pub(crate) fn text_problem(head: &[u8], delimiter: u8) -> Option<String> {
    let lines: Vec<&[u8]> = (head.split(|byte| *byte == b'\n'))
        .map(<[u8]>::trim_ascii_end)
        .filter(|line| !line.trim_ascii().is_empty())
        .take(1000)
        .collect();
    let first = lines.first()?.trim_ascii().to_ascii_lowercase();
    let found = if is_html(&first) {
        "an HTML page; save its table as CSV"
    } else if first.starts_with(b"<?xml") {
        "an XML document; export its table as CSV"
    } else if is_json(head) {
        "JSON; write it as CSV, a row in a line"
    } else if first.starts_with(b"@relation") {
        "an ARFF file; remove all up to @data, and name the columns in a first line"
    } else if lines.iter().take(4).any(|line| is_ruler(line)) {
        "a table drawn with bars or lines, as in Markdown; save it as CSV"
    } else if has_fixed_width(&lines, delimiter) {
        "a table with columns of fixed width; save it as CSV"
    } else {
        return None;
    };
    Some(format!("it is {found}"))
}

fn is_html(first: &[u8]) -> bool {
    let starts: [&[u8]; 6] = [
        b"<!doctype",
        b"<html",
        b"<table",
        b"<head",
        b"<body",
        b"<!--",
    ];
    starts.iter().any(|start| first.starts_with(start))
}

/// Whether a text starts as JSON does, and no header.
fn is_json(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let next = |text: &[u8]| text.trim_ascii_start().first().copied().unwrap_or_default();
    match text.first() {
        Some(b'{') => matches!(next(&text[1..]), b'"' | b'}'),
        Some(b'[') => matches!(
            next(&text[1..]),
            b'{' | b'[' | b'"' | b'-' | b']' | b'0'..=b'9'
        ),
        _ => false,
    }
}

/// Whether a line separates the header from the rows, as "|---|---|" or "+---+---+" does.
fn is_ruler(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let count = |wanted: &[u8]| line.iter().filter(|byte| wanted.contains(byte)).count();
    // Single hyphens between bars are missing values.
    let is_drawn = line
        .windows(2)
        .any(|pair| matches!(pair, b"--" | b"==" | b":-"));
    is_drawn && count(b"-=|+: ") == line.len() && count(b"-=") >= 3
}

/// Whether blanks align the columns, for want of another delimiter.
fn has_fixed_width(lines: &[&[u8]], delimiter: u8) -> bool {
    let has_run = |line: &&&[u8]| line.trim_ascii().windows(2).any(|pair| pair == b"  ");
    let has_delimiter = |line: &&&[u8]| delimiter != b' ' && line.contains(&delimiter);
    lines.len() > 1
        && lines.iter().filter(has_run).count() * 2 > lines.len()
        && lines.iter().filter(has_delimiter).count() * 2 < lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_told_by_name() {
        #[rustfmt::skip]
        let binary: [(&[u8], &str); 6] = [
            (b"PK\x03\x04....[Content_Types].xml", "it is an Excel workbook; save it as CSV"),
            (b"PK\x03\x04....mimetypeapplication/vnd.oasis.opendocument", "it is an OpenDocument spreadsheet; save it as CSV"),
            (b"PK\x03\x04....a.csv", "it is a zip file; unpack it"),
            (b"PAR1\x15\x04", "it is a parquet file; write it as CSV, as with pandas' to_csv"),
            (b"ORC\0", "it is an ORC file; write it as CSV, as with pandas' to_csv"),
            (b"BZh91AY&SY\0", "it is packed with bzip2; unpack it, or pack it with gzip"),
        ];
        for (bytes, problem) in binary {
            assert_eq!(binary_problem(bytes).as_deref(), Some(problem));
        }
        assert_eq!(binary_problem(b"ORC,PK\n1,2\n"), None);
    }

    #[test]
    fn texts_of_another_form_are_told_from_tables() {
        #[rustfmt::skip]
        let texts = [
            ("\n<!DOCTYPE html>\n<html>", "HTML"), ("<table><tr>", "HTML"), ("<?xml version='1.0'?>\n<a/>", "XML"),
            ("{\"a\": 1}\n{\"a\": 2}\n", "JSON"), ("[ {\"a\": 1}]", "JSON"), ("[\n  [1, 2]]", "JSON"), ("@RELATION x\n", "ARFF"),
            ("| a | b |\n|---|---|\n| 1 | 2 |\n", "bars"), ("a | b\n--- | :--\n1 | 2\n", "bars"),
            ("+---+---+\n| a | b |\n+---+---+\n", "bars"), ("a    b\n1    2\n10   3\n", "fixed width"),
        ];
        for (text, word) in texts {
            let problem = text_problem(text.as_bytes(), b',').unwrap_or_default();
            assert!(problem.contains(word), "{text:?}: {problem}");
        }
        let tables = [
            "a,b\n1,2\n",
            "[a],b\n1,2\n",
            "{a},b\n1,2\n",
            "a,b\n-,-\n1,2\n",
            "a,  b\n1,  2\n",
            "-1\n-2\n",
            "a|b|c\n-|-|-\n",
            "name\nNew York\n",
            "",
            "a,b\n--,x\n",
            "<a>,b\n1,2\n",
        ];
        for text in tables {
            assert_eq!(text_problem(text.as_bytes(), b','), None, "{text:?}");
        }
    }
}
