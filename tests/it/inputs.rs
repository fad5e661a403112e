//! Requests with mistakes: each answer says what is wrong, and whether client or server is at fault.

use crate::attacks::PREDICTION;
use crate::support::{
    Connection, Response, Server, action, eventually, exchange, instance, predict_request,
};
use crate::train::{Folder, train};

fn error(answer: &Response) -> String {
    let json = answer.json();
    json["error"].as_str().unwrap_or_default().to_owned()
}

/// The server's age in seconds at which the last trial began.
fn trial_began_at(server: &Server) -> f64 {
    let status = server.status();
    let seconds = |value: &serde_json::Value| value.as_f64().unwrap();
    seconds(&status["uptime_seconds"]) - seconds(&status["trial"]["began_age_seconds"])
}

#[test]
fn extreme_input_is_the_clients_error_and_asks_for_a_trial() {
    let folder = Folder::new("extreme");
    let mut table = "a,b,sum,kind\n".to_owned();
    for row in 0..60 {
        let (a, b) = (row % 7, row * row % 11);
        let kind = if 3 * a + 4 * b > 30 { "large" } else { "small" };
        table += &format!("{a},{b},{},{kind}\n", 3 * a + 4 * b + 1);
    }
    let table = folder.write("table.csv", table.as_bytes());
    for (algorithm, target) in [
        ("linear-regression", "sum"),
        ("ridge-regression", "sum"),
        ("knn-classifier", "kind"),
    ] {
        let out = folder.path(&format!("{algorithm}.json"));
        let features = ["--folds", "0", "--features", "a,b"];
        let trained = train(algorithm, &table, target, &out, &features);
        assert!(trained.status.success(), "{trained:?}");
        let server = Server::real(&["--model", &out, "--canary-interval", "1h"]);
        server.wait_ready();
        let trial = trial_began_at(&server);
        let far = "[1e308, 1.7e308]";
        for (body, row) in [
            (format!("{{\"instances\": [{far}]}}"), 0),
            (format!("{{\"instances\": [[1, 2], {far}, [3, 4]]}}"), 1),
        ] {
            let answer = server.predict(&body);
            let text = error(&answer);
            let seen = (answer.status, answer.code());
            assert_eq!(
                seen,
                (400, "invalid_input".to_owned()),
                "{algorithm}: {answer:?}"
            );
            let place = format!("instances[{row}]: the feature \"b\" must be ");
            assert!(text.starts_with(&place), "{algorithm}: {text}");
            assert!(text.ends_with("but is 1.7e308"), "{algorithm}: {text}");
        }
        let status = server.status();
        assert_eq!(status["predictions"]["failed"], 0, "{algorithm}: {status}");
        assert!(
            status["predictions"]["rejected"].as_u64() >= Some(1),
            "{status}"
        );
        assert_eq!(
            status["trial"]["failures_in_a_row"], 0,
            "{algorithm}: {status}"
        );
        assert!(
            !server.logged().contains("ERROR"),
            "{algorithm}: {}",
            server.logged()
        );
        if algorithm == "linear-regression" {
            eventually("the model is tried anew", || {
                trial_began_at(&server) > trial + 0.5
            });
        }
        assert_eq!(server.get("/readyz").status, 200, "{algorithm}");
    }
}

#[test]
fn an_answer_to_ordinary_input_that_is_not_finite_is_the_models_failure() {
    let server = Server::fixture("scripted", &["--canary-interval", "1h"]);
    server.wait_ready();
    let failed = server.predict(&instance(action::INFINITY, 1e100));
    let seen = (failed.status, failed.code());
    assert_eq!(seen, (500, "prediction_failed".to_owned()), "{failed:?}");
    let refused = server.predict(&instance(action::INFINITY, -2e100));
    let seen = (refused.status, refused.code());
    assert_eq!(seen, (400, "invalid_input".to_owned()), "{refused:?}");
    assert!(error(&refused).contains("\"value\"") && error(&refused).contains("-2e100"));
    let status = server.status();
    assert_eq!(status["predictions"]["failed"], 1, "{status}");
    assert_eq!(status["predictions"]["rejected"], 1, "{status}");
}

