//! What is neither a prediction nor a probe: pages, documents, the metrics. They are made on the
//! connection's thread, and cost no prediction.

use super::{After, Connection, RequestInProgress};
use crate::guide;
use crate::http::body::BodyDecoder;
use crate::http::request_head::Framing;
use crate::http::response::Answer;
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::lanes::memory_budget::Charge;
use crate::platform::address::Address;
use crate::protocol::routes::{self, Document, ListenerKind};
use crate::serving::index_page::{self, RootForm};
use crate::serving::{console, docs, documents};
use crate::vitals::Owed;

/// Maximum size of the request for the list of models, in bytes.
const INDEX_BODY_MAX: usize = 4096;

impl Connection<'_> {
    /// Answers `/`: the console for a browser, a page of text for who wants text, and for a program
    /// that the server is alive.
    pub(super) fn answer_root(
        &mut self,
        asked: &RequestInProgress,
    ) -> Result<After, ConnectionEnd> {
        let http = &self.listener.http;
        let kind = self.listener.kind;
        let is_off = kind == ListenerKind::Main && http.context.config.no_console;
        match index_page::wanted(asked.head.accept.as_deref()) {
            RootForm::Html if !is_off => {
                let page = || Answer::html(console::render(&http.context, kind));
                self.answer_page(asked, console::BYTES_MAX, page)
            }
            RootForm::Html | RootForm::Text if kind == ListenerKind::Main => {
                let page = Answer::text(200, self.endpoints());
                self.answer_other(asked, page, None, false)
            }
            _ => self.answer_probe(asked, routes::root_probe()),
        }
    }

    /// Answers with the guide: a page for a browser, otherwise Markdown.
    pub(super) fn answer_docs(
        &mut self,
        asked: &RequestInProgress,
        topic: Option<&'static str>,
    ) -> Result<After, ConnectionEnd> {
        let topic = topic.and_then(guide::topic);
        let is_html = index_page::wanted(asked.head.accept.as_deref()) == RootForm::Html;
        let endpoints = self.endpoints();
        let page = || match (is_html, topic) {
            (true, Some(topic)) => Answer::html(docs::topic(topic)),
            (true, None) => Answer::html(docs::index(&endpoints)),
            (false, Some(topic)) => Answer::text(200, topic.text),
            (false, None) => Answer::text(200, docs::list()),
        };
        self.answer_page(asked, docs::BYTES_MAX, page)
    }

    /// Answers with a page, if memory for it can be had.
    fn answer_page(
        &mut self,
        asked: &RequestInProgress,
        bytes_max: usize,
        page: impl FnOnce() -> Answer,
    ) -> Result<After, ConnectionEnd> {
        let mut charge = Charge::new(&self.listener.http.context.budget);
        let page = charge.grow(bytes_max).and_then(|()| {
            let page = page();
            // A client that reads slowly holds no more than the page.
            charge.clear();
            charge.grow(page.body.len()).map(|()| page)
        });
        match page {
            Ok(page) => self.answer_other(asked, page, None, false),
            Err(error) => {
                let answer = self.error(&error, &asked.request_id);
                self.answer_other(asked, answer, Some(&error), false)
            }
        }
    }

    /// The endpoints, with curl lines for this client.
    fn endpoints(&self) -> String {
        let http = &self.listener.http;
        let probe = http.probe_address.as_ref();
        index_page::render(&http.context, &self.reached_at(), probe)
    }

    /// The address at which the client reached the server.
    fn reached_at(&self) -> Address {
        let local = self.socket().local_addr().ok();
        let tcp = local.and_then(|address| address.as_socket());
        tcp.map_or_else(|| self.listener.http.main_address.clone(), Address::Tcp)
    }

    pub(super) fn answer_document(
        &mut self,
        asked: &mut RequestInProgress,
        document: &Document,
    ) -> Result<After, ConnectionEnd> {
        let mut charge = Charge::new(&self.listener.http.context.budget);
        let rendered = self
            .read_index_request(asked, document)
            .and_then(|ready_only| {
                let context = &self.listener.http.context;
                charge.grow(documents::bytes(context, document))?;
                let probe = self.listener.http.probe_address.as_ref();
                Ok(documents::render(context, document, ready_only, probe)?)
            });
        match rendered {
            Ok(payload) => self.answer_other(asked, Answer::from(payload), None, false),
            Err(RequestStop::Respond(error)) => {
                let answer = self.error(&error, &asked.request_id);
                self.answer_other(asked, answer, Some(&error), false)
            }
            Err(RequestStop::Close(end)) => Err(end),
        }
    }

    /// Reads the body of the one document that has one: whether only models that are ready are
    /// listed.
    fn read_index_request(
        &mut self,
        asked: &mut RequestInProgress,
        document: &Document,
    ) -> Result<bool, RequestStop> {
        if *document != Document::Index || asked.head.framing == Framing::None {
            return Ok(false);
        }
        let charge = Charge::new(&self.listener.http.context.budget);
        let decoder = BodyDecoder::new(asked.head.framing, INDEX_BODY_MAX, charge)?;
        asked.unread = true;
        asked.buffered = 0;
        let body = self.input.read_body(&asked.head, decoder)?;
        asked.unread = false;
        Ok(documents::wants_ready_only(&body.bytes)?)
    }

    pub(super) fn answer_scrape(
        &mut self,
        asked: &RequestInProgress,
    ) -> Result<After, ConnectionEnd> {
        let http = &self.listener.http;
        let scrape = Owed::new(&http.exporter.scrapes);
        let accept = asked.head.accept.as_deref();
        // A refused client delays nobody while it waits for its slot.
        match http.exporter.scrape(&http.context, accept) {
            Ok(payload) => {
                let _scrape = scrape;
                self.answer_other(asked, Answer::from(payload), None, false)
            }
            Err(error) => {
                drop(scrape);
                let answer = self.error(&error, &asked.request_id);
                self.answer_other(asked, answer, Some(&error), false)
            }
        }
    }
}
