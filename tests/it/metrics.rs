//! `/metrics`: both formats, all series present from the start, counts that match what was done, and an
//! answer even if no prediction gets one.

use std::collections::BTreeMap;

use crate::support::{Connection, Response, Server, action, eventually, exchange, instance};
use crate::train::Folder;

mod guide;

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Asks for metrics on the probe listener.
pub fn scrape_as(server: &Server, method: &str, accept: &str) -> Response {
    let fields = format!("Host: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let request = format!("{method} /metrics HTTP/1.1\r\n{fields}");
    exchange(server.probe.unwrap(), &request)
}

/// Every series and its value from the text format; checks the rules of both formats.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut family, mut kind) = ("", "");
    let mut seen = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            match word {
                "HELP" => {
                    assert!(!seen.contains(&name), "{name} comes twice");
                    seen.push(name);
                    family = name;
                }
                "TYPE" => kind = rest,
                "UNIT" => assert!(name.ends_with(rest), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(family).unwrap();
        let suffixes: &[&str] = match kind {
            "counter" => &["_total", ""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            "gauge" => &[""],
            other => panic!("{other}: {line}"),
        };
        assert!(suffixes.contains(&suffix), "{line} in {family}");
        assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let before = samples.insert(series.to_owned(), value);
        assert!(before.is_none(), "{series} comes twice");
    }
    check_histograms(text, &samples);
    samples
}

/// Checks that cumulative bucket counts never decrease and that the last equals the count.
fn check_histograms(text: &str, samples: &BTreeMap<String, f64>) {
    let mut before = 0.0;
    let mut checked = 0;
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, count) = line.rsplit_once(' ').unwrap();
        let count: f64 = count.parse().unwrap();
        assert!(count >= before, "{line}");
        before = count;
        if series.contains("le=\"+Inf\"") {
            let total = series.replace("_bucket", "_count");
            let total = total.replace(",le=\"+Inf\"", "");
            assert_eq!(samples[&total], count, "{line}");
            before = 0.0;
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} histograms");
}

pub fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let answer = scrape_as(server, "GET", "*/*");
    assert_eq!(answer.status, 200, "{answer:?}");
    parse(&answer.body)
}

/// By how much a series has grown; it must be present before and after.
pub fn grown(name: &str, before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> f64 {
    let value = |samples: &BTreeMap<String, f64>| {
        *samples
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not there"))
    };
    value(after) - value(before)
}

#[test]
fn both_formats_are_answered_by_what_the_client_accepts() {
    let server = Server::real(&[]);
    server.wait_ready();
    let text = scrape_as(&server, "GET", "*/*");
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(text.field("content-type"), content_type);
    assert!(!text.body.contains("# EOF"));
    let open = scrape_as(
        &server,
        "GET",
        "text/plain;q=0.5,application/openmetrics-text",
    );
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.field("content-type"), content_type);
    assert!(open.body.ends_with("\n# EOF\n"));
    let (text, open) = (parse(&text.body), parse(&open.body));
    let names = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&text), names(&open), "the same series in both");
}

#[test]
fn head_has_the_length_of_what_get_would_give_and_nothing_else_is_allowed() {
    let server = Server::real(&[]);
    for accept in ["*/*", OPEN_METRICS] {
        let head = scrape_as(&server, "HEAD", accept);
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let length: usize = head.field("content-length").parse().unwrap();
        assert!(length > 10_000, "{head:?}");
    }
    let answer = scrape_as(&server, "POST", "*/*");
    assert_eq!((answer.status, answer.field("allow")), (405, "GET, HEAD"));
}

#[test]
fn the_main_listener_has_metrics_only_where_there_is_no_other() {
    let server = Server::real(&[]);
    let answer = server.get("/metrics");
    let port = format!("on port {}: GET /metrics", server.probe.unwrap().port());
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert!(answer.body.contains(&port), "{answer:?}");
    let server = Server::real(&["--probe-listen", "none"]);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    parse(&answer.body);
}

