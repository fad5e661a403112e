//! A drill's findings as one self-contained HTML file with style sheet and plots. Pure.
//!
//! It has no script and loads nothing. Model names and paths are user-supplied and escaped like all
//! other text.

use crate::drill::findings::{Contender, Findings, PhaseResult, thousands};
use crate::drill::measure::Tally;
use crate::drill::plot;
use crate::drill::report::{millis, rate, share};
use crate::drill::svg::{axis_time, escape};
use crate::drill::text;
use crate::page::LOOK;

const STYLE: &str = include_str!("report.css");

/// Renders the whole file.
pub fn render(findings: &Findings) -> String {
    let model = &findings.request.model;
    let title = format!("lanekeeper drill of {model}: {}", findings.verdict());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{LOOK}{STYLE}</style>\n</head>\n<body>\n<main>\n{}{}{}{}{}{}{}</main>\n</body>\n</html>\n",
        escape(&title),
        head(findings),
        tiles(findings),
        plots(findings),
        probe_table(findings),
        load_table(findings),
        numbers(findings),
        how(findings),
    )
}

fn head(findings: &Findings) -> String {
    let (class, stamp) = match findings.passed() {
        true => ("passed", "✓ Passed"),
        false => ("failed", "✗ Failed"),
    };
    let request = &findings.request;
    format!(
        "<header class=\"{class}\">\n<p class=\"kicker\"><span class=\"stamp\">{stamp}</span> · lanekeeper drill of <b>{}</b> ({}) · {}</p>\n<h1>{}</h1>\n<p class=\"served\">{}</p>\n</header>\n",
        escape(&request.model),
        escape(&request.about),
        escape(&findings.machine.date),
        escape(&findings.verdict()),
        escape(&findings.summary().unwrap_or_default()),
    )
}

/// The most important figures.
fn tiles(findings: &Findings) -> String {
    let mut text =
        "<section class=\"grid tiles\" aria-label=\"Figures at the highest load\">\n".to_owned();
    let mut tile = |figure: String, label: String| {
        text.push_str(&format!(
            "<div class=\"card tile\"><b>{}</b><span>{}</span></div>\n",
            escape(&figure),
            escape(&label)
        ));
    };
    for contender in &findings.contenders {
        let Some(phase) = contender.highest() else {
            continue;
        };
        let (all, failed) = phase.probes_failed();
        let load = contender.load_text(phase);
        tile(
            format!("{} of {}", thousands(failed), thousands(all)),
            format!("probes failed at {load}, {}", contender.name),
        );
        if let Some(probes) = phase.probes.first() {
            let text = text::latency(&probes.tally, 0.99, findings.method.probe_timeout);
            let p99 = match text.strip_prefix("~>").or(text.strip_prefix('>')) {
                Some(_) => format!(
                    "over {}",
                    axis_time(findings.method.probe_timeout.as_secs_f64())
                ),
                None => format!("{text} ms"),
            };
            tile(p99, format!("p99 of probes at {load}, {}", contender.name));
        }
    }
    if let Some(contender) = findings.contenders.first()
        && let Some(phase) = contender.highest()
    {
        tile(
            format!("{:.0} %", 100.0 * contender.goodput_share(phase)),
            format!(
                "of its capacity ({}/s) still served in time at {}, {}",
                rate(contender.capacity),
                contender.load_text(phase),
                contender.name
            ),
        );
    }
    text.push_str("</section>\n");
    text
}

