//! The documents and schemas of V2.

use serde_json::{Map, Value, json};

use super::OpenApiSource;
use super::errors::Concern;
use super::parts::{ApiOperation, Group, Required, json_answer, parameter, schema, text};
use crate::protocol;
use crate::serving::documents;

/// The examples of requests for a model.
pub(super) fn examples(source: &OpenApiSource<'_>) -> Value {
    let (Some(row), Some(version)) = (source.row(), source.version) else {
        return json!({});
    };
    let mut rest = row;
    let mut tensors = Vec::new();
    for input in documents::inputs(version) {
        let (own, after) = rest.split_at(input.width.min(rest.len()));
        rest = after;
        // What the model does not look at may be left out, and may be no text.
        if own.iter().any(Value::is_null) && input.datatype == "BYTES" {
            continue;
        }
        tensors.push(json!({
            "name": input.name,
            "shape": [1, input.width],
            "datatype": input.datatype,
            "data": own,
        }));
    }
    json!({"tensors": {"value": {"inputs": tensors}}})
}

/// Adds the paths of V2 that cost no prediction and are no verdicts.
pub(super) fn add_paths(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let errors = &source.errors;
    add_model_documents(source, paths);
    let mut add = |path: &str, method: &str, operation: ApiOperation| {
        paths.insert(path.to_owned(), json!({method: operation.finish()}));
    };
    let server = ApiOperation::new("v2Server", Group::V2, "What the server speaks of V2")
        .says("`/v2/` is the same.")
        .answers(200, json_answer("The server.", schema("ServerMetadata")));
    add("/v2", "get", server.fails(errors, &[Concern::Memory]));
    let models = ApiOperation::new("v2Models", Group::V2, "The names of the models")
        .answers(200, json_answer("The names.", schema("ModelNames")));
    add(
        "/v2/models",
        "get",
        models.fails(errors, &[Concern::Memory]),
    );
    let stats = ApiOperation::new("v2Statistics", Group::V2, "Statistics of all models").answers(
        200,
        json_answer("The statistics.", schema("ModelStatistics")),
    );
    let concerns = [Concern::Memory, Concern::Model];
    add("/v2/models/stats", "get", stats.fails(errors, &concerns));
    let body = json!({"application/json": {"schema": schema("IndexRequest")}});
    let index = ApiOperation::new(
        "v2RepositoryIndex",
        Group::V2,
        "The models and their states",
    )
    .says("Models are loaded and unloaded by the operator, never over the network.")
    .reads(body, Required::No)
    .answers(200, json_answer("The models.", schema("RepositoryIndex")));
    add(
        "/v2/repository/index",
        "post",
        index.fails(errors, &[Concern::Json]),
    );
}

/// Adds the documents of a model and of its version.
fn add_model_documents(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let of_model = [Concern::Memory, Concern::Name, Concern::Model];
    let documents = [
        (
            "",
            "v2Model",
            "What a model takes and returns",
            "ModelMetadata",
        ),
        (
            "/config",
            "v2ModelConfig",
            "A model's configuration as Triton has it",
            "ModelConfig",
        ),
        (
            "/stats",
            "v2ModelStatistics",
            "A model's statistics as Triton has them",
            "ModelStatistics",
        ),
    ];
    for (verb, id, summary, answer) in documents {
        for (of_version, place) in [
            ("", "/v2/models/{model}"),
            ("Version", "/v2/models/{model}/versions/{version}"),
        ] {
            let mut operation = ApiOperation::new(&format!("{id}{of_version}"), Group::V2, summary)
                .takes(parameter("model"));
            if !of_version.is_empty() {
                operation = operation.takes(parameter("version"));
            }
            let operation = operation
                .answers(200, json_answer("The document.", schema(answer)))
                .fails(&source.errors, &of_model);
            paths.insert(format!("{place}{verb}"), json!({"get": operation.finish()}));
        }
    }
}

/// The schemas of V2.
pub(super) fn add_schemas(source: &OpenApiSource<'_>, schemas: &mut Map<String, Value>) {
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    add("InferRequest", infer_request(source));
    add("InputTensor", input_tensor());
    add("OutputRequest", output_request(source));
    add(
        "InferResponse",
        object(&[
            ("model_name", text()),
            ("model_version", text()),
            ("id", text()),
            ("outputs", list(schema("OutputTensor"))),
        ]),
    );
    add("OutputTensor", output_tensor());
    add("ModelStatistics", statistics());
    add(
        "IndexRequest",
        json!({
            "type": "object",
            "properties": {"ready": {
                "type": "boolean",
                "description": "Whether only models that are ready are listed.",
            }},
        }),
    );
    schemas.append(&mut metadata_schemas());
}