/// Series that must be present before anything has happened, without those of histograms.
const FROM_THE_START: [&str; 26] = [
    "lanekeeper_responses_total{status=\"405\",code=\"method_not_allowed\"}",
    "lanekeeper_responses_total{status=\"503\"}",
    "lanekeeper_predictions_total{outcome=\"ok\"}",
    "lanekeeper_predictions_total{outcome=\"rejected\"}",
    "lanekeeper_predictions_total{outcome=\"failed\"}",
    "lanekeeper_predictions_total{outcome=\"refused\"}",
    "lanekeeper_predictions_total{outcome=\"expired\"}",
    "lanekeeper_predictions_total{outcome=\"deadline_exceeded\"}",
    "lanekeeper_predictions_total{outcome=\"abandoned\"}",
    "lanekeeper_refusals_total{reason=\"overloaded\"}",
    "lanekeeper_refusals_total{reason=\"queue_full\"}",
    "lanekeeper_refusals_total{reason=\"draining\"}",
    "lanekeeper_refusals_total{reason=\"too_many_connections\"}",
    "lanekeeper_client_faults_total{reason=\"evicted\"}",
    "lanekeeper_client_faults_total{reason=\"over_budget\"}",
    "lanekeeper_probe_requests_total{probe=\"livez\",code=\"500\"}",
    "lanekeeper_probe_requests_total{probe=\"readyz\",code=\"503\"}",
    "lanekeeper_probe_latency_seconds_count{listener=\"probe\"}",
    "lanekeeper_prediction_waiting_seconds_count{outcome=\"expired\"}",
    "lanekeeper_prediction_service_seconds_count{outcome=\"ok\"}",
    "lanekeeper_prediction_sojourn_seconds_count{outcome=\"refused\"}",
    "lanekeeper_reloads_total{result=\"failed\"}",
    "lanekeeper_threads_replaced_total",
    "lanekeeper_paced_total{listener=\"main\"}",
    "lanekeeper_queue_length{lane=\"predict\"}",
    "lanekeeper_worker_busy_seconds_total{lane=\"predict\"}",
];

#[test]
fn everything_is_there_from_the_start() {
    let server = Server::fixture("slow-load", &["--probe-listen", "127.0.0.1:0"]);
    let samples = scrape(&server);
    for name in FROM_THE_START {
        assert_eq!(samples.get(name), Some(&0.0), "{name}");
    }
    for (name, value) in [
        ("lanekeeper_phase{phase=\"starting\"}", 1.0),
        ("lanekeeper_probe_passing{probe=\"livez\"}", 1.0),
        ("lanekeeper_probe_passing{probe=\"readyz\"}", 0.0),
        ("lanekeeper_saturation_ratio", 0.0),
        ("lanekeeper_connections{listener=\"probe\"}", 1.0),
        ("lanekeeper_connections{listener=\"main\"}", 0.0),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    for name in [
        "lanekeeper_trial_passed",
        "lanekeeper_last_completion_timestamp_seconds{lane=\"predict\"}",
        "lanekeeper_oldest_waiting_timestamp_seconds{lane=\"predict\"}",
    ] {
        assert!(samples[name].is_nan(), "{name} is {}", samples[name]);
    }
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(samples[name] > 0.0, "{name}");
    }
    let build = samples
        .keys()
        .find(|name| name.starts_with("lanekeeper_build_info{"));
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(build.unwrap().contains(version), "{build:?}");
    let model = samples
        .keys()
        .find(|name| name.starts_with("lanekeeper_model_info"));
    assert_eq!(model, None, "none is served yet");
}