#[test]
fn json_that_users_really_send_is_read_or_told_what_it_is() {
    let server = Server::real(&[]);
    server.wait_ready();
    let row = |first: &str| format!("{{\"instances\": [[{first}, 3.5, 1.4, 0.2]]}}");
    let object = r#""sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4"#;
    let plain = server.predict(PREDICTION).body;
    for body in [
        format!("\u{feff}{PREDICTION}"),
        format!(
            r#"{{"instances": [{{"id": "a", "petal_width": 0.2, {object}, "more": [{{}}, null]}}]}}"#
        ),
    ] {
        let answer = server.predict(&body);
        assert_eq!((answer.status, answer.body), (200, plain.clone()), "{body}");
    }
    #[rustfmt::skip]
    let table = [
        (row("NaN"), "invalid_json", "\"sepal_length\" of instances[0] is NaN"),
        (row("-Infinity"), "invalid_json", "\"sepal_length\" of instances[0] is -Infinity"),
        (row("1e400"), "invalid_input", "\"sepal_length\" of instances[0] is 1e400"),
        (String::new(), "invalid_json", "the body is empty"),
        ("\u{feff}".to_owned(), "invalid_json", "the body is empty"),
        (format!(r#"{{"instances": [{{{object}, "width": 0.2}}]}}"#), "invalid_input", "lacks the feature \"petal_width\": it has sepal_length, sepal_width, petal_length, width; the model takes"),
    ];
    for (body, code, expected) in table {
        for form in ["", "Content-Type: application/x-www-form-urlencoded\r\n"] {
            let answer = exchange(server.main, &predict_request(&body, form));
            let seen = (answer.status, answer.code());
            assert_eq!(seen, (400, code.to_owned()), "{body}: {answer:?}");
            assert!(
                error(&answer).contains(expected),
                "{body}: {}",
                error(&answer)
            );
        }
    }
    let csv = predict_request("", "Content-Type: text/csv\r\n");
    let answer = exchange(server.main, &csv);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "invalid_input")
    );
    assert!(error(&answer).contains("the body is empty"), "{answer:?}");
}

#[test]
fn an_invalid_host_names_the_character_and_http_1_2_is_served() {
    let server = Server::real(&[]);
    let ask = |line: &str, host: &str| {
        let request = format!("{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(server.main, &request)
    };
    let refused = ask("GET /livez HTTP/1.1", "outbound|8080||name");
    let seen = (refused.status, refused.code());
    assert_eq!(seen, (400, "malformed_request".to_owned()), "{refused:?}");
    assert!(error(&refused).contains("the character |"), "{refused:?}");
    for version in ["1.2", "1.9"] {
        let answer = ask(&format!("GET /livez HTTP/{version}"), "a");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
    assert_eq!(ask("GET /livez HTTP/2.0", "a").status, 505);
    assert_eq!(server.status()["clients"]["malformed"], 2);
    // Connections of later minor versions are persistent, as in 1.1.
    let mut connection = Connection::open(server.main);
    for _ in 0..2 {
        connection.send(b"GET /livez HTTP/1.2\r\nHost: a\r\n\r\n");
        assert_eq!(connection.read().status, 200);
    }
}

#[test]
fn a_timeout_that_is_none_is_the_matter_of_predictions_alone() {
    let server = Server::real(&[]);
    server.wait_ready();
    for (value, is) in [("0", "\"0\""), ("", "empty"), ("soon", "\"soon\"")] {
        let field = format!("X-Request-Timeout: {value}\r\n");
        let mut connection = Connection::open(server.main);
        for path in ["/livez", "/readyz", "/statusz", "/"] {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n").as_bytes());
            let answer = connection.read();
            assert_eq!(answer.status, 200, "{value}: {answer:?}");
        }
        let request = predict_request(PREDICTION, &field);
        let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
        let check = |answer: Response| {
            let seen = (answer.status, answer.code());
            assert_eq!(
                seen,
                (400, "invalid_input".to_owned()),
                "{value}: {answer:?}"
            );
            let expected = format!("but is {is}");
            assert!(error(&answer).contains(&expected), "{value}: {answer:?}");
            assert_eq!(answer.field("connection"), "", "{value}: {answer:?}");
        };
        connection.send(request.as_bytes());
        check(connection.read());
        // The same if the body arrives after the head.
        connection.send(head.as_bytes());
        let soon = std::time::Duration::from_millis(20);
        assert!(connection.answered_within(soon).is_none(), "{value}");
        connection.send(body.as_bytes());
        check(connection.read());
        connection.send(predict_request(PREDICTION, "").as_bytes());
        assert_eq!(connection.read().status, 200, "{value}");
        let probe = format!("GET /livez HTTP/1.1\r\nHost: a\r\n{field}Connection: close\r\n\r\n");
        assert_eq!(exchange(server.probe.unwrap(), &probe).status, 200);
    }
    let status = server.status();
    assert_eq!(status["clients"]["malformed"], 0, "{status}");
    assert_eq!(status["predictions"]["rejected"], 6, "{status}");
}
