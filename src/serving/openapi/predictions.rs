//! Paths for predictions, and what their bodies look like.

use serde_json::{Map, Value, json};

use super::OpenApiSource;
use super::errors::{Concern, ErrorShape};
use super::parts::{
    ApiOperation, Group, JSON_LENGTH, Required, answer, header, parameter, predicted, schema, text,
};
use super::v2;
use crate::protocol;

/// The media types of the bodies of `/invocations`, with what they hold.
fn invocations_content(source: &OpenApiSource<'_>) -> Value {
    let content = |media_type: &str| match media_type {
        "application/json" => json!({
            "schema": schema("InvocationsRequest"),
            "examples": examples(source, &["dataframe_records", "dataframe_split", "instances", "inputs", "list"]),
        }),
        "text/csv" => csv(
            source,
            "A table. A first line with the features' names names its columns; otherwise each line has the values in the model's order.",
        ),
        "application/x-npy" => json!({"schema": {
            "type": "string",
            "format": "binary",
            "description": "A file of numpy.save: rows of all features, as float64, float32, int64 or int32 in C order.",
        }}),
        _ => {
            let mut lines = json!({"schema": {
                "type": "string",
                "description": "A row in JSON a line: a list of values, or an object by the features' names.",
            }});
            if let Some(row) = source.row() {
                let line = Value::from(row).to_string();
                lines["example"] = format!("{line}\n{line}\n").into();
            }
            lines
        }
    };
    let types = protocol::invocation_media_types().into_iter();
    let types = types.map(|name| (name.to_owned(), content(name)));
    Value::Object(types.collect())
}

/// A table in CSV.
fn csv(source: &OpenApiSource<'_>, description: &str) -> Value {
    let mut table = json!({"schema": {"type": "string", "description": description}});
    if let Some(outline) = &source.outline
        && let Some(row) = outline.row()
    {
        let names = outline.listed.iter().map(|feature| feature.name.as_str());
        let cells = row.iter().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let (names, cells): (Vec<&str>, Vec<String>) = names.zip(cells).unzip();
        let is_plain = |cell: &str| !cell.contains([',', '"', '\n', '\r']);
        if names.iter().all(|name| is_plain(name)) && cells.iter().all(|cell| is_plain(cell)) {
            table["example"] = format!("{}\n{}\n", names.join(","), cells.join(",")).into();
        }
    }
    table
}

/// The example of a body, by what it is called.
fn example(source: &OpenApiSource<'_>, name: &str) -> Option<Value> {
    let row = source.row()?;
    let outline = source.outline.as_ref()?;
    let record = outline.record()?;
    let names: Vec<&str> = outline.listed.iter().map(|one| one.name.as_str()).collect();
    let table = json!({"columns": names, "data": [row]});
    let columns: Map<String, Value> = record
        .as_object()?
        .iter()
        .map(|(name, value)| (name.clone(), json!([value])))
        .collect();
    Some(match name {
        "by_name" => json!({"instances": [record]}),
        "in_order" => json!({"instances": [row]}),
        "dataframe_records" => json!({"dataframe_records": [record]}),
        "dataframe_split" => json!({"dataframe_split": table}),
        "instances" => json!({"instances": [row]}),
        "inputs" => json!({"inputs": columns}),
        "list" => json!([row]),
        "input_data" => json!({"input_data": table}),
        "data" => json!({"data": [record]}),
        _ => return None,
    })
}

fn examples(source: &OpenApiSource<'_>, names: &[&str]) -> Value {
    let found = names.iter().filter_map(|name| {
        let value = example(source, name)?;
        Some(((*name).to_owned(), json!({"value": value})))
    });
    Value::Object(found.collect())
}

/// Adds the paths that predict, but V2's.
pub(super) fn add_paths(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let mut add = |path: &str, operation: ApiOperation| {
        paths.insert(path.to_owned(), json!({"post": operation.finish()}));
    };
    add("/predict", predict(source));
    add("/invocations", invocations(source));
    add("/score", score(source));
    add("/v1/models/{model}:predict", v1(source, "v1Predict"));
    add(
        "/v1/models/{model}/versions/{version}:predict",
        v1(source, "v1PredictVersion").takes(parameter("version")),
    );
    add("/v2/models/{model}/infer", infer(source, "v2Infer"));
    add(
        "/v2/models/{model}/versions/{version}/infer",
        infer(source, "v2InferVersion").takes(parameter("version")),
    );
}

