//! The page at `/`: what there is, with curl lines that work when pasted. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::context::Context;
use crate::model::Model;

/// Renders the page for a client that reached the server at `address`.
pub(crate) fn render(context: &Context, address: Option<SocketAddr>) -> String {
    let host = address.map_or_else(
        || context.config.listen.to_string(),
        |address| reachable(address).to_string(),
    );
    let model = context.model.get();
    let about = model.map_or_else(
        || "the model is loading".to_owned(),
        |model| {
            let schema = model.schema();
            format!("serving {} ({})", schema.name, schema.algorithm)
        },
    );
    let predict = model.map_or_else(String::new, |model| {
        format!(
            "POST /predict   predictions\n  {}\n\n",
            curl(&host, model.as_ref())
        )
    });
    format!(
        "lanekeeper {}: {about}\n\n{predict}\
         GET /livez      200 while predictions complete, 500 once they have stopped; ?verbose explains\n  curl -i http://{host}/livez\n\n\
         GET /readyz     200 if a prediction made now would work\n  curl -i http://{host}/readyz?verbose\n\n\
         GET /healthz    the same as /livez\n\n\
         GET /statusz    queues, workers, counts as JSON\n  curl -s http://{host}/statusz\n",
        env!("CARGO_PKG_VERSION"),
    )
}

/// A command that gets a prediction from the model's own trial row.
pub(crate) fn curl(host: &str, model: &dyn Model) -> String {
    let row: Vec<String> = model.trial().row.iter().map(f64::to_string).collect();
    format!(
        "curl -s http://{host}/predict -d '{{\"instances\": [[{}]]}}'",
        row.join(", ")
    )
}

/// The address a client on this machine can use where the server listens on all of them.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
