//! `/docs`: the guide in a browser, from the files that `lanekeeper help` prints. Pure.
//!
//! Runs on connection threads. Other clients than browsers get the same text as Markdown.

use std::sync::LazyLock;

use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

use crate::guide::{self, Topic};
use crate::page::{Assets, Page};

/// What a page takes of memory while it is made, at most.
pub(crate) const BYTES_MAX: usize = 256 * 1024;

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets::new(include_str!("docs.css"), ""));

/// The list of topics as text.
pub(crate) fn list() -> String {
    let lines = guide::TOPICS
        .iter()
        .map(|topic| format!("/docs/{:<12}{}\n", topic.name, topic.summary));
    lines.collect()
}

/// The list of topics as a page, with the endpoints as `GET /` tells them.
pub(crate) fn index(endpoints: &str) -> Page {
    let body = html! {
        main .guide {
            h1 { "lanekeeper " (env!("CARGO_PKG_VERSION")) }
            p { "The guide, as " code { "lanekeeper help TOPIC" } " prints it. " a href="/openapi.json" { "/openapi.json" } " describes every request for programs; " a href="/" { "the console" } " shows how the server is." }
            h2 { "Topics" }
            dl .card {
                @for topic in guide::TOPICS {
                    dt { a href={ "/docs/" (topic.name) } { (topic.name) } }
                    dd { (topic.summary) }
                }
            }
            h2 { "Endpoints" }
            pre .card tabindex="0" { (endpoints) }
        }
    };
    ASSETS.page("Guide · lanekeeper", &body)
}

/// A topic as a page.
pub(crate) fn topic(topic: &Topic) -> Page {
    let body = html! {
        main .guide {
            nav aria-label="Guide" { p { a href="/docs" { "Guide" } " · " a href="/" { "Console" } } }
            (rendered(topic.text))
        }
    };
    ASSETS.page(&format!("{} · lanekeeper", topic.name), &body)
}

/// Markdown of our own as HTML: with an id for each heading, and links between topics as paths.
fn rendered(markdown: &str) -> Markup {
    let parser = Parser::new_ext(markdown, Options::ENABLE_TABLES);
    let mut events: Vec<Event<'_>> = parser.map(with_paths).collect();
    for start in 0..events.len() {
        let id = match &events[start] {
            Event::Start(Tag::Heading { .. }) => slug(&events[start + 1..]),
            _ => continue,
        };
        if let Event::Start(Tag::Heading { id: place, .. }) = &mut events[start] {
            *place = Some(id.into());
        }
    }
    let mut text = String::with_capacity(markdown.len() * 2);
    let scrolling = events.into_iter().flat_map(scrolling);
    pulldown_cmark::html::push_html(&mut text, scrolling);
    // A wide block scrolls, which needs the focus. In text, a tag would be escaped.
    let text = text.replace("<pre>", "<pre tabindex=\"0\">");
    // The guide is part of this program.
    PreEscaped(text)
}

/// Turns a link to another topic's file into its path.
fn with_paths(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            let dest_url = match dest_url.split_once(".md") {
                Some((name, anchor)) if guide::topic(name).is_some() => {
                    CowStr::from(format!("/docs/{name}{anchor}"))
                }
                _ => dest_url,
            };
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            })
        }
        other => other,
    }
}

/// Lets a table scroll by itself where the page is narrow.
fn scrolling(event: Event<'_>) -> impl Iterator<Item = Event<'_>> {
    let html = |text: &'static str| Some(Event::Html(text.into()));
    let (before, after) = match &event {
        Event::Start(Tag::Table(_)) => {
            let region =
                "<div class=\"card scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\">";
            (html(region), None)
        }
        Event::End(TagEnd::Table) => (None, html("</div>")),
        _ => (None, None),
    };
    [before, Some(event), after].into_iter().flatten()
}

/// The id of a heading whose content comes first in these events: its words in lower case.
fn slug(events: &[Event<'_>]) -> String {
    let content = events
        .iter()
        .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    let mut slug = String::new();
    for event in content {
        if let Event::Text(text) | Event::Code(text) = event {
            slug.extend(text.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
                _ => None,
            }));
        }
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<&str> {
        let parts = text.split(" id=\"").skip(1);
        parts.filter_map(|part| part.split('"').next()).collect()
    }

    #[test]
    fn every_link_of_the_guide_leads_to_a_topic_and_a_heading() {
        for topic in guide::TOPICS {
            let text = rendered(topic.text).0;
            for part in text.split("href=\"").skip(1) {
                let link = part.split('"').next().unwrap();
                if link.starts_with("http") {
                    continue;
                }
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = match path {
                    "" => Some(topic),
                    path => path.strip_prefix("/docs/").and_then(guide::topic),
                };
                let target = target.unwrap_or_else(|| panic!("{}: {link}", topic.name));
                let there = rendered(target.text).0;
                assert!(
                    anchor.is_empty() || ids(&there).contains(&anchor),
                    "{}: {link}",
                    topic.name
                );
            }
        }
    }

    #[test]
    fn a_topic_is_a_page_with_its_tables_and_headings() {
        let page = topic(guide::topic("api").unwrap());
        assert!(
            page.html
                .contains("<h2 id=\"other-paths\">Other paths</h2>"),
            "{}",
            page.html
        );
        assert_eq!(
            page.html.matches("<table>").count(),
            page.html.matches("role=\"group\"").count()
        );
        assert!(page.html.len() < BYTES_MAX / 4);
    }

    #[test]
    fn the_index_lists_all_topics() {
        let (page, text) = (index("GET /<x>"), list());
        for topic in guide::TOPICS {
            assert!(
                page.html
                    .contains(&format!("href=\"/docs/{}\"", topic.name))
            );
            assert!(text.contains(topic.summary));
        }
        assert!(page.html.contains("GET /&lt;x&gt;"));
    }
}
