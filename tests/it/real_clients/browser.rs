//! The console in a browser: headless Chromium, driven by `tests/browser/drive.py`.
//!
//! Pictures of each state stay where cargo keeps the tests' files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{are_asked_for, environment, folder};
use crate::support::{Server, action, eventually, has_programs, instance};
use crate::tables::PENGUINS;
use crate::train::{Folder, run, stderr};

/// A page of a browser, which ends with it.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts one; `None` where these tests are not asked for or there is no Chromium.
    fn start() -> Option<Self> {
        if !are_asked_for() || !has_programs(&["chromium"]) {
            return None;
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let python = environment("console", &scripts.join("console.txt"), &[]);
        let mut child = Command::new(python)
            .arg("-B")
            .arg(scripts.join("drive.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Browser {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        })
    }

    fn ask(&mut self, command: Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{command}: the driver ended ({error})"));
        match answer.get("failed") {
            Some(text) => panic!("{command}: {text}"),
            None => answer["ok"].clone(),
        }
    }

    fn open(&mut self, url: &str) {
        self.ask(json!(["open", url]));
    }

    fn wait(&mut self, selector: &str, text: &str) {
        self.ask(json!(["wait", selector, text]));
    }

    fn text(&mut self, selector: &str) -> String {
        let text = self.ask(json!(["text", selector]));
        text.as_str().unwrap().to_owned()
    }

    fn count(&mut self, selector: &str) -> u64 {
        self.ask(json!(["count", selector])).as_u64().unwrap()
    }

    /// Looks at the page as it is, in light and dark, wide and narrow, and keeps a picture of each.
    fn inspect(&mut self, name: &str) {
        let pictures = pictures();
        for (width, scheme) in [(1200, "light"), (1200, "dark"), (320, "light")] {
            self.ask(json!(["look", width, scheme]));
            let picture = pictures.join(format!("{name}-{width}-{scheme}.png"));
            self.ask(json!(["picture", picture]));
            assert_eq!(self.ask(json!(["overflow"])), 0, "{name} at {width}");
            assert_eq!(
                self.ask(json!(["axe"])),
                json!([]),
                "{name}, {width} {scheme}"
            );
        }
        self.ask(json!(["look", 1200, "light"]));
    }

    /// Waits until the page has drawn so many answers of `/statusz` in all, and with the last one has
    /// planned its next question. More answers are a failure.
    fn expect_statuses(&mut self, count: u64) {
        self.wait("#stamp", "✓ Well");
        // The chart has a point between two answers.
        let expected = json!([count, count - 1]);
        eventually("the page has drawn its answers", || {
            let seen = self.ask(json!(["statuses"]));
            assert!(seen[0].as_u64().unwrap() <= count, "{seen}");
            seen == expected
        });
    }

    /// Holds that the browser had nothing to complain of.
    fn expect_no_errors(&mut self) {
        assert_eq!(self.ask(json!(["errors"])), json!([]));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pictures() -> PathBuf {
    let pictures = folder().join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    pictures
}

/// CPU time of a process so far, in clock ticks of 10 ms.
fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Fields 14 and 15 of the line, of which 3 is the first here.
    [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().unwrap())
        .sum()
}

fn polls(server: &Server) -> u64 {
    // The server's own question is one of them.
    server.status()["probes"].as_u64().unwrap()
}

#[test]
fn the_console_goes_from_well_to_stalled_to_well_and_survives_a_restart() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let arguments = [
        "--stall-timeout=1s",
        "--predict-workers=1",
        "--canary-interval=1h",
    ];
    let mut server = Server::fixture("scripted", &arguments);
    server.wait_ready();
    let main = server.main;
    browser.open(&format!("http://{main}/"));
    browser.wait("#stamp", "✓ Well");
    browser.wait("#verdict-livez", "passes");
    browser.inspect("well");

    // A prediction from the form, which asks the fixture for its second value.
    browser.ask(json!(["fill", "#field-0", action::ANSWER.to_string()]));
    browser.ask(json!(["fill", "#field-1", "1e-3"]));
    browser.ask(json!(["click", "button[type=submit]"]));
    browser.wait("#timing", "200 after");
    let timing = browser.text("#timing");
    for part in ["queue", "predict", "encode", "request"] {
        assert!(timing.contains(part), "{timing}");
    }
    assert_eq!(
        browser.text("#answer"),
        r#"{"model":"scripted","predictions":[0.001]}"#
    );
    assert!(
        browser
            .text("#curl")
            .contains(r#"/predict -d '{"instances": [{"action": 0, "value": 1e-3}]}'"#)
    );

    // A refusal and a failure are listed, without ids: this is the main listener.
    browser.ask(json!(["fill", "#field-0", action::FAIL.to_string()]));
    browser.ask(json!(["click", "button[type=submit]"]));
    browser.wait("#timing", "500 after");
    browser.wait("#failures", "prediction_failed");
    assert_eq!(browser.count("#failures th"), 4);
    browser.ask(json!(["fill", "#field-0", action::ANSWER.to_string()]));
    browser.ask(json!(["click", "button[type=submit]"]));
    browser.wait("#timing", "200 after");
    // The browser itself reports the answer 500.
    browser.ask(json!(["errors"]));

    let mut stuck = server.begin(&instance(action::BLOCK, 1.0));
    browser.wait("#stamp", "✗ Stalled");
    browser.wait("#verdict-livez .reason", "[workers]");
    browser.wait("#workers", "stuck");
    browser.inspect("stalled");
    server.tell("release");
    assert_eq!(stuck.read().status, 200);
    browser.wait("#stamp", "✓ Well");
    browser.expect_no_errors();

    // At a poll a second, 1 % of a core is 10 ms a poll, which is a tick.
    let (asked, before) = (polls(&server), ticks(&server));
    eventually("the page asks eight times more", || {
        polls(&server) >= asked + 16
    });
    let (asked, spent) = (polls(&server) - asked, ticks(&server) - before);
    assert!(spent <= asked, "{spent} ticks for {asked} questions");

    let address = format!("--listen={main}");
    drop(server);
    browser.wait("#stamp", "? Unknown");
    browser.wait("#link", "Next try in");
    browser.inspect("unknown");
    // The port after it may be another's by now.
    let place = [&*address, "--probe-listen=127.0.0.1:0"];
    let server = Server::fixture("scripted", &[&arguments[..], &place].concat());
    server.wait_ready();
    browser.wait("#stamp", "✓ Well");
}

#[test]
fn the_console_asks_once_a_second_and_not_at_all_in_a_hidden_tab() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::real(&[]);
    server.wait_ready();
    browser.ask(json!(["stop_clock"]));
    browser.open(&format!("http://{}/", server.main));
    // Its first question is due at once, each later one a second after an answer.
    browser.ask(json!(["pass_time", 0.1]));
    for answers in 1..=4 {
        browser.expect_statuses(answers);
        browser.ask(json!(["pass_time", 0.5]));
        browser.expect_statuses(answers);
        browser.ask(json!(["pass_time", 0.5]));
    }
    browser.expect_statuses(5);
    browser.ask(json!(["hide", true]));
    browser.ask(json!(["pass_time", 200]));
    browser.expect_statuses(5);
    browser.ask(json!(["hide", false]));
    browser.ask(json!(["pass_time", 0.1]));
    browser.expect_statuses(6);
    browser.expect_no_errors();
}

#[test]
fn the_console_on_the_probe_listener_shows_who_was_refused() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::fixture("scripted", &["--predict-workers=1"]);
    server.wait_ready();
    let field = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Request-Id: who-1\r\n";
    let request = crate::support::predict_request(&instance(action::FAIL, 1.0), field);
    assert_eq!(crate::support::exchange(server.main, &request).status, 500);
    browser.open(&format!("http://{}/", server.probe.unwrap()));
    browser.wait("#failures", "prediction_failed");
    let listed = browser.text("#failures");
    for part in ["who-1", "4bf92f3577b34da6a3ce929d0e0e4736", "127.0.0.1"] {
        assert!(listed.contains(part), "{listed}");
    }
    assert_eq!(browser.count("#form"), 0);
    browser.inspect("probe-listener");
    browser.expect_no_errors();
}

#[test]
fn the_form_has_a_field_for_each_kind_of_column_and_the_guide_is_a_page() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let folder = Folder::new("console-penguins");
    let out = folder.path("m.json");
    let trained = run(&[
        "train", "--data", PENGUINS, "--target", "species", "--out", &out,
    ]);
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let server = Server::real(&["--model", &out]);
    server.wait_ready();
    browser.open(&format!("http://{}/", server.main));
    browser.wait("#stamp", "✓ Well");
    assert_eq!(browser.count("#form select"), 2);
    browser.ask(json!(["click", "button[type=submit]"]));
    browser.wait("#timing", "200 after");
    browser.ask(json!(["select", "#form select[name=island]", "Biscoe"]));
    browser.ask(json!(["select", "#form select[name=sex]", "(missing)"]));
    browser.ask(json!(["fill", "#form input[name=bill_length_mm]", ""]));
    browser.ask(json!(["fill", "#form input[name=bill_depth_mm]", "14.9"]));
    browser.ask(json!([
        "fill",
        "#form input[name=flipper_length_mm]",
        "219"
    ]));
    browser.ask(json!(["fill", "#form input[name=body_mass_g]", "5100"]));
    browser.ask(json!(["click", "button[type=submit]"]));
    browser.wait("#answer", "Gentoo");
    let curl = browser.text("#curl");
    for part in [
        r#""island": "Biscoe""#,
        r#""bill_length_mm": null"#,
        r#""sex": null"#,
    ] {
        assert!(curl.contains(part), "{curl}");
    }
    browser.inspect("penguins");
    browser.expect_no_errors();

    browser.open(&format!("http://{}/docs", server.main));
    browser.inspect("docs");
    browser.ask(json!(["click", "a[href='/docs/api']"]));
    browser.wait("h1", "The HTTP API");
    browser.inspect("docs-api");
    browser.expect_no_errors();
}