fn plots(findings: &Findings) -> String {
    let series = series_legend(findings);
    let ticks = "<li><svg viewBox=\"0 0 18 14\" aria-hidden=\"true\"><circle class=\"mark s0\" cx=\"9\" cy=\"7\" r=\"5\"/></svg>median</li>\
                 <li><svg viewBox=\"0 0 18 14\" aria-hidden=\"true\"><circle class=\"mark s0 p99\" cx=\"9\" cy=\"7\" r=\"5\"/></svg>p99</li>\
                 <li><svg viewBox=\"0 0 18 14\" aria-hidden=\"true\"><circle class=\"mark s0 max\" cx=\"9\" cy=\"7\" r=\"5\"/></svg>maximum</li>";
    let parts: String = plot::parts(&Tally::default())
        .iter()
        .map(|(class, name, _)| {
            let height = 14.0 * plot::bar_height(class);
            format!(
                "<li><svg viewBox=\"0 0 18 14\" aria-hidden=\"true\"><rect class=\"{class}\" y=\"{:.1}\" width=\"18\" height=\"{height:.1}\"/></svg>{name}</li>",
                14.0 - height
            )
        })
        .collect();
    let figure = |title: &str, caption: &str, svg: String, legend: &str| {
        format!(
            "<figure class=\"card\">\n<h3>{title}</h3>\n<figcaption>{caption}</figcaption>\n{svg}\n<ul class=\"legend\">{legend}</ul>\n</figure>\n"
        )
    };
    format!(
        "<h2>Plots</h2>\n<section class=\"grid\">\n{}{}{}{}</section>\n",
        figure(
            "Probes stay fast, whatever the load",
            "Time to the answer of a probe on a fresh connection, logarithmic. What reaches the dotted line fails.",
            plot::probe_latency(findings),
            &format!("{series}{ticks}"),
        ),
        figure(
            "The slowest probes at the highest load",
            "How many of the probes were answered within which time; the tail is at the right.",
            plot::probe_percentiles(findings),
            &series,
        ),
        figure(
            "What is served when too much is asked",
            "Answers in time a second, as a share of capacity. Dashed: all that was offered.",
            plot::goodput(findings),
            &series,
        ),
        figure(
            "What became of predictions",
            "Share of all requests at each load. A refusal says when to come back.",
            plot::outcomes(findings),
            &parts,
        ),
    )
    .replace("Probes stay fast, whatever the load", match findings.passed() {
        true => "Probes stay fast, whatever the load",
        false => "Latency of probes by load",
    })
}

fn series_legend(findings: &Findings) -> String {
    let item = |(series, contender): (usize, &Contender)| {
        let mark = match series {
            0 => "<line class=\"curve s0\" x1=\"0\" y1=\"7\" x2=\"18\" y2=\"7\"/><circle class=\"mark s0\" cx=\"9\" cy=\"7\" r=\"4\"/>".to_owned(),
            _ => format!("<line class=\"curve s{series}\" x1=\"0\" y1=\"7\" x2=\"18\" y2=\"7\"/><rect class=\"mark s{series}\" x=\"5\" y=\"3\" width=\"8\" height=\"8\"/>"),
        };
        format!(
            "<li><svg viewBox=\"0 0 18 14\" aria-hidden=\"true\">{mark}</svg>{}</li>",
            escape(&contender.name)
        )
    };
    findings.contenders.iter().enumerate().map(item).collect()
}