#[test]
fn counts_move_by_exactly_what_was_done() {
    let server = Server::fixture("scripted", &["--probe-listen", "127.0.0.1:0"]);
    server.wait_ready();
    const READYZ: &str = "lanekeeper_probe_requests_total{probe=\"readyz\"";
    // A probe's latency is counted after its answer is written, so its client may be earlier.
    let mut before = BTreeMap::new();
    eventually("the probes so far are counted", || {
        before = scrape(&server);
        let asked = before.iter().filter(|(name, _)| name.starts_with(READYZ));
        let asked: f64 = asked.map(|(_, count)| count).sum();
        before["lanekeeper_probe_latency_seconds_count{listener=\"main\"}"] == asked
    });
    for _ in 0..3 {
        assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
    }
    assert_eq!(server.predict("{").status, 400);
    assert_eq!(server.predict(&instance(action::FAIL, 0.0)).status, 500);
    assert_eq!(server.predict(&instance(action::PANIC, 0.0)).status, 500);
    for _ in 0..4 {
        assert_eq!(server.probe("/livez").status, 200);
    }
    assert_eq!(server.get("/readyz").status, 200);
    server.status();
    let expected = [
        ("lanekeeper_predictions_total{outcome=\"ok\"}", 3.0),
        ("lanekeeper_predictions_total{outcome=\"rejected\"}", 1.0),
        ("lanekeeper_predictions_total{outcome=\"failed\"}", 2.0),
        ("lanekeeper_predictions_total{outcome=\"refused\"}", 0.0),
        ("lanekeeper_predictions_panicked_total", 1.0),
        (
            "lanekeeper_prediction_waiting_seconds_count{outcome=\"ok\"}",
            3.0,
        ),
        (
            "lanekeeper_prediction_service_seconds_count{outcome=\"ok\"}",
            3.0,
        ),
        (
            "lanekeeper_prediction_sojourn_seconds_count{outcome=\"ok\"}",
            3.0,
        ),
        (
            "lanekeeper_prediction_service_seconds_count{outcome=\"failed\"}",
            2.0,
        ),
        ("lanekeeper_jobs_completed_total{lane=\"predict\"}", 6.0),
        (
            "lanekeeper_probe_requests_total{probe=\"livez\",code=\"200\"}",
            4.0,
        ),
        (
            "lanekeeper_probe_requests_total{probe=\"readyz\",code=\"200\"}",
            1.0,
        ),
        (
            "lanekeeper_probe_requests_total{probe=\"statusz\",code=\"200\"}",
            1.0,
        ),
        (
            "lanekeeper_probe_latency_seconds_count{listener=\"probe\"}",
            4.0,
        ),
        (
            "lanekeeper_probe_latency_seconds_count{listener=\"main\"}",
            1.0,
        ),
    ];
    // The client has its answer before the worker has counted its job.
    let (mut scrapes, mut after) = (0.0, BTreeMap::new());
    eventually("all is counted", || {
        scrapes += 1.0;
        after = scrape(&server);
        let differs = |(name, count): &&(&str, f64)| grown(name, &before, &after) != *count;
        let differing = expected.iter().find(differs);
        if let Some((name, count)) = differing {
            eprintln!("{name}: {}, not {count}", grown(name, &before, &after));
        }
        differing.is_none()
    });
    // 6 predictions, 6 probes and the scrapes.
    let accepted = grown("lanekeeper_connections_accepted_total", &before, &after);
    assert_eq!(accepted, 12.0 + scrapes);
    let started = "process_start_time_seconds";
    assert_eq!(grown(started, &before, &after), 0.0, "no restart");
    let ago = |name: &str| after[name] - before[started];
    let completed = "lanekeeper_last_completion_timestamp_seconds{lane=\"predict\"}";
    assert!((0.0..60.0).contains(&ago(completed)), "{}", ago(completed));
}

