//! Errors: which codes concern which operations, and the shape that each dialect gives them.
//!
//! Everything here comes from [`Code`] and from the dialects themselves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::parts::{header, schema, text};
use crate::error::{Code, OverloadStatus, RequestError};
use crate::protocol::{self, Dialect};

/// What a code concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// Every request.
    Request,
    /// A path that names a model, its version or a check.
    Name,
    /// What needs a model that is loaded.
    Model,
    /// What is made or read within the memory budget.
    Memory,
    /// A body in JSON.
    Json,
    /// A prediction.
    Prediction,
    /// What probe workers answer.
    Probe,
    /// What few clients at a time may ask.
    Crowd,
    /// What another listener has.
    Elsewhere,
}

/// What an error's content looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorShape {
    /// The server's own, and V1's and V2's.
    Own,
    /// MLflow's, beside the server's own.
    Invocations,
    /// Azure's, beside the server's own.
    Score,
}

/// A text that stands for an error's own.
const TEXT: &str = "what is wrong, and what would be right";

impl ErrorShape {
    const ALL: [ErrorShape; 3] = [ErrorShape::Own, ErrorShape::Invocations, ErrorShape::Score];

    /// The name of its schema.
    fn name(self) -> &'static str {
        match self {
            ErrorShape::Own => "Error",
            ErrorShape::Invocations => "InvocationsError",
            ErrorShape::Score => "ScoreError",
        }
    }

    /// What writes it.
    fn dialect(self) -> Option<&'static dyn Dialect> {
        let path = match self {
            ErrorShape::Own => "/predict",
            ErrorShape::Invocations => "/invocations",
            ErrorShape::Score => "/score",
        };
        protocol::find(path).map(|(dialect, _)| dialect)
    }

    /// The content of an error.
    fn content(self, code: Code, status: u16) -> Value {
        let error = RequestError::new(code, TEXT);
        let content = self
            .dialect()
            .map(|dialect| dialect.error(&error, "1f0c7a52", status));
        serde_json::from_slice(&content.unwrap_or_default()).unwrap_or_default()
    }
}

/// Which requests may be answered with a code. A new code needs a line here.
fn concerns(code: Code) -> &'static [Concern] {
    match code {
        Code::MalformedRequest
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::ExpectationFailed
        | Code::HeadTooLarge
        | Code::NotImplemented
        | Code::VersionNotSupported
        | Code::TooManyConnections
        | Code::OverBudget => &[Concern::Request],
        Code::NotFound => &[Concern::Name, Concern::Elsewhere],
        Code::InvalidJson | Code::InvalidInput => &[Concern::Json, Concern::Prediction],
        Code::UnsupportedMediaType
        | Code::PredictionFailed
        | Code::Overloaded
        | Code::Expired
        | Code::Draining => &[Concern::Prediction],
        Code::ContentTooLarge => &[Concern::Memory, Concern::Json, Concern::Prediction],
        Code::Loading => &[Concern::Model, Concern::Prediction],
        Code::Internal | Code::DeadlineExceeded => &[Concern::Prediction, Concern::Probe],
        Code::QueueFull => &[Concern::Prediction, Concern::Crowd],
    }
}

/// When a code is answered.
fn meaning(code: Code) -> &'static str {
    match code {
        Code::MalformedRequest => "the bytes are no request of HTTP/1.1",
        Code::InvalidJson => "the body is no JSON; the text has the line and column",
        Code::InvalidInput => {
            "the body is not what this model takes, or a field or parameter has a value that it cannot have"
        }
        Code::NotFound => {
            "there is no such path, model, version or check; the text says what there is"
        }
        Code::MethodNotAllowed => "this path takes other methods",
        Code::RequestTimeout => "the head or the body did not arrive in time",
        Code::ContentTooLarge => {
            "the body, its number of rows, or the memory that it needs is over the limit"
        }
        Code::UnsupportedMediaType => "a body of this media type or content coding is not read",
        Code::ExpectationFailed => "an Expect other than 100-continue",
        Code::HeadTooLarge => "the request's head is over the limit",
        Code::NotImplemented => "a transfer coding or method that this server does not know",
        Code::VersionNotSupported => "neither HTTP/1.1 nor HTTP/1.0",
        Code::PredictionFailed => "the model failed",
        Code::Internal => "a thread of the server has ended",
        Code::Overloaded => "the prediction would wait too long, or its client has had its share",
        Code::QueueFull => "the queue is full",
        Code::Expired => "the prediction waited too long to be worth computing",
        Code::Loading => "the model is loading",
        Code::Draining => "the server is shutting down",
        Code::TooManyConnections => "all connections that are allowed are in use",
        Code::OverBudget => "others hold all the memory that clients may have",
        Code::DeadlineExceeded => "not done by the deadline",
    }
}