/// Starts an operation that predicts.
fn predicting(
    source: &OpenApiSource<'_>,
    id: &str,
    group: Group,
    what: (&str, &str),
) -> ApiOperation {
    let limits = &source.config.limits;
    let (summary, text) = what;
    ApiOperation::new(id, group, summary)
        .says(format!(
            "{text} At most {} rows (`--max-rows`) in {} bytes (`--max-body`).",
            limits.max_rows, limits.max_body
        ))
        .takes(parameter("X-Request-Id"))
        .takes(parameter("X-Request-Timeout"))
}

fn predict(source: &OpenApiSource<'_>) -> ApiOperation {
    let text = "Rows in JSON or CSV; one prediction for each, in order. With `Accept: text/csv`, the answer is a table. Bodies come without Content-Encoding.";
    let what = ("Predict rows in JSON or CSV", text);
    let body = json!({
        "application/json": {
            "schema": schema("PredictRequest"),
            "examples": examples(source, &["by_name", "in_order"]),
        },
        "text/csv": csv(source, "A table whose first line names its columns, in any order. Other columns are ignored."),
    });
    let answer = json!({
        "application/json": {"schema": schema("Predictions")},
        "text/csv": {"schema": {
            "type": "string",
            "description": "A table with the column `prediction`, and `probability_CLASS` for each class if the model has probabilities.",
        }},
    });
    predicting(source, "predict", Group::Predictions, what)
        .reads(body, Required::Yes)
        .answers(200, predicted("A prediction for each row.", answer))
        .fails(&source.errors, &[Concern::Prediction])
}

fn invocations(source: &OpenApiSource<'_>) -> ApiOperation {
    let text = "Exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`, or a bare list of rows; or CSV, JSON lines, or an array of NumPy. The answer comes as `Accept` asks. Bodies may come in gzip or deflate.";
    let what = ("Predict as MLflow and SageMaker do", text);
    let table = json!({"schema": {"type": "string", "description": "A prediction a line."}});
    let lines =
        json!({"schema": {"type": "string", "description": "`{\"prediction\": …}` a line."}});
    let answer = json!({
        "application/json": {"schema": {"anyOf": [schema("PredictionList"), schema("Answers")]}},
        "text/csv": table,
        "application/jsonlines": lines,
        "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
    });
    predicting(source, "invocations", Group::Predictions, what)
        .reads(invocations_content(source), Required::Yes)
        .answers(
            200,
            predicted("A prediction for each row: bare for a bare list.", answer),
        )
        .fails_as(
            &source.errors,
            ErrorShape::Invocations,
            &[Concern::Prediction],
        )
}

fn score(source: &OpenApiSource<'_>) -> ApiOperation {
    let text = "Exactly one of `input_data` and `data`: rows, or a table as pandas splits it. Bodies may come in gzip or deflate.";
    let what = ("Predict as Azure Machine Learning does", text);
    let body = json!({"application/json": {
        "schema": schema("ScoreRequest"),
        "examples": examples(source, &["input_data", "data"]),
    }});
    let answer = json!({"application/json": {"schema": schema("Answers")}});
    predicting(source, "score", Group::Predictions, what)
        .reads(body, Required::Yes)
        .answers(200, predicted("A prediction for each row.", answer))
        .fails_as(&source.errors, ErrorShape::Score, &[Concern::Prediction])
}

fn v1(source: &OpenApiSource<'_>, id: &str) -> ApiOperation {
    let text = "Exactly one of `instances` and `inputs`: rows, or in `inputs` a list of values for each feature. Bodies may come in gzip or deflate.";
    let what = ("Predict as V1 does", text);
    let body = json!({"application/json": {
        "schema": schema("V1Request"),
        "examples": examples(source, &["instances", "by_name", "inputs"]),
    }});
    let answer = json!({"application/json": {
        "schema": {"anyOf": [schema("PredictionList"), schema("OutputList")]},
    }});
    predicting(source, id, Group::V1, what)
        .takes(parameter("model"))
        .reads(body, Required::Yes)
        .answers(
            200,
            predicted("`predictions` for rows, `outputs` for columns.", answer),
        )
        .fails(&source.errors, &[Concern::Prediction, Concern::Name])
}

