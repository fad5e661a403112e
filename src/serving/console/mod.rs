//! The console: the page that a browser gets at `/`. It shows whether the service is well, why not and
//! since when, and on the main listener sends predictions. Pure.
//!
//! Runs on connection threads. The page polls `/statusz` and changes nothing: everything that moves is
//! drawn by its script, and here stands what does not.

mod form;

use std::sync::LazyLock;

use maud::{Markup, html};

use crate::config::ConsoleDetail;
use crate::page::{Assets, Page};
use crate::protocol::routes::ListenerKind;
use crate::serving::context::Context;

/// What a console takes of memory while it is made, at most.
pub(crate) const BYTES_MAX: usize = 4 * 60 * 1024;

static ASSETS: LazyLock<Assets> =
    LazyLock::new(|| Assets::new(include_str!("console.css"), include_str!("console.js")));

/// Renders the page for a client of this listener. It has columns for request ids and addresses of
/// clients only where `/statusz` shows them.
pub(crate) fn render(context: &Context, listener: ListenerKind) -> Page {
    let version = context.registry.default_deployment().slot.get();
    let is_main = listener == ListenerKind::Main;
    let shows_clients = !is_main || context.config.console == ConsoleDetail::Full;
    let body = html! {
        main {
            (head())
            (verdicts())
            (lane(shows_clients))
            (history())
            (times())
            @if is_main {
                @match &version {
                    Some(version) => (form::render(version)),
                    None => section aria-labelledby="try" {
                        h2 #try { "Try it" }
                        p .card { "The model is loading; reload this page." }
                    },
                }
            }
            (facts())
            (recent("refusals", "Last refusals", shows_clients))
            (recent("failures", "Last failures", shows_clients))
            @if !shows_clients {
                p .note { "Request ids, traces and clients' addresses are on the probe listener's console, and here with --console full." }
            }
            (links(is_main))
        }
    };
    let name = version
        .as_ref()
        .map_or("no model", |version| version.name());
    ASSETS.page(&format!("{name} · lanekeeper"), &body)
}

/// The verdict in words, and whether the page is up to date.
fn head() -> Markup {
    html! {
        header #head {
            p .kicker {
                span .stamp #stamp { "…" } " · lanekeeper " (env!("CARGO_PKG_VERSION"))
                " · " span #served { "…" } " · " span #uptime { "…" }
            }
            h1 { span #verdict role="status" { "Asking the server…" } }
            p .served #link { "This page asks /statusz once a second." }
            noscript { p { "This page needs JavaScript. " a href="/statusz" { "/statusz" } " has the same figures." } }
        }
    }
}

fn verdicts() -> Markup {
    let card = |name: &str, question: &str| {
        html! {
            div .card .verdict id={ "verdict-" (name) } {
                h3 { code { "/" (name) } }
                p .state { b .word { "…" } " " span .since {} }
                p .reason {}
                p .question { (question) }
            }
        }
    };
    html! {
        section aria-labelledby="verdicts" {
            h2 #verdicts { "Verdicts" }
            div .grid .three {
                (card("livez", "Do predictions still complete?"))
                (card("readyz", "Would a prediction made now work?"))
                (card("startupz", "Has the model been loaded and tried?"))
            }
        }
    }
}

fn tile(id: &str, label: &str) -> Markup {
    html! { div .card .tile { b id=(id) { "…" } span { (label) } } }
}

/// A table that the script fills. It scrolls by itself where the page is narrow.
fn table(id: &str, label: &str, columns: &[&str]) -> Markup {
    html! {
        div .card .scroll tabindex="0" role="region" aria-label=(label) {
            table id=(id) {
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody {}
            }
        }
    }
}

fn lane(shows_clients: bool) -> Markup {
    let columns = ["worker", "state", "since", "rows", "request"];
    let columns = &columns[..columns.len() - usize::from(!shows_clients)];
    html! {
        section aria-labelledby="lane" {
            h2 #lane { "Prediction lane" }
            div .grid .tiles {
                (tile("waiting", "waiting"))
                (tile("running", "running"))
                (tile("oldest", "the oldest has waited"))
                (tile("mean", "mean service time"))
            }
            (table("workers", "Prediction workers", columns))
        }
    }
}

/// Charts of what the page itself has polled.
fn history() -> Markup {
    let chart = |id: &str, title: &str, caption: &str| {
        html! {
            figure .card {
                h3 { (title) }
                figcaption { (caption) }
                svg id=(id) viewBox="0 0 480 150" role="img" aria-label=(title) {}
                ul .legend id={ (id) "-legend" } {}
            }
        }
    };
    html! {
        section aria-labelledby="history" {
            h2 #history { "The last five minutes" }
            div .grid {
                (chart("rates", "Predictions a second", "What came, and what was answered with a prediction."))
                (chart("refused", "Refusals a second, by reason", "A refusal says when to come back."))
            }
        }
    }
}

fn times() -> Markup {
    let histogram = |id: &str, title: &str| {
        html! {
            figure .card {
                h3 { (title) }
                figcaption id={ (id) "-caption" } { "…" }
                svg id=(id) viewBox="0 0 480 150" role="img" aria-label=(title) {}
            }
        }
    };
    html! {
        section aria-labelledby="times" {
            h2 #times { "Times in the last minute" }
            div .grid {
                (histogram("waits", "Waiting for a worker"))
                (histogram("services", "With a worker"))
            }
            p .note #probes { "…" }
        }
    }
}

fn facts() -> Markup {
    html! {
        section aria-labelledby="facts" {
            h2 #facts { "Model, memory and limits" }
            div .grid {
                div .card { h3 { "Deployment" } dl #model {} }
                div .card { h3 { "Memory and limits" } dl #limits {} }
            }
        }
    }
}

fn recent(id: &str, title: &str, shows_clients: bool) -> Markup {
    let columns = [
        "ago", "status", "code", "reason", "request", "trace", "client",
    ];
    let columns = &columns[..columns.len() - if shows_clients { 0 } else { 3 }];
    html! {
        section aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            (table(id, &format!("{title}, as a table"), columns))
        }
    }
}

fn links(is_main: bool) -> Markup {
    let main_only = ["/docs", "/openapi.json"];
    let always = ["/statusz", "/livez?verbose", "/readyz?verbose"];
    let own = main_only.iter().filter(|_| is_main).chain(&always);
    html! {
        footer {
            p { @for path in own { a href=(path) { (path) } " " } }
        }
    }
}
