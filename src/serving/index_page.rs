//! The page at `/`: the endpoints, with curl lines that work when pasted. Pure.

use crate::models::Loaded;
use crate::platform::address::Address;
use crate::protocol::routes::quality;
use crate::serving::context::Context;

/// What a client wants at `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootForm {
    /// A browser's page.
    Html,
    /// A page of text.
    Text,
    /// What programs expect there.
    Json,
}

/// What a client wants at `/`, by the media types that it names.
pub(crate) fn wanted(accept: Option<&str>) -> RootForm {
    let (html, text) = (quality(accept, "text/html"), quality(accept, "text/plain"));
    if html > 0.0 && html >= text {
        RootForm::Html
    } else if text > 0.0 {
        RootForm::Text
    } else {
        RootForm::Json
    }
}

/// Renders the page for a client that reached the server at `address`; metrics are on the `probe`
/// listener if there is one.
pub(crate) fn render(context: &Context, address: &Address, probe: Option<&Address>) -> String {
    let target = address.reachable().curl_target();
    let metrics = probe.unwrap_or(address).reachable().curl_target();
    let model = context.registry.default_deployment().slot.get();
    let about = model.as_ref().map_or_else(
        || "the model is loading".to_owned(),
        |version| {
            let loaded = &version.loaded;
            format!("serving {} ({})", loaded.name, loaded.algorithm)
        },
    );
    let predict = model.map_or_else(String::new, |version| {
        format!(
            "POST /predict   predictions\n  {}\n\n",
            curl(address, &version.loaded)
        )
    });
    format!(
        "lanekeeper {}: {about}\n\n{predict}\
         GET /livez      200 while predictions complete, 500 once they have stopped; ?verbose explains\n  curl -i {target}/livez\n\n\
         GET /readyz     200 if a prediction made now would work\n  curl -i {target}/readyz?verbose\n\n\
         GET /healthz    the same as /livez\n\n\
         GET /startupz   200 once the first model has been loaded and tried\n\n\
         GET /statusz    queues, workers, counts as JSON\n  curl -s {target}/statusz\n\n\
         GET /metrics    counts and times for Prometheus\n  curl -s {metrics}/metrics\n\n\
         GET /docs       the guide\n  curl -s {target}/docs/api\n",
        env!("CARGO_PKG_VERSION"),
    )
}

/// A shell command that predicts the model's first golden row.
pub(crate) fn curl(address: &Address, loaded: &Loaded) -> String {
    let row = loaded.model.signature().json_row(&loaded.example());
    // Within single quotes of a shell.
    let row = row.replace('\'', "'\\''");
    format!(
        "curl -s {}/predict -d '{{\"instances\": [{row}]}}'",
        address.reachable().curl_target(),
    )
}
