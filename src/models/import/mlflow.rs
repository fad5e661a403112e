//! MLflow's model directories: which file holds the model, and what its columns are called.
//!
//! A directory has a file `MLmodel`, in YAML, that names flavours of the model. Source: MLflow 2 and 3,
//! `mlflow/models/model.py`.

mod yaml;

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use self::yaml::Entries;
use crate::models::{ModelError, Signature};

/// The file that describes a directory.
const DESCRIPTION: &str = "MLmodel";

/// Maximum size of the description and of an example, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// The flavours whose files are read, each with the key of the file's name.
const FLAVORS: [(&str, &str); 4] = [
    ("sklearn", "pickled_model"),
    ("xgboost", "data"),
    ("lightgbm", "data"),
    ("catboost", "data"),
];

/// A model directory.
#[derive(Debug)]
pub(in crate::models) struct Directory {
    path: PathBuf,
    entries: Entries,
}

/// A column of a signature.
#[derive(Deserialize)]
struct MlflowColumn {
    name: Option<String>,
}

impl Directory {
    /// Reads the description in a directory; `None` if it has none.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(in crate::models) fn read(path: &Path) -> Result<Option<Self>, ModelError> {
        let description = path.join(DESCRIPTION);
        if !description.is_file() {
            return Ok(None);
        }
        let text = read_text(&description)?;
        Ok(Some(Directory {
            path: path.to_owned(),
            entries: yaml::read(&text),
        }))
    }

    /// The file that holds the model.
    ///
    /// # Errors
    ///
    /// The model has no flavour that is read, or its file is outside of the directory.
    pub(in crate::models) fn file(&self) -> Result<PathBuf, ModelError> {
        let name = |(flavor, key): &(&str, &str)| self.entries.get(&["flavors", flavor, key]);
        if let Some(name) = FLAVORS.iter().find_map(name) {
            return self.inside(name);
        }
        let flavors = self.entries.keys(&["flavors"]);
        Err(ModelError(format!(
            "its MLmodel must have one of the flavors sklearn, xgboost, lightgbm and catboost, but has {}",
            match flavors.is_empty() {
                true => "none".to_owned(),
                false => flavors.join(", "),
            }
        )))
    }

    /// A file of the directory.
    fn inside(&self, name: &str) -> Result<PathBuf, ModelError> {
        let is_plain =
            |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        match Path::new(name).components().all(is_plain) {
            true => Ok(self.path.join(name)),
            false => Err(ModelError(format!(
                "its MLmodel must name a file of the directory, but names {name:?}"
            ))),
        }
    }

    /// The names of the columns in the signature; empty if it has none.
    pub(in crate::models) fn columns(&self) -> Vec<String> {
        let inputs = self.entries.get(&["signature", "inputs"]);
        let columns =
            inputs.and_then(|inputs| serde_json::from_str::<Vec<MlflowColumn>>(inputs).ok());
        let names = columns.unwrap_or_default().into_iter();
        let names: Option<Vec<String>> = names.map(|column| column.name).collect();
        names.unwrap_or_default()
    }

    /// The first row of the input example, if there is one that fits.
    pub(in crate::models) fn example(&self, signature: &Signature) -> Option<Vec<f64>> {
        let name = self
            .entries
            .get(&["saved_input_example_info", "artifact_path"])?;
        let text = read_text(&self.inside(name).ok()?).ok()?;
        let example: Value = serde_json::from_str(&text).ok()?;
        let (columns, row) = match &example {
            Value::Object(fields) => (fields.get("columns")?.as_array()?, fields.get("data")?),
            _ => return None,
        };
        let row = row.as_array()?.first()?.as_array()?;
        let features = signature.features.iter();
        let value = |feature: &crate::models::Feature| {
            let own = |column: &Value| column.as_str() == Some(feature.name.as_str());
            let value = row.get(columns.iter().position(own)?)?;
            match value {
                Value::Null => Some(f64::NAN),
                Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
                Value::String(text) => feature.kind.code(text),
                value => {
                    let number = value.as_f64()?;
                    feature.kind.code_of_number(number).or(Some(number))
                }
            }
        };
        features.map(value).collect()
    }
}

fn read_text(path: &Path) -> Result<String, ModelError> {
    let told = |error: std::io::Error| ModelError(format!("{}: {error}", path.display()));
    let size = fs::metadata(path).map_err(told)?.len();
    if size > BYTES_MAX {
        return Err(ModelError(format!(
            "{} must have at most {BYTES_MAX} bytes, but has {size}",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelRequest;
    use crate::models::format;

    /// What `mlflow.sklearn.save_model` of 3.17 writes, as far as it is read.
    const DESCRIPTION_TEXT: &str = r#"flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.pkl
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
signature:
  inputs: '[{"type": "double", "name": "length", "required": true}, {"type": "double",
    "name": "a", "required": true}, {"type": "double", "name": "b", "required": true},
    {"type": "double", "name": "c", "required": true}, {"type": "double", "name":
    "d", "required": true}]'
  outputs: null
"#;

    #[test]
    fn a_directory_names_its_file_its_columns_and_an_example() {
        let path = std::env::temp_dir().join(format!("lanekeeper-mlflow-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let model = "tests/data/models/sklearn-native/scaler_ridge/model.pkl";
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
        fs::copy(&model, path.join("model.pkl")).unwrap();
        // Not the one that is named.
        fs::copy(&model, path.join("other.pkl")).unwrap();
        let example = r#"{"columns": ["a", "length", "b", "c", "d"], "data": [[1, 2.5, 3, 4, 5]]}"#;
        fs::write(path.join("input_example.json"), example).unwrap();
        let load = |description: &str| {
            fs::write(path.join("MLmodel"), description).unwrap();
            format::load(&ModelRequest::of_file(Some(path.clone())))
        };
        let loaded = load(DESCRIPTION_TEXT).unwrap();
        let names: Vec<&str> = loaded.model.signature().names().collect();
        assert_eq!(names, ["length", "a", "b", "c", "d"]);
        assert_eq!(loaded.example(), [2.5, 1.0, 3.0, 4.0, 5.0]);
        let refused = |description: &str| load(description).unwrap_err().0;
        let outside = DESCRIPTION_TEXT.replace("pickled_model: model.pkl", "pickled_model: ../x");
        assert!(refused(&outside).contains("must name a file of the directory"));
        let flavor = DESCRIPTION_TEXT.replace("  sklearn:", "  pytorch:");
        let error = refused(&flavor);
        assert!(
            error.contains("but has python_function, pytorch"),
            "{error}"
        );
        fs::remove_dir_all(&path).unwrap();
    }
}