fn infer(source: &OpenApiSource<'_>, id: &str) -> ApiOperation {
    let text = format!(
        "One tensor of all features, or a tensor for each feature. A tensor's data are JSON, or binary after the JSON, whose length `{JSON_LENGTH}` gives. With the length 0, the body is nothing but the rows in the model's own datatype. Bodies may come in gzip or deflate."
    );
    let what = ("Predict tensors as V2 does", text.as_str());
    let body = json!({
        "application/json": {
            "schema": schema("InferRequest"),
            "examples": v2::examples(source),
        },
        "application/octet-stream": {"schema": {
            "type": "string",
            "format": "binary",
            "description": "A request in JSON, and after it the tensors' data in binary.",
        }},
    });
    let content = json!({
        "application/json": {"schema": schema("InferResponse")},
        "application/octet-stream": {"schema": {
            "type": "string",
            "format": "binary",
            "description": "An answer in JSON, and after it the data of the tensors with `binary_data_size`.",
        }},
    });
    let mut answer = predicted("The outputs.", content);
    let mut length = header(JSON_LENGTH);
    // Only an answer in binary has it.
    if let Value::Object(fields) = &mut length {
        fields.clear();
        fields.insert(
            "description".to_owned(),
            "How many bytes of the body are JSON, if the tensors' data follow in binary.".into(),
        );
        fields.insert(
            "schema".to_owned(),
            json!({"type": "integer", "minimum": 1}),
        );
    }
    answer["headers"][JSON_LENGTH] = length;
    predicting(source, id, Group::V2, what)
        .takes(parameter("model"))
        .takes(parameter(JSON_LENGTH))
        .reads(body, Required::Yes)
        .answers(200, answer)
        .fails(&source.errors, &[Concern::Prediction, Concern::Name])
}

/// The schemas of bodies and answers.
pub(super) fn add_schemas(source: &OpenApiSource<'_>, schemas: &mut Map<String, Value>) {
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    add(
        "PredictRequest",
        json!({
            "type": "object",
            "properties": {
                "instances": schema("Instances"),
                "parameters": {
                    "type": ["object", "null"],
                    "description": "Other parameters are ignored.",
                    "properties": {"raw": raw(source)},
                },
            },
            "required": ["instances"],
            "additionalProperties": false,
        }),
    );
    add("Predictions", predictions(source));
    add("PredictionList", list_of("predictions"));
    add("OutputList", list_of("outputs"));
    add(
        "Answers",
        json!({"type": "array", "items": schema("Answer")}),
    );
    add("Split", split());
    add(
        "InvocationsRequest",
        json!({"anyOf": [
            one_field("dataframe_split", schema("Split")),
            one_field("dataframe_records", schema("Instances")),
            one_field("instances", json!({"anyOf": [schema("Instances"), schema("Columns")]})),
            one_field("inputs", json!({"anyOf": [schema("Instances"), schema("Columns")]})),
            schema("Instances"),
        ]}),
    );
    add(
        "ScoreRequest",
        json!({"anyOf": [
            one_field("input_data", json!({"anyOf": [schema("Split"), schema("Instances")]})),
            one_field("data", json!({"anyOf": [schema("Instances"), schema("Split")]})),
        ]}),
    );
    add(
        "V1Request",
        json!({"anyOf": [
            one_field("instances", schema("Instances")),
            one_field("inputs", json!({"anyOf": [schema("Instances"), schema("Columns")]})),
        ]}),
    );
}

fn split() -> Value {
    json!({
        "type": "object",
        "description": "A table as pandas splits it. Without `columns`, each row has the features in the model's order.",
        "properties": {
            "columns": {
                "type": ["array", "null"],
                "items": {"type": ["string", "integer"]},
            },
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "array", "items": schema("Value")},
            },
            "index": {"description": "It is ignored."},
        },
        "required": ["data"],
    })
}

fn one_field(name: &str, value: Value) -> Value {
    json!({"type": "object", "properties": {name: value}, "required": [name]})
}

fn list_of(name: &str) -> Value {
    one_field(name, json!({"type": "array", "items": schema("Answer")}))
}

/// The parameter that asks for the sums.
fn raw(source: &OpenApiSource<'_>) -> Value {
    let has_none = source
        .version
        .is_some_and(|version| version.model().raw_width() == 0);
    let mut schema = json!({
        "type": "boolean",
        "description": "Whether the model's sums before their transform are wanted too.",
    });
    if has_none {
        schema["enum"] = json!([false]);
        schema["description"] = "This model has no sums before a transform.".into();
    }
    schema
}

/// The answer of this server's own form.
fn predictions(source: &OpenApiSource<'_>) -> Value {
    let mut properties = json!({
        "model": text(),
        "predictions": {"type": "array", "items": schema("Prediction")},
        "raw": {
            "type": "array",
            "description": "The sums before the transform, for each row, if they were asked for.",
            "items": {"type": "array", "items": {"type": "number"}},
        },
    });
    let mut required = vec!["model", "predictions"];
    if source.has_probabilities() {
        properties["probabilities"] = json!({"type": "array", "items": schema("Probabilities")});
        if source.outline.is_some() {
            required.push("probabilities");
        }
    }
    json!({"type": "object", "properties": properties, "required": required})
}

/// The answer that the description of the server itself is.
pub(super) fn openapi() -> Value {
    answer(
        "This description.",
        json!({"application/json": {"schema": {"type": "object"}}}),
    )
}
