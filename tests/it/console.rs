//! The console, the guide and what they show, without a browser.

use crate::support::{Response, Server, action, exchange, instance, predict_request};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn get(address: std::net::SocketAddr, path: &str, fields: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
    exchange(address, &request)
}

#[test]
fn a_browser_gets_one_document_that_permits_only_its_own_parts() {
    let server = Server::real(&[]);
    server.wait_ready();
    for (address, has_form) in [(server.main, true), (server.probe.unwrap(), false)] {
        let page = get(address, "/", BROWSER);
        assert_eq!(
            (page.status, page.field("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(page.body.len() < 60 * 1024, "{}", page.body.len());
        assert_eq!(page.body.contains("<form"), has_form);
        for part in [
            "http://", "https://", "src=", " style=", "onclick", "@import", ": url(",
        ] {
            // The namespace of SVG is a name and no address.
            let text = page.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(part), "{part} is in the page");
        }
        let policy = page.field("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.field("x-frame-options"), "DENY");
        assert_eq!(page.field("x-content-type-options"), "nosniff");
        let program = get(address, "/", "Accept: */*\r\n");
        assert_eq!(program.json()["status"], "alive", "{}", program.body);
    }
    let text = get(server.main, "/", "Accept: text/plain\r\n");
    assert!(text.body.contains("POST /predict"), "{}", text.body);
}

#[test]
fn without_a_console_browsers_get_the_page_of_text_on_the_main_listener() {
    let server = Server::real(&["--no-console"]);
    server.wait_ready();
    let page = get(server.main, "/", BROWSER);
    assert_eq!(page.field("content-type"), "text/plain; charset=utf-8");
    assert!(page.body.contains("POST /predict"), "{}", page.body);
    let page = get(server.probe.unwrap(), "/", BROWSER);
    assert_eq!(page.field("content-type"), "text/html; charset=utf-8");
}

#[test]
fn the_guide_is_a_page_for_browsers_and_markdown_for_others() {
    let server = Server::real(&[]);
    let index = get(server.main, "/docs", BROWSER);
    assert!(
        index.body.contains("href=\"/docs/console\""),
        "{}",
        index.body
    );
    let page = get(server.main, "/docs/console", BROWSER);
    assert!(
        page.body
            .contains("<h1 id=\"the-console\">The console</h1>"),
        "{}",
        page.body
    );
    let text = get(server.main, "/docs/console", "Accept: */*\r\n");
    assert!(text.body.starts_with("# The console\n"), "{}", text.body);
    let list = get(server.main, "/docs", "").body;
    assert!(list.contains("/docs/probes"), "{list}");
    let missing = get(server.main, "/docs/nonsense", BROWSER);
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (404, "not_found")
    );
    assert!(missing.body.contains("overload"), "{}", missing.body);
    assert_eq!(get(server.probe.unwrap(), "/docs", BROWSER).status, 404);
}

#[test]
fn request_ids_and_addresses_are_shown_on_the_probe_listener_or_if_asked_for() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (arguments, main_shows) in [(&[][..], false), (&["--console=full"][..], true)] {
        let server = Server::fixture("scripted", arguments);
        server.wait_ready();
        let fields = format!(
            "X-Request-Id: who-1\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nConnection: close\r\n"
        );
        let request = predict_request(&instance(action::FAIL, 1.0), &fields);
        assert_eq!(exchange(server.main, &request).status, 500);
        for (address, shows) in [(server.main, main_shows), (server.probe.unwrap(), true)] {
            let status = get(address, "/statusz", "").json();
            let failures = &status["recent"]["failures"];
            assert_eq!(failures.as_array().unwrap().len(), 1, "{status}");
            let failure = &failures[0];
            assert_eq!(failure["code"], "prediction_failed");
            let shown = ["request_id", "trace_id", "client"].map(|name| failure[name].as_str());
            match shows {
                true => assert_eq!(shown, [Some("who-1"), Some(TRACE), Some("127.0.0.1")]),
                false => assert_eq!(shown, [None; 3]),
            }
        }
        let logged = format!("request_id=who-1 traceparent=00-{TRACE}-00f067aa0ba902b7-01 ");
        crate::support::eventually("the request is logged", || {
            server.logged().contains(&logged)
        });
    }
}

#[test]
fn a_status_says_what_each_worker_is_on_and_since_when_a_verdict_stands() {
    let mut server = Server::fixture("scripted", &["--predict-workers=1", "--stall-timeout=50ms"]);
    server.wait_ready();
    let worker = |status: &serde_json::Value| status["lanes"]["predict"]["threads"][0].clone();
    let idle = server.status();
    assert_eq!(worker(&idle)["name"], "predict-0");
    assert!(worker(&idle)["busy_seconds"].is_null(), "{idle}");
    assert_eq!(idle["verdicts"]["livez"]["passes"], true);
    let passed_for = idle["verdicts"]["livez"]["since_seconds"].as_f64().unwrap();
    let fields = "X-Request-Id: long-1\r\n";
    let mut connection = crate::support::Connection::open(server.main);
    let request = predict_request(&instance(action::BLOCK, 1.0), fields);
    connection.send(request.as_bytes());
    crate::support::eventually("liveness fails", || server.get("/livez").status == 500);
    let status = server.status();
    let stuck = worker(&status);
    assert_eq!(
        (&stuck["stuck"], &stuck["request_id"]),
        (&true.into(), &"long-1".into())
    );
    assert!(stuck["busy_seconds"].as_f64().unwrap() >= 0.05, "{stuck}");
    let livez = &status["verdicts"]["livez"];
    assert_eq!(
        (&livez["passes"], &livez["check"]),
        (&false.into(), &"workers".into())
    );
    let main = server.get("/statusz").json();
    assert!(worker(&main)["request_id"].is_null(), "{main}");
    server.tell("release");
    assert_eq!(connection.read().status, 200);
    crate::support::eventually("liveness passes", || server.get("/livez").status == 200);
    let livez = server.status()["verdicts"]["livez"].clone();
    assert_eq!(livez["passes"], true);
    assert!(
        passed_for >= 0.0 && livez["since_seconds"].as_f64().is_some(),
        "{livez}"
    );
}

#[test]
fn a_prediction_says_where_its_time_went_and_other_answers_do_not() {
    let server = Server::real(&[]);
    server.wait_ready();
    let answer = server.predict(r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#);
    let timing = answer.field("server-timing").to_owned();
    let names: Vec<&str> = timing
        .split(", ")
        .map(|part| part.split(';').next().unwrap())
        .collect();
    assert_eq!(names, ["queue", "predict", "encode"], "{timing}");
    for part in timing.split(", ") {
        let time: f64 = part.split_once(";dur=").unwrap().1.parse().unwrap();
        assert!((0.0..30_000.0).contains(&time), "{timing}");
    }
    let wrong = server.predict(r#"{"instances": [["x"]]}"#);
    assert_eq!(wrong.status, 400);
    assert!(wrong.field("server-timing").contains("encode;dur="));
    assert_eq!(server.get("/livez").field("server-timing"), "");
}