/// All errors, by their status codes.
#[derive(Debug)]
pub(super) struct Errors {
    codes: BTreeMap<u16, Vec<Code>>,
    overload: OverloadStatus,
}

impl Errors {
    /// Makes the errors of a server that refuses overload so.
    pub(super) fn new(overload: OverloadStatus) -> Self {
        let mut codes: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in Code::ALL {
            let status = code.status_with(overload);
            codes.entry(status).or_default().push(code);
        }
        Errors { codes, overload }
    }

    /// The answers that requests with these concerns may get, by status, each a reference.
    pub(super) fn references(&self, shape: ErrorShape, about: &[Concern]) -> Vec<(String, Value)> {
        let concerned = |code: &Code| {
            concerns(*code)
                .iter()
                .any(|one| *one == Concern::Request || about.contains(one))
        };
        let statuses = self.codes.iter();
        statuses
            .filter(|(_, codes)| codes.iter().any(concerned))
            .map(|(status, _)| {
                let place = format!("#/components/responses/{}{status}", shape.name());
                (status.to_string(), json!({"$ref": place}))
            })
            .collect()
    }

    /// The answers that operations refer to.
    pub(super) fn answers(&self) -> Map<String, Value> {
        let mut answers = Map::new();
        for shape in ErrorShape::ALL {
            for status in self.codes.keys() {
                let name = format!("{}{status}", shape.name());
                answers.insert(name, self.answer(shape, *status));
            }
        }
        answers
    }

    /// The answer with a status.
    pub(super) fn answer(&self, shape: ErrorShape, status: u16) -> Value {
        let codes = self.codes.get(&status).map_or(&[][..], Vec::as_slice);
        let lines = codes
            .iter()
            .map(|code| format!("`{}`: {}.", code.as_str(), meaning(*code)));
        let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let mut answer = json!({
            "description": lines.collect::<Vec<_>>().join(" "),
            "headers": {"X-Request-Id": header("X-Request-Id")},
            "content": {"application/json": {"schema": {
                "allOf": [schema(shape.name())],
                "properties": {"code": {"enum": names}},
            }}},
        });
        if let Some(code) = codes.first() {
            answer["content"]["application/json"]["example"] = shape.content(*code, status);
        }
        if codes.contains(&Code::Loading) || codes.contains(&Code::Overloaded) {
            answer["headers"]["Retry-After"] = header("Retry-After");
        }
        if codes.contains(&Code::MethodNotAllowed) {
            answer["headers"]["Allow"] = header("Allow");
        }
        answer
    }

    /// The schemas of all shapes.
    pub(super) fn schemas(&self) -> Map<String, Value> {
        let schema = |shape: ErrorShape| (shape.name().to_owned(), self.schema(shape));
        ErrorShape::ALL.into_iter().map(schema).collect()
    }

    fn schema(&self, shape: ErrorShape) -> Value {
        let own = ErrorShape::Own.content(Code::Internal, Code::Internal.status());
        let required: Vec<&String> = own.as_object().into_iter().flat_map(Map::keys).collect();
        let mut values: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for code in Code::ALL {
            let content = shape.content(code, code.status_with(self.overload));
            for (key, value) in content.as_object().into_iter().flatten() {
                let seen = values.entry(key.clone()).or_default();
                if !seen.contains(value) {
                    seen.push(value.clone());
                }
            }
        }
        // A field that says the same of every error is free text.
        let property = |(key, seen): (String, Vec<Value>)| match seen.len() {
            1 => (key, text()),
            _ => (key, json!({"type": "string", "enum": seen})),
        };
        let properties: Map<String, Value> = values.into_iter().map(property).collect();
        json!({
            "type": "object",
            "description": "`error` is for a person. `code` is stable, and programs may act on it.",
            "properties": properties,
            "required": required,
        })
    }
}
