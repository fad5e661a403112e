//! Class labels as they stand in JSON, written once for a served model and not for each answer.

use serde_json::Value;

/// The class labels of a model, in JSON; none for a model of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonLabels {
    /// As values: numbers if all are whole numbers, otherwise strings.
    pub values: Vec<Vec<u8>>,
    /// As names of members: strings.
    pub names: Vec<Vec<u8>>,
}

impl JsonLabels {
    /// Writes labels.
    pub fn new(labels: &[String]) -> Self {
        let string = |label: &String| Value::from(label.as_str()).to_string().into_bytes();
        let names: Vec<Vec<u8>> = labels.iter().map(string).collect();
        let values = match labels.iter().all(|label| is_whole(label)) {
            true => labels.iter().map(|label| label.clone().into()).collect(),
            false => names.clone(),
        };
        JsonLabels { values, names }
    }
}

/// Whether a label is a whole number as JSON has it, so that clients get the number.
pub fn is_whole(label: &str) -> bool {
    label
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_numbers_if_all_are_and_names_are_strings() {
        let table = [
            (["0", "-1"], ["0", "-1"], ["\"0\"", "\"-1\""]),
            (["1", "01"], ["\"1\"", "\"01\""], ["\"1\"", "\"01\""]),
            (
                ["a\"b", "é"],
                ["\"a\\\"b\"", "\"é\""],
                ["\"a\\\"b\"", "\"é\""],
            ),
        ];
        for (labels, values, names) in table {
            let written = JsonLabels::new(&labels.map(str::to_owned));
            assert_eq!(
                written.values,
                values.map(|value| value.as_bytes().to_vec())
            );
            assert_eq!(written.names, names.map(|name| name.as_bytes().to_vec()));
        }
    }
}
