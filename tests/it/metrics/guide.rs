//! The guide's table, queries and alerts use metrics that exist, and Prometheus accepts them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{OPEN_METRICS, scrape_as};
use crate::support::{Server, has_programs, instance};
use crate::train::Folder;

/// The guide's page on metrics.
fn section() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/metrics.md")).unwrap()
}

/// The section's blocks of code in a language.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = section.split(&begin).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

fn queries(section: &str) -> Vec<String> {
    let blocks = blocks(section, "promql");
    let lines = blocks.iter().flat_map(|block| block.lines());
    lines
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("lanekeeper_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Names of families as the text format has them.
fn exported(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect()
}

/// A server that has served, and what it exports in the text format.
fn scraped() -> (Server, String) {
    let server = Server::real(&[]);
    server.wait_ready();
    server.predict("{\"instances\": [[5.1, 3.5, 1.4, 0.2]]}");
    server.predict(&instance(0.0, 0.0));
    let text = scrape_as(&server, "GET", "*/*").body;
    (server, text)
}

/// Absent without a limit, or if the kernel does not provide it.
fn may_be_missing(name: &str) -> bool {
    name.starts_with("lanekeeper_cgroup_") || name == "process_open_fds"
}

#[test]
fn the_table_lists_what_is_exported_and_nothing_else() {
    let section = section();
    let table: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let listed = names(&table.join("\n"));
    let exported = exported(&scraped().1);
    let unlisted: Vec<_> = exported.difference(&listed).collect();
    assert!(unlisted.is_empty(), "not in the guide: {unlisted:?}");
    let absent = listed
        .difference(&exported)
        .filter(|name| !may_be_missing(name));
    let absent: Vec<_> = absent.collect();
    assert!(absent.is_empty(), "only in the guide: {absent:?}");
}

#[test]
fn queries_and_alerts_are_about_series_that_there_are() {
    let section = section();
    let (server, text) = scraped();
    drop(server);
    let series: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let queries = queries(&section);
    assert!(queries.len() > 5, "{queries:?}");
    let alerts = blocks(&section, "yaml").pop().unwrap();
    assert_eq!(alerts.matches("- alert:").count(), 3);
    for name in names(&(queries.join("\n") + &alerts)) {
        assert!(series.contains(&*name), "{name} is in no scrape");
    }
    // Check label values too: a misspelt one never selects anything.
    for (label, values) in [
        ("outcome", "refused|expired|deadline_exceeded"),
        ("outcome", "ok"),
        ("lane", "predict"),
        ("listener", "probe"),
    ] {
        for value in values.split('|') {
            assert!(
                text.contains(&format!("{label}=\"{value}\"")),
                "{label} {value}"
            );
        }
    }
}

/// Runs promtool; `None` if it is not installed.
fn promtool(args: &[&str], input: &str) -> Option<(bool, String)> {
    if !has_programs(&["promtool"]) {
        return None;
    }
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(text).unwrap()))
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let (server, text) = scraped();
    let Some(said) = promtool(&["check", "metrics"], &text) else {
        return;
    };
    assert_eq!(said, (true, String::new()));
    // promtool does not read OpenMetrics; another test checks that both formats have the same series.
    let open = scrape_as(&server, "GET", OPEN_METRICS).body;
    assert!(open.ends_with("# EOF\n"));
}

#[test]
fn promtool_accepts_the_rules_and_the_alerts_fire_when_they_should() {
    let section = section();
    let folder = Folder::new("metrics-readme");
    let write = |name: &str, text: &str| {
        let path = folder.path(name);
        fs::write(&path, text).unwrap();
        path
    };
    let [scrapes, rules] = &blocks(&section, "yaml")[..] else {
        panic!("{section}");
    };
    // Each query becomes a rule, because promtool checks rules only.
    let mut queried = "groups:\n  - name: queries\n    rules:\n".to_owned();
    for (index, query) in queries(&section).iter().enumerate() {
        queried += &format!("      - record: a:b{index}\n        expr: '{query}'\n");
    }
    let scrapes = write("prometheus.yaml", scrapes);
    let queried = write("queries.yaml", &queried);
    let rules = write("rules.yaml", rules);
    let tests = write("alerts.yaml", include_str!("alerts.yaml"));
    for args in [
        ["check", "config", scrapes.as_str()],
        ["check", "rules", queried.as_str()],
        ["check", "rules", rules.as_str()],
        ["test", "rules", tests.as_str()],
    ] {
        let Some((succeeded, said)) = promtool(&args, "") else {
            return;
        };
        assert!(succeeded, "{args:?}: {said}");
    }
}