/// The schemas of what V2 tells of the server and its models.
fn metadata_schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    add(
        "ServerMetadata",
        object(&[
            ("name", text()),
            ("version", text()),
            ("extensions", list(text())),
        ]),
    );
    add("ModelNames", object(&[("models", list(text()))]));
    add(
        "TensorMetadata",
        object(&[
            ("name", text()),
            ("datatype", datatype()),
            ("shape", list(json!({"type": "integer", "minimum": -1}))),
        ]),
    );
    add(
        "ModelMetadata",
        object(&[
            ("name", text()),
            ("versions", list(text())),
            ("platform", text()),
            ("inputs", list(schema("TensorMetadata"))),
            ("outputs", list(schema("TensorMetadata"))),
        ]),
    );
    let tensor = object(&[
        ("name", text()),
        ("data_type", text()),
        ("dims", list(json!({"type": "integer"}))),
    ]);
    add(
        "ModelConfig",
        object(&[
            ("name", text()),
            ("platform", text()),
            ("backend", text()),
            ("version_policy", json!({"type": "object"})),
            ("max_batch_size", json!({"type": "integer"})),
            ("input", list(tensor.clone())),
            ("output", list(tensor)),
        ]),
    );
    add(
        "RepositoryIndex",
        list(object(&[
            ("name", text()),
            ("version", text()),
            (
                "state",
                json!({"type": "string", "enum": ["READY", "UNAVAILABLE"]}),
            ),
            ("reason", text()),
        ])),
    );
    schemas
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object that has all of these fields.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties = fields
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()));
    json!({
        "type": "object",
        "properties": properties.collect::<Map<String, Value>>(),
        "required": names,
    })
}

fn datatype() -> Value {
    json!({"type": "string", "enum": protocol::datatypes()})
}

fn infer_request(source: &OpenApiSource<'_>) -> Value {
    let mut inputs = list(schema("InputTensor"));
    inputs["minItems"] = 1.into();
    if let Some(outline) = &source.outline {
        inputs["maxItems"] = outline.signature().width().into();
    }
    json!({
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "description": "It is given back."},
            "parameters": {
                "type": ["object", "null"],
                "description": "Other parameters are ignored.",
                "properties": {
                    "binary_data_output": {
                        "type": ["boolean", "null"],
                        "description": "Whether outputs come in binary unless they say otherwise.",
                    },
                    "timeout": {
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "description": "How long the client waits, in microseconds; 0 is no limit.",
                    },
                },
            },
            "inputs": inputs,
            "outputs": {
                "type": ["array", "null"],
                "items": schema("OutputRequest"),
                "description": "The outputs that are wanted; none asks for `predict` alone.",
            },
        },
        "required": ["inputs"],
    })
}

fn input_tensor() -> Value {
    json!({
        "type": "object",
        "description": "All features, with the shape `[rows, features]` and any name; or one feature by its name, with the shape `[rows]` or `[rows, 1]`.",
        "properties": {
            "name": text(),
            "shape": {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {"type": "integer", "minimum": 0},
            },
            "datatype": datatype(),
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_size": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "How many bytes after the JSON are this tensor's data.",
                }},
            },
            "data": {
                "type": "array",
                "description": "The values in the order of the shape, flat or nested.",
            },
        },
        "required": ["name", "shape", "datatype"],
    })
}

fn output_request(source: &OpenApiSource<'_>) -> Value {
    let mut name = text();
    if let Some(outline) = &source.outline {
        name["enum"] = json!(protocol::output_names(&outline.signature().output));
    }
    json!({
        "type": "object",
        "properties": {
            "name": name,
            "parameters": {
                "type": ["object", "null"],
                "properties": {
                    "binary_data": {"type": ["boolean", "null"]},
                    "classification": {
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "description": "So many of the most probable classes, as `value:index:label`; for probabilities only.",
                    },
                },
            },
        },
        "required": ["name"],
    })
}

fn output_tensor() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": text(),
            "datatype": datatype(),
            "shape": list(json!({"type": "integer", "minimum": 0})),
            "data": list(json!({"type": ["number", "string"]})),
            "parameters": object(&[("binary_data_size", json!({"type": "integer"}))]),
        },
        "required": ["name", "datatype", "shape"],
    })
}

fn statistics() -> Value {
    let figure = object(&[
        ("count", json!({"type": "integer"})),
        ("ns", json!({"type": "integer"})),
    ]);
    let one = object(&[
        ("name", text()),
        ("version", text()),
        (
            "last_inference",
            json!({
                "type": "integer",
                "description": "When a prediction last succeeded, in milliseconds since 1970; 0 if none has.",
            }),
        ),
        (
            "inference_count",
            json!({"type": "integer", "description": "Rows."}),
        ),
        (
            "execution_count",
            json!({"type": "integer", "description": "Requests."}),
        ),
        (
            "inference_stats",
            json!({"type": "object", "additionalProperties": figure}),
        ),
        ("batch_stats", json!({"type": "array"})),
    ]);
    object(&[("model_stats", list(one))])
}
