//! A drill's findings as plain text for a terminal. Pure.

use std::time::Duration;

use crate::drill::findings::{Contender, Findings, PhaseResult, Probes, Quantile, thousands};
use crate::drill::measure::Tally;
use crate::drill::report::{TextTable, millis, rate, share};

/// Renders everything: verdict, tables, notes, and the numbers for a manifest.
pub fn render(findings: &Findings) -> String {
    let mut text = format!("\n{}.\n", findings.verdict());
    if let Some(summary) = findings.summary() {
        text.push_str(&format!("{summary}\n"));
    }
    text.push_str(&format!(
        "\nProbes, on fresh connections; a probe fails where there is no 200 within {}\n{}",
        humantime::format_duration(findings.method.probe_timeout),
        probes(findings)
    ));
    text.push_str(&format!(
        "\nPredictions; clients wait {}\n{}\nWhat became of them\n{}",
        humantime::format_duration(findings.method.client_timeout),
        load(findings),
        all_outcomes(findings)
    ));
    text.push_str(&format!("\n{}\n", how(findings)));
    for note in &findings.notes {
        text.push_str(&format!("- {note}\n"));
    }
    text.push_str("\nFor a manifest (lanekeeper manifest kubernetes prints one):\n");
    for number in &findings.numbers {
        text.push_str(&format!(
            "  {:<46} {}\n",
            format!("{}: {}", number.name, number.value),
            number.reason
        ));
    }
    text
}

/// What every reader of figures asks, in one paragraph.
pub fn how(findings: &Findings) -> String {
    let (machine, method) = (&findings.machine, &findings.method);
    let quota = machine
        .cpu_quota
        .map_or(String::new(), |quota| format!(", limited to {quota} CPUs"));
    format!(
        "Measured on {} CPUs{quota} ({}, {}) that server, clients and probes share, {}, lanekeeper {}. \
         Capacity: completions a second of a closed loop with twice as many connections as workers, over {}. \
         Loads: open loop, latencies from when a request ought to be sent. Goodput: answers 200 within the \
         client's timeout, by arrival in a window of {} that opens one timeout after the load began. \
         ~: a quantile from too few probes (1,000 for p99, 10,000 for p99.9).",
        machine.cpus,
        machine.processor,
        machine.kernel,
        machine.date,
        machine.version,
        humantime::format_duration(method.capacity_window),
        humantime::format_duration(method.window),
    )
}

fn probes(findings: &Findings) -> TextTable {
    let head = [
        "server", "load", "listener", "probes", "failed", "p50 ms", "p99 ms", "p99.9 ms", "max ms",
    ];
    let mut table = TextTable::new(&head);
    for contender in &findings.contenders {
        for (first, phase) in contender.phases.iter().enumerate() {
            for (index, probes) in phase.probes.iter().enumerate() {
                let once = |shown: bool, text: &str| if shown { text } else { "" }.to_owned();
                let quantile = |q| latency(&probes.tally, q, findings.method.probe_timeout);
                table.row([
                    once(first + index == 0, &contender.name),
                    once(index == 0, &phase.name),
                    probes.listener.to_owned(),
                    thousands(probes.tally.requests()),
                    failed(probes),
                    quantile(0.5),
                    quantile(0.99),
                    quantile(0.999),
                    quantile(1.0),
                ]);
            }
        }
    }
    table
}

fn load(findings: &Findings) -> TextTable {
    let head = [
        "server",
        "load",
        "offered/s",
        "of capacity",
        "goodput/s",
        "of capacity",
        "p50 ms",
        "p99 ms",
        "server cores",
        "clients",
        "others",
    ];
    let mut table = TextTable::new(&head);
    for contender in &findings.contenders {
        for (index, phase) in loaded(contender).enumerate() {
            let [ours, theirs, others] = cores(phase);
            table.row([
                if index == 0 {
                    contender.name.as_str()
                } else {
                    ""
                }
                .to_owned(),
                phase.name.clone(),
                rate(phase.offered()),
                share(phase.offered(), contender.capacity),
                rate(phase.tally.per_second()),
                share(phase.tally.per_second(), contender.capacity),
                millis(phase.tally.latencies.quantile(0.5)),
                millis(phase.tally.latencies.quantile(0.99)),
                theirs,
                ours,
                others,
            ]);
        }
    }
    table
}

