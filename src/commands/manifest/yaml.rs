//! A YAML document as a tree in which every number has its reason.
//!
//! `serde-saphyr` writes it with each comment after its value; a comment that makes its line too
//! long is moved above it here.

use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_saphyr::{Commented, ser_options};

use crate::error::StartError;

/// Maximum length of a line with its comment, and the width of comments above.
const WIDTH_MAX: usize = 100;

/// Begins each of our comments: it would be escaped in a value, so what follows it is a comment.
const MARK: char = '\u{1}';

/// A part of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Fields, in the order in which they are written.
    Map(Vec<(&'static str, Node)>),
    /// Items.
    List(Vec<Node>),
    /// A value, and its comment.
    Scalar(Scalar, Option<String>),
}

/// A value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    /// Text; quoted where it would read as something else.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Flag(bool),
}

/// Fields.
pub(super) fn map(fields: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    Node::Map(fields.into_iter().collect())
}

/// Items.
pub(super) fn list(items: impl IntoIterator<Item = Node>) -> Node {
    Node::List(items.into_iter().collect())
}

/// Text without a comment.
pub(super) fn text(text: impl Into<String>) -> Node {
    Node::Scalar(Scalar::Text(text.into()), None)
}

/// True or false, without a comment.
pub(super) fn flag(flag: bool) -> Node {
    Node::Scalar(Scalar::Flag(flag), None)
}

/// A number, and where it comes from.
pub(super) fn number(number: impl TryInto<i64>, why: impl Into<String>) -> Node {
    let number = number.try_into().unwrap_or(i64::MAX);
    Node::Scalar(Scalar::Number(number), Some(why.into()))
}

impl Node {
    /// Comments a value; maps and lists have no comments.
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        match self {
            Node::Scalar(scalar, _) => Node::Scalar(scalar, Some(why.into())),
            other => other,
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Node::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Node::Scalar(scalar, None) => scalar.serialize(serializer),
            Node::Scalar(scalar, Some(why)) => {
                let plain = |c: char| if c.is_control() { ' ' } else { c };
                let why: String = why.chars().map(plain).collect();
                Commented(scalar.clone(), format!("{MARK}{why}")).serialize(serializer)
            }
        }
    }
}

/// Writes documents, each below its comment.
///
/// # Errors
///
/// The YAML writer refuses, which it does for none of our documents.
pub(super) fn stream<'a>(
    documents: impl IntoIterator<Item = (&'a str, Node)>,
) -> Result<String, StartError> {
    let mut stream = String::new();
    for (about, document) in documents {
        // No block scalars, so that each line of the text below is one value.
        let options = ser_options! { prefer_block_scalars: false, compact_list_indent: false };
        let written = serde_saphyr::to_string_with_options(&document, options)
            .map_err(|error| StartError::Failed(format!("cannot write YAML: {error}")))?;
        stream.push_str("---\n");
        push_comment(&mut stream, "", about);
        for line in written.lines() {
            push_line(&mut stream, line);
        }
    }
    Ok(stream)
}

/// Adds a line, with its comment if it fits.
fn push_line(stream: &mut String, line: &str) {
    let mark = format!(" # {MARK}");
    let (value, why) = match line.split_once(&mark) {
        Some((value, why)) => (value, Some(why)),
        None => (line, None),
    };
    // Writing to a String cannot fail.
    let _ = match why {
        None => writeln!(stream, "{value}"),
        Some(why) if value.chars().count() + 3 + why.chars().count() <= WIDTH_MAX => {
            writeln!(stream, "{value} # {why}")
        }
        Some(why) => {
            let indent = &value[..value.len() - value.trim_start().len()];
            push_comment(stream, indent, why);
            writeln!(stream, "{value}")
        }
    };
}

/// Adds lines of comment, as wide as may be.
fn push_comment(stream: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH_MAX && !line.ends_with('#') {
            stream.push_str(&line);
            stream.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    stream.push_str(&line);
    stream.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_comments_stand_behind_their_value_and_long_ones_above_it() {
        let long = "because ".repeat(15);
        let document = map([
            ("port", number(80, "clients ask it")),
            (
                "list",
                list([text("x").because(long.as_str()), map([("z", flag(true))])]),
            ),
        ]);
        let expected = format!(
            "---\n# A document.\nport: 80 # clients ask it\nlist:\n  # {}\n  # {}\n  - x\n  - z: true\n",
            "because ".repeat(12).trim_end(),
            "because ".repeat(3).trim_end(),
        );
        assert_eq!(stream([("A document.", document)]).unwrap(), expected);
    }

    #[test]
    fn values_are_quoted_where_they_would_be_read_as_something_else() {
        for (value, expected) in [
            ("plain", "plain"),
            ("80", "\"80\""),
            ("yes", "\"yes\""),
            ("null", "\"null\""),
            ("a # b", "\"a # b\""),
            ("a: b", "\"a: b\""),
            ("a\nb", "\"a\\nb\""),
            ("a # \u{1}b", "\"a # \\x01b\""),
            ("--model=/a b", "--model=/a b"),
        ] {
            let document = map([("key", text(value).because("why"))]);
            let written = stream([("", document)]).unwrap();
            assert_eq!(written, format!("---\n#\nkey: {expected} # why\n"));
        }
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        let document = map([("key", number(1, "a\nb: c"))]);
        let written = stream([("", document)]).unwrap();
        assert_eq!(written, "---\n#\nkey: 1 # a b: c\n");
    }
}