/// A table whose heading is also its accessible name.
fn table(title: &str, head: &[&str], body: &str) -> String {
    let head: String = head
        .iter()
        .map(|name| match *name {
            "outcomes" | "failures" | "because" | "value" => {
                format!("<th scope=\"col\" class=\"left\">{name}</th>")
            }
            name => format!("<th scope=\"col\">{name}</th>"),
        })
        .collect();
    format!(
        "<h2>{title}</h2>\n<div class=\"card scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )
}

fn row(class: &str, cells: &[(&str, String)]) -> String {
    let cells: String = cells
        .iter()
        .map(|(class, text)| match *class {
            "" => format!("<td>{}</td>", escape(text)),
            class => format!("<td class=\"{class}\">{}</td>", escape(text)),
        })
        .collect();
    format!("<tr class=\"{class}\">{cells}</tr>\n")
}

fn probe_table(findings: &Findings) -> String {
    let head = [
        "server, load",
        "listener",
        "probes",
        "failed",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "failures",
    ];
    let mut body = String::new();
    for_each_phase(findings, |contender, phase| {
        for probes in &phase.probes {
            let quantile = |q| {
                let text = text::latency(&probes.tally, q, findings.method.probe_timeout);
                ("", text)
            };
            let failing = if probes.tally.failed() > 0 {
                "failing"
            } else {
                ""
            };
            body.push_str(&row(
                "",
                &[
                    ("", format!("{}, {}", contender.name, phase.name)),
                    ("", probes.listener.to_owned()),
                    ("", thousands(probes.tally.requests())),
                    (failing, thousands(probes.tally.failed())),
                    quantile(0.5),
                    quantile(0.99),
                    quantile(0.999),
                    quantile(1.0),
                    ("wrap", text::outcomes_but_200(&probes.tally)),
                ],
            ));
        }
    });
    table("Probes", &head, &body)
}

fn load_table(findings: &Findings) -> String {
    let head = [
        "server, load",
        "offered/s",
        "of capacity",
        "goodput/s",
        "of capacity",
        "p50 ms",
        "p99 ms",
        "server cores",
        "clients",
        "others",
        "outcomes",
    ];
    let mut body = String::new();
    for_each_phase(findings, |contender, phase| {
        if phase.tally.requests() == 0 {
            return;
        }
        let tally = &phase.tally;
        let [clients, server, others] = text::cores(phase);
        body.push_str(&row(
            "",
            &[
                ("", format!("{}, {}", contender.name, phase.name)),
                ("", rate(phase.offered())),
                ("", share(phase.offered(), contender.capacity)),
                ("", rate(tally.per_second())),
                ("", share(tally.per_second(), contender.capacity)),
                ("", millis(tally.latencies.quantile(0.5))),
                ("", millis(tally.latencies.quantile(0.99))),
                ("", server),
                ("", clients),
                ("", others),
                ("wrap", text::outcomes(tally)),
            ],
        ));
    });
    table("Predictions", &head, &body)
}

fn for_each_phase(findings: &Findings, mut each: impl FnMut(&Contender, &PhaseResult)) {
    for contender in &findings.contenders {
        for phase in &contender.phases {
            each(contender, phase);
        }
    }
}

fn numbers(findings: &Findings) -> String {
    let body: String = findings
        .numbers
        .iter()
        .map(|number| {
            format!(
                "<tr><td><code>{}</code></td><td class=\"left\"><code>{}</code></td><td class=\"wrap\">{}</td></tr>\n",
                escape(number.name),
                escape(&number.value),
                escape(&number.reason)
            )
        })
        .collect();
    table(
        "For a manifest",
        &["field or option", "value", "because"],
        &body,
    )
}

fn how(findings: &Findings) -> String {
    let (machine, request) = (&findings.machine, &findings.request);
    let alone = &request.alone.latencies;
    let facts = [
        (
            "Machine",
            format!("{} CPUs, {}", machine.cpus, machine.processor),
        ),
        ("Kernel", machine.kernel.clone()),
        ("lanekeeper", machine.version.clone()),
        ("Date", machine.date.clone()),
        ("Model", format!("{} ({})", request.model, request.about)),
        (
            "Request body",
            format!(
                "{} ({} bytes, {})",
                request.body,
                thousands(request.body_bytes as u64),
                request.content_type
            ),
        ),
        (
            "One prediction at a time",
            format!(
                "p50 {} ms, p99 {} ms",
                millis(alone.quantile(0.5)),
                millis(alone.quantile(0.99))
            ),
        ),
    ];
    let facts: String = facts
        .iter()
        .map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>", escape(fact)))
        .collect();
    let notes: String = findings
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>", escape(note)))
        .collect();
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!("<h3>To be known about these figures</h3>\n<ul>{notes}</ul>\n"),
    };
    format!(
        "<h2>How it was measured</h2>\n<section class=\"card\">\n<dl>{facts}</dl>\n<p>{}</p>\n{notes}</section>\n",
        escape(&text::how(findings))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::findings::tests::findings;

    #[test]
    fn the_file_needs_no_other_and_runs_nothing() {
        let page = render(&findings(0, 31));
        for part in [
            "http://", "https://", "src=", "href=", "<script", "<link", "@import", "url(",
        ] {
            assert!(!page.contains(part), "{part} is in the page");
        }
        assert_eq!(page.matches("<svg viewBox=\"0 0 480").count(), 4);
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_verdict_comes_first_and_in_words() {
        let page = render(&findings(0, 31));
        let at = |part: &str| {
            page.find(part)
                .unwrap_or_else(|| panic!("{part} is missing"))
        };
        assert!(
            at("✓ Passed")
                < at(
                    "<h1>0 of 1,200 probes failed at 10x capacity; with one shared lane 31 of 1,231 did</h1>"
                )
        );
        assert!(at("<h1>") < at("<h2>Plots</h2>"));
        let page = render(&findings(3, 31));
        assert!(page.contains("✗ Failed") && !page.contains("stay fast"));
    }

    #[test]
    fn names_of_the_users_are_text() {
        let page = render(&findings(0, 0));
        assert!(!page.contains("<i>ris"), "a model's name is markup");
        assert!(page.contains("&lt;i&gt;ris &amp; &quot;co&quot;"));
        assert!(page.contains("a &lt; b") && page.contains("c &gt; d"));
    }
}
