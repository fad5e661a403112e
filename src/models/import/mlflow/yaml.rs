//! As much of YAML as MLflow writes: mappings within mappings, by indentation, and scalars, plain or
//! quoted, over several lines if they are long. Lists are passed over.

/// The scalars of a document, each under the keys that lead to it.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<(Vec<String>, String)>);

impl Entries {
    /// The scalar under these keys.
    pub(super) fn get(&self, path: &[&str]) -> Option<&str> {
        let own = self.0.iter().find(|(keys, _)| keys == path);
        own.map(|(_, text)| text.as_str())
            .filter(|text| !matches!(*text, "" | "null" | "~"))
    }

    /// The keys directly below these.
    pub(super) fn keys(&self, path: &[&str]) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for (own, _) in &self.0 {
            let is_below = own.len() > path.len() && own[..path.len()] == *path;
            if is_below && keys.last() != Some(&own[path.len()].as_str()) {
                keys.push(&own[path.len()]);
            }
        }
        keys
    }
}

/// Reads a document. What is not understood is passed over.
pub(super) fn read(text: &str) -> Entries {
    let mut entries = Entries::default();
    // The keys that lead to the line, each with its indentation.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let content = line.trim_start();
        let indentation = line.len() - content.len();
        let Some((key, rest)) = content.split_once(':') else {
            continue;
        };
        let is_key = rest.is_empty() || rest.starts_with(' ');
        if !is_key || content.starts_with(['-', '#', '\'', '"']) {
            continue;
        }
        open.retain(|(own, _)| *own < indentation);
        open.push((indentation, key.trim_end().to_owned()));
        let mut scalar = rest.trim().to_owned();
        // A scalar goes on in lines that are indented further and a quoted one up to its quote.
        while let Some(next) = lines.peek() {
            let inner = next.trim_start();
            let is_deeper = next.len() - inner.len() > indentation;
            if scalar.is_empty() || !is_deeper || is_whole(&scalar) {
                break;
            }
            scalar.push(' ');
            scalar.push_str(inner.trim_end());
            lines.next();
        }
        let keys = open.iter().map(|(_, key)| key.clone()).collect();
        entries.0.push((keys, unquoted(&scalar)));
    }
    entries
}

/// Whether a scalar that begins with a quote has its end.
fn is_whole(scalar: &str) -> bool {
    match scalar.chars().next() {
        Some('\'') => scalar.len() > 1 && scalar.matches('\'').count().is_multiple_of(2),
        Some('"') => scalar.len() > 1 && scalar.ends_with('"') && !scalar.ends_with("\\\""),
        _ => false,
    }
}

fn unquoted(scalar: &str) -> String {
    if let Some(inner) = scalar.strip_prefix('\'') {
        return inner.strip_suffix('\'').unwrap_or(inner).replace("''", "'");
    }
    if scalar.starts_with('"') {
        // The escapes of JSON are YAML's.
        return serde_json::from_str(scalar).unwrap_or_default();
    }
    scalar.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stand_under_their_keys() {
        let text = "\
flavors:
  python_function:
    env:
      conda: conda.yaml
    model_path: model.skops
  sklearn:
    code: null
    pickled_model: model.skops
run_id: 'it''s'
list:
- a: 1
- b
signature:
  inputs: '[{\"type\": \"double\", \"name\": \"age\", \"required\": true}, {\"type\": \"string\",
    \"name\": \"a city: Köln\", \"required\": true}]'
  outputs: \"two\\n\\
lines\"
  note: plain text
    that goes on
empty:
";
        let entries = read(text);
        assert_eq!(entries.keys(&["flavors"]), ["python_function", "sklearn"]);
        assert_eq!(
            entries.get(&["flavors", "sklearn", "pickled_model"]),
            Some("model.skops")
        );
        assert_eq!(entries.get(&["flavors", "sklearn", "code"]), None);
        assert_eq!(
            entries.get(&["flavors", "python_function", "env", "conda"]),
            Some("conda.yaml")
        );
        assert_eq!(entries.get(&["run_id"]), Some("it's"));
        assert_eq!(
            entries.get(&["signature", "note"]),
            Some("plain text that goes on")
        );
        let inputs = entries.get(&["signature", "inputs"]).unwrap();
        assert!(
            inputs.ends_with(
                "{\"type\": \"string\", \"name\": \"a city: Köln\", \"required\": true}]"
            ),
            "{inputs}"
        );
        assert_eq!(entries.get(&["empty"]), None);
        assert_eq!(entries.get(&["nothing"]), None);
    }
}