/// What became of all predictions, a line for each phase: there may be many reasons.
fn all_outcomes(findings: &Findings) -> String {
    let phases = findings.contenders.iter();
    let phases =
        phases.flat_map(|contender| loaded(contender).map(move |phase| (contender, phase)));
    let line = |(contender, phase): (&Contender, &PhaseResult)| {
        format!(
            "  {}, {}: {}\n",
            contender.name,
            phase.name,
            outcomes(&phase.tally)
        )
    };
    phases.map(line).collect()
}

fn loaded(contender: &Contender) -> impl Iterator<Item = &PhaseResult> {
    contender
        .phases
        .iter()
        .filter(|phase| phase.tally.requests() > 0)
}

/// How many failed, with reasons where some did.
pub fn failed(probes: &Probes) -> String {
    match probes.tally.failed() {
        0 => "0".to_owned(),
        failed => format!(
            "{} ({})",
            thousands(failed),
            outcomes_but_200(&probes.tally)
        ),
    }
}

/// A probe's quantile: `~` where it is a guess, `>` where the probes it stands for failed.
pub fn latency(tally: &Tally, q: f64, timeout: Duration) -> String {
    let mark = if tally.is_guess(q) { "~" } else { "" };
    match tally.quantile_of_all(q) {
        Quantile::Nothing => "-".to_owned(),
        Quantile::Within(latency) => format!("{mark}{}", millis(Some(latency))),
        Quantile::Never => format!("{mark}>{}", millis(Some(timeout))),
    }
}

/// Cores of generator, server and others.
pub fn cores(phase: &PhaseResult) -> [String; 3] {
    let cores = phase.cores;
    [cores.generator, cores.server, cores.others]
        .map(|cores| cores.map_or("-".to_owned(), |cores| format!("{cores:.2}")))
}

/// What became of all requests: `200: 45, 503 queue_full: 12, timeout: 3`.
pub fn outcomes(tally: &Tally) -> String {
    let ok = (tally.ok() > 0).then(|| format!("200: {}", thousands(tally.ok())));
    let others = outcomes_but_200(tally);
    let text: Vec<String> = ok
        .into_iter()
        .chain((!others.is_empty()).then_some(others))
        .collect();
    match text.is_empty() {
        true => "-".to_owned(),
        false => text.join(", "),
    }
}

/// The same without the 200s; empty where there is nothing else.
pub fn outcomes_but_200(tally: &Tally) -> String {
    let text: Vec<String> = refusals(tally)
        .into_iter()
        .map(|(name, count)| format!("{name}: {}", thousands(count)))
        .collect();
    text.join(", ")
}

/// Everything that was no 200, by status code and reason, or by why there was no answer.
pub fn refusals(tally: &Tally) -> Vec<(String, u64)> {
    let mut text = Vec::new();
    for (status, count) in tally.statuses.iter().filter(|(status, _)| **status != 200) {
        let codes = tally.codes.iter().filter(|((of, _), _)| of == status);
        let mut rest = *count;
        for ((_, code), count) in codes {
            text.push((format!("{status} {code}"), *count));
            rest = rest.saturating_sub(*count);
        }
        if rest > 0 {
            text.push((status.to_string(), rest));
        }
    }
    let failures = tally.failures.iter();
    text.extend(failures.map(|(reason, count)| ((*reason).to_owned(), *count)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::findings::tests::{findings, tally};

    #[test]
    fn everything_is_shown_for_each_contender_and_phase() {
        let text = render(&findings(0, 31));
        // However wide the columns are.
        let lines = text.lines();
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let text: String = lines.map(|line| line + "\n").collect();
        for part in [
            "0 of 1,200 probes failed at 10x capacity; with one shared lane 31 of 1,231 did.",
            "At 10x capacity it went on serving 100 %",
            "two lanes idle probe 1,100 0 1.00 1.00 ~1.00 1.00",
            "1,231 31 (timeout: 31) 2.00 >1000 ~>1000 >1000",
            "two lanes, 10x: 200: 40, 503 queue_full: 850, timeout: 10",
            "- a < b",
            "timeoutSeconds: 5",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn refusals_are_listed_by_code_and_the_rest_by_status() {
        let mut tally = tally(vec![1; 3], 2);
        tally.statuses.insert(503, 10);
        tally.codes.insert((503, "expired".to_owned()), 4);
        assert_eq!(
            outcomes(&tally),
            "200: 3, 503 expired: 4, 503: 6, timeout: 2"
        );
        assert_eq!(outcomes(&Tally::default()), "-");
    }
}
