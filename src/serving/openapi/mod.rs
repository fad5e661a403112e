//! The description of all paths in OpenAPI 3.1, with the schemas of the served model. Pure.
//!
//! Runs on connection threads, whose stacks are small: the document is built piece by piece on the
//! heap, once for each version of the model, and costs no prediction. Codes, names of checks, media
//! types and limits come from where they are defined. What a protocol has and this server does not
//! offer is left out.

mod errors;
mod model;
mod parts;
mod predictions;
mod probes;
mod v2;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::errors::Errors;
use self::model::ModelOutline;
use self::parts::{Group, JSON_LENGTH};
use crate::config::Config;
use crate::models::OutputSpec;
use crate::models::format::DEFAULT_VERSION;
use crate::models::slot::ModelVersion;
use crate::platform::address::Address;
use crate::protocol::routes;
use crate::serving::context::{ApiText, Context};

/// What is described.
struct OpenApiSource<'a> {
    config: &'a Config,
    /// The served model, once it is loaded.
    version: Option<&'a ModelVersion>,
    /// What is listed of it.
    outline: Option<ModelOutline<'a>>,
    /// The probe listener's address, if there is one.
    probe: Option<&'a Address>,
    errors: Errors,
}

/// The document for the present version of the model, if somebody has asked for it before.
fn made_before(context: &Context, version: Option<&ModelVersion>) -> Option<Arc<ApiText>> {
    let number = version.map_or(0, |version| version.number);
    let made = context.openapi.load_full();
    made.filter(|text| text.version == number)
}

/// What the document takes of memory while it is made, at most.
pub(super) fn bytes(context: &Context) -> usize {
    let version = context.registry.default_deployment().slot.get();
    match made_before(context, version.as_deref()) {
        Some(text) => text.json.len(),
        None => bytes_to_make(version.as_deref()),
    }
}

fn bytes_to_make(version: Option<&ModelVersion>) -> usize {
    /// Of a document without a model.
    const REST: usize = 5 << 19;
    /// Of each byte of a name or label, which stands in several schemas and examples.
    const EACH: usize = 32;
    REST + EACH * version.map_or(0, model::listed_bytes)
}

/// Describes the server, and the model once it is loaded. `probe` is the probe listener's address, if
/// there is one.
pub(super) fn render(context: &Context, probe: Option<&Address>) -> Vec<u8> {
    let version = context.registry.default_deployment().slot.get();
    if let Some(text) = made_before(context, version.as_deref()) {
        return text.json.clone();
    }
    let document = document(&context.config, version.as_deref(), probe);
    let mut json = document.to_string().into_bytes();
    json.push(b'\n');
    let text = ApiText {
        version: version.map_or(0, |version| version.number),
        json: json.clone(),
    };
    // Another thread may have made it too, which does no harm.
    context.openapi.store(Some(Arc::new(text)));
    json
}

fn document(config: &Config, version: Option<&ModelVersion>, probe: Option<&Address>) -> Value {
    let source = OpenApiSource {
        config,
        version,
        outline: version.map(ModelOutline::new),
        probe,
        errors: Errors::new(config.overload.overload_status),
    };
    let tags = Group::ALL.map(|(group, text)| json!({"name": group.tag(), "description": text}));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": source.info(),
        // Wherever the client found this document.
        "servers": [{"url": "/"}],
        "tags": tags,
    });
    document["paths"] = source.paths();
    document["components"] = source.components();
    document
}

impl OpenApiSource<'_> {
    /// A row that the model takes.
    fn row(&self) -> Option<&[Value]> {
        self.outline.as_ref()?.row()
    }

    /// Whether answers may have probabilities.
    fn has_probabilities(&self) -> bool {
        let output = self
            .outline
            .as_ref()
            .map(|outline| &outline.signature().output);
        !matches!(
            output,
            Some(
                OutputSpec::Numbers { .. }
                    | OutputSpec::Classes {
                        has_probabilities: false,
                        ..
                    }
            )
        )
    }

    fn has_probe_listener(&self) -> bool {
        self.probe.is_some()
    }

    fn info(&self) -> Value {
        let served = match &self.outline {
            None => "The model is loading; what it takes is not known yet.".to_owned(),
            Some(outline) => format!(
                "It serves the model {:?} with {} features.",
                outline.name(),
                outline.signature().width()
            ),
        };
        json!({
            "title": "lanekeeper",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": format!("{served} HEAD works wherever GET does. Requests may be sent to any path in plain HTTP/1.1."),
            "license": {"name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        })
    }

    fn paths(&self) -> Value {
        let mut paths = Map::new();
        predictions::add_paths(self, &mut paths);
        v2::add_paths(self, &mut paths);
        probes::add_paths(self, &mut paths);
        self.add_aliases(&mut paths);
        paths.into()
    }

    /// Adds the other paths that a hosting platform names. Nobody can take away a probe of our own.
    fn add_aliases(&self, paths: &mut Map<String, Value>) {
        for (place, (other, own)) in self.config.routes.iter().enumerate() {
            if routes::is_fixed(other) {
                continue;
            }
            let Some(mut item) = paths.get(*own).cloned() else {
                continue;
            };
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let id = operation["operationId"].as_str().unwrap_or_default();
                operation["operationId"] = format!("{id}Alias{}", place + 1).into();
            }
            paths.insert(other.clone(), item);
        }
    }

    fn components(&self) -> Value {
        let rows_max = self.config.limits.max_rows;
        let mut schemas = self.errors.schemas();
        schemas.append(&mut match &self.outline {
            Some(outline) => outline.schemas(rows_max),
            None => model::unknown(rows_max),
        });
        predictions::add_schemas(self, &mut schemas);
        v2::add_schemas(self, &mut schemas);
        probes::add_schemas(&mut schemas);
        json!({
            "schemas": schemas,
            "responses": self.errors.answers(),
            "headers": parts::headers(),
            "parameters": self.parameters(),
        })
    }

    fn parameters(&self) -> Value {
        let (mut model, mut version) = (parts::text(), parts::text());
        if let (Some(outline), Some(served)) = (&self.outline, self.version) {
            model["enum"] = json!([outline.name()]);
            let own = served.loaded.version.as_str();
            version["enum"] = match own {
                DEFAULT_VERSION => json!([own]),
                _ => json!([own, DEFAULT_VERSION]),
            };
        }
        json!({
            "model": {"name": "model", "in": "path", "required": true, "schema": model},
            "version": {"name": "version", "in": "path", "required": true, "schema": version},
            "X-Request-Id": {
                "name": "X-Request-Id",
                "in": "header",
                "description": "The request's id, which the answer and the log have. Without it, one is made.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
            },
            "X-Request-Timeout": {
                "name": "X-Request-Timeout",
                "in": "header",
                "description": "How long the client waits: seconds such as 1.5, or a whole number with its unit such as 1500ms.",
                "schema": {
                    "type": "string",
                    "pattern": "^([1-9][0-9]{0,6}(ms|s)?|[0-9]{1,6}\\.[0-9]{0,8}[1-9])$",
                    "examples": ["1.5", "1500ms"],
                },
            },
            JSON_LENGTH: {
                "name": JSON_LENGTH,
                "in": "header",
                "description": "How many bytes of the body are JSON, if tensors in binary follow.",
                "schema": {"type": "integer", "minimum": 0},
            },
        })
    }
}

#[cfg(test)]
mod tests;