#[test]
fn a_scrape_is_answered_while_every_worker_hangs_and_the_queue_is_full() {
    let args = ["--probe-listen", "127.0.0.1:0", "--predict-workers", "2"];
    let more = ["--predict-queue", "3", "--max-wait", "60s"];
    let mut server = Server::fixture("scripted", &[args, more].concat());
    server.wait_ready();
    let idle = scrape(&server);
    let held: Vec<Connection> = (0..2)
        .map(|_| server.begin(&instance(action::SPIN, 1.0)))
        .collect();
    eventually("both workers are busy", || server.busy() == 2);
    let mut queued: Vec<Connection> = (0..3).map(|_| server.begin(&instance(0.0, 1.0))).collect();
    eventually("three wait", || server.queued() == 3);
    for _ in 0..2 {
        assert_eq!(server.predict(&instance(0.0, 1.0)).status, 503);
    }
    let full = scrape(&server);
    for (name, value) in [
        ("lanekeeper_workers_busy{lane=\"predict\"}", 2.0),
        ("lanekeeper_queue_length{lane=\"predict\"}", 3.0),
        ("lanekeeper_queue_capacity{lane=\"predict\"}", 3.0),
        ("lanekeeper_saturation_ratio", 1.0),
    ] {
        assert_eq!(full[name], value, "{name}");
    }
    let refused = "lanekeeper_predictions_total{outcome=\"refused\"}";
    assert_eq!(grown(refused, &idle, &full), 2.0);
    let reasons = full
        .iter()
        .filter(|(name, _)| name.starts_with("lanekeeper_refusals_total"));
    assert_eq!(reasons.map(|(_, count)| count).sum::<f64>(), 2.0);
    // Refusals do not count in the latency of served predictions.
    let served = "lanekeeper_prediction_sojourn_seconds_count{outcome=\"ok\"}";
    assert_eq!(grown(served, &idle, &full), 0.0);
    let oldest = "lanekeeper_oldest_waiting_timestamp_seconds{lane=\"predict\"}";
    assert!(
        full[oldest] >= full["process_start_time_seconds"],
        "{}",
        full[oldest]
    );
    // Busy time includes predictions that still run.
    let busy = "lanekeeper_worker_busy_seconds_total{lane=\"predict\"}";
    assert!(grown(busy, &idle, &full) > 0.0);
    // A queued client leaves, and its prediction is discarded.
    queued.pop().unwrap().reset();
    let abandoned = "lanekeeper_predictions_total{outcome=\"abandoned\"}";
    eventually("it is counted", || {
        grown(abandoned, &full, &scrape(&server)) == 1.0
    });
    server.tell("release");
    for mut connection in held.into_iter().chain(queued) {
        assert_eq!(connection.read().status, 200);
    }
    // The client has its answer before the worker has counted its job.
    eventually("all are counted, and no worker is busy", || {
        let done = scrape(&server);
        let answered = "lanekeeper_predictions_total{outcome=\"ok\"}";
        grown(answered, &full, &done) == 4.0
            && done["lanekeeper_workers_busy{lane=\"predict\"}"] == 0.0
    });
    let done = scrape(&server);
    assert!(done[oldest].is_nan(), "nothing waits any more");
    assert!(grown(busy, &full, &done) > 0.0);
}

#[test]
fn few_scrapes_run_at_a_time_and_the_others_get_503() {
    // The rate limit is four first answers a second after a burst of eight, so scrapes pile up.
    let args = ["--probe-listen", "127.0.0.1:0", "--pace-probes", "1"];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut held = server.begin(&instance(action::BLOCK, 1.0));
    eventually("a worker is busy", || server.busy() == 1);
    let address = server.probe.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut clients: Vec<Connection> = (0..40).map(|_| Connection::open(address)).collect();
    for client in &mut clients {
        client.send(request.as_bytes());
    }
    let answers: Vec<Response> = clients.iter_mut().map(Connection::read).collect();
    let (told, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!told.is_empty() && !refused.is_empty(), "{}", told.len());
    for answer in refused {
        assert_eq!((answer.status, answer.code().as_str()), (503, "queue_full"));
        assert_eq!(answer.field("retry-after"), "1");
    }
    server.tell("release");
    assert_eq!(held.read().status, 200);
    let paced = scrape(&server);
    assert!(paced["lanekeeper_paced_total{listener=\"probe\"}"] > 0.0);
    assert!(paced["lanekeeper_paced_seconds_total{listener=\"probe\"}"] > 0.0);
}

#[test]
fn a_model_may_have_any_name() {
    let folder = Folder::new("metrics-name");
    let (file, name) = (folder.path("model.json"), r#"a "quoted" \n back\slash"#);
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iris.csv");
    let options = [
        "--algorithm",
        "decision-tree-classifier",
        "--target",
        "species",
    ];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args([
            "train", "--data", data, "--folds", "0", "--out", &file, "--name", name,
        ])
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let server = Server::real(&["--model", &file]);
    server.wait_ready();
    let escaped = r#"name="a \"quoted\" \\n back\\slash","#;
    for accept in ["*/*", OPEN_METRICS] {
        let body = scrape_as(&server, "GET", accept).body;
        assert!(body.contains(escaped), "{body}");
        parse(&body);
    }
}
