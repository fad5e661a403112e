//! The pieces that every operation is made of.

use serde_json::{Map, Value, json};

use super::errors::{self, Concern, ErrorShape};

/// The field in which V2 says how much of a body is JSON.
pub(super) const JSON_LENGTH: &str = "Inference-Header-Content-Length";

/// What an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Predictions,
    V2,
    V1,
    Others,
    Probes,
    About,
}

impl Group {
    /// All groups, in the order in which they are shown, with what is said of them.
    pub(super) const ALL: [(Group, &'static str); 6] = [
        (
            Group::Predictions,
            "This server's own form of predictions, and those of MLflow, SageMaker, Databricks and Azure Machine Learning.",
        ),
        (
            Group::V2,
            "The Open Inference Protocol V2, as Triton, KServe and MLServer speak it.",
        ),
        (
            Group::V1,
            "The protocol V1 of TensorFlow Serving and KServe.",
        ),
        (
            Group::Others,
            "What MLflow, SageMaker and Vertex AI ask beside predictions.",
        ),
        (
            Group::Probes,
            "Verdicts about the server. They never wait behind predictions.",
        ),
        (Group::About, "The server's state, metrics and description."),
    ];

    /// The tag of its operations.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Group::Predictions => "predictions",
            Group::V2 => "v2",
            Group::V1 => "v1",
            Group::Others => "other servers",
            Group::Probes => "probes",
            Group::About => "about",
        }
    }
}

/// One method on one path.
#[derive(Debug)]
pub(super) struct ApiOperation {
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
}

impl ApiOperation {
    /// Starts an operation; `id` is unique in the document.
    pub(super) fn new(id: &str, group: Group, summary: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("operationId".to_owned(), id.into());
        fields.insert("summary".to_owned(), summary.into());
        fields.insert("tags".to_owned(), json!([group.tag()]));
        ApiOperation {
            fields,
            parameters: Vec::new(),
            answers: Map::new(),
        }
    }

    /// Says more than the summary.
    pub(super) fn says(mut self, text: impl Into<String>) -> Self {
        let text: String = text.into();
        self.fields.insert("description".to_owned(), text.into());
        self
    }

    /// Adds a parameter.
    pub(super) fn takes(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Sets the forms of its body.
    pub(super) fn reads(mut self, content: Value, required: Required) -> Self {
        let required = required == Required::Yes;
        let body = json!({"required": required, "content": content});
        self.fields.insert("requestBody".to_owned(), body);
        self
    }

    /// Adds an answer with content.
    pub(super) fn answers(mut self, status: u16, answer: Value) -> Self {
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// Adds the errors that concern it, but where it has an answer with the same status of its own.
    pub(super) fn fails(mut self, errors: &errors::Errors, concerns: &[Concern]) -> Self {
        for (status, answer) in errors.references(ErrorShape::Own, concerns) {
            self.answers.entry(status).or_insert(answer);
        }
        self
    }

    /// Adds the errors of a prediction, in the shape of its dialect.
    pub(super) fn fails_as(
        mut self,
        errors: &errors::Errors,
        shape: ErrorShape,
        concerns: &[Concern],
    ) -> Self {
        for (status, answer) in errors.references(shape, concerns) {
            self.answers.entry(status).or_insert(answer);
        }
        self
    }

    /// The operation as the document has it.
    pub(super) fn finish(mut self) -> Value {
        if !self.parameters.is_empty() {
            self.fields
                .insert("parameters".to_owned(), self.parameters.into());
        }
        self.fields
            .insert("responses".to_owned(), self.answers.into());
        self.fields.into()
    }
}

/// Whether a body must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    Yes,
    No,
}

/// The schema of this name.
pub(super) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The parameter of this name.
pub(super) fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// The header field of this name.
pub(super) fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// An answer of JSON that has this schema.
pub(super) fn json_answer(description: &str, schema: Value) -> Value {
    answer(description, json!({"application/json": {"schema": schema}}))
}

/// An answer of plain text.
pub(super) fn text_answer(description: &str) -> Value {
    answer(description, json!({"text/plain": {"schema": text()}}))
}

/// Any text.
pub(super) fn text() -> Value {
    json!({"type": "string"})
}

/// An answer with content of these media types.
pub(super) fn answer(description: &str, content: Value) -> Value {
    json!({
        "description": description,
        "headers": {"X-Request-Id": header("X-Request-Id")},
        "content": content,
    })
}

/// The answer to a prediction.
pub(super) fn predicted(description: &str, content: Value) -> Value {
    let mut answer = answer(description, content);
    answer["headers"]["Server-Timing"] = header("Server-Timing");
    answer
}

/// The header fields that answers have.
pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "The request's id: the client's own, or a new one.",
            "required": true,
            "schema": text(),
        },
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "Allow": {
            "description": "The methods that this path takes.",
            "required": true,
            "schema": text(),
        },
        "Server-Timing": {
            "description": "Where the time went, in milliseconds: waiting in the queue, computing, writing the answer.",
            "schema": {"type": "string", "examples": ["queue;dur=0.04, predict;dur=0.21, encode;dur=0.01"]},
        },
        JSON_LENGTH: {
            "description": "How many bytes of the body are JSON; the tensors' data in binary follow.",
            "required": true,
            "schema": {"type": "integer", "minimum": 1},
        },
    })
}
