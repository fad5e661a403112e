//! The plots of a drill, as SVG. Pure.
//!
//! Colours are classes of the page's style sheet. Series are never distinguished by colour alone:
//! each has its own mark, dash or height, and a label.

use std::time::Duration;

use crate::drill::findings::{Contender, Findings, PhaseResult, Quantile};
use crate::drill::measure::Tally;
use crate::drill::svg::{BOTTOM, Canvas, HEIGHT, LEFT, RIGHT, Scale, TOP, WIDTH, axis_time};

/// Latency of probes by load, on a logarithmic scale: median, p99 and maximum of each contender.
pub fn probe_latency(findings: &Findings) -> String {
    let timeout = findings.method.probe_timeout.as_secs_f64();
    let mut canvas = Canvas::new(
        HEIGHT,
        "Latency of probes by load",
        "Median, 99th percentile and maximum of each server, on a logarithmic scale; the figures stand in the table of probes",
    );
    let least = lowest_latency(findings).min(timeout / 10.0);
    let y = Scale::logarithmic((least, timeout * 2.0), (HEIGHT - BOTTOM, TOP));
    canvas.times_at(&y);
    canvas.line(
        "limit",
        (LEFT, y.place(timeout)),
        (WIDTH - RIGHT, y.place(timeout)),
    );
    let text = format!("a probe fails at {}", axis_time(timeout));
    canvas.label("note", (LEFT + 4.0, y.place(timeout) - 5.0), &text);
    let names = loads(findings);
    let step = (WIDTH - LEFT - RIGHT) / names.len().max(1) as f64;
    for (slot, name) in names.iter().enumerate() {
        let middle = LEFT + step * (slot as f64 + 0.5);
        canvas.label("tick middle", (middle, HEIGHT - BOTTOM + 18.0), name);
        for (series, contender) in findings.contenders.iter().enumerate() {
            let Some(phase) = contender.phases.iter().find(|phase| phase.name == *name) else {
                continue;
            };
            let x = middle + (series as f64 - 0.5) * (step * 0.36).min(30.0);
            probe_ticks(&mut canvas, series, x, &y, timeout, contender, phase);
        }
    }
    canvas.label(
        "axis middle",
        (axis_middle(), HEIGHT - 8.0),
        "load, in capacities",
    );
    canvas.finish()
}

fn probe_ticks(
    canvas: &mut Canvas,
    series: usize,
    x: f64,
    y: &Scale,
    timeout: f64,
    contender: &Contender,
    phase: &PhaseResult,
) {
    let all = all_probes(phase);
    let place = |q| match all.quantile_of_all(q) {
        Quantile::Nothing => None,
        Quantile::Within(latency) => Some((y.place(latency.as_secs_f64()), latency)),
        Quantile::Never => Some((y.place(timeout), Duration::from_secs_f64(timeout))),
    };
    let (Some(low), Some(p99), Some(high)) = (place(0.5), place(0.99), place(1.0)) else {
        return;
    };
    canvas.line(&format!("stem s{series}"), (x, low.0), (x, high.0));
    for (kind, name, (at, latency)) in [
        ("max", "maximum", high),
        ("p99", "p99", p99),
        ("p50", "median", low),
    ] {
        let text = format!(
            "{}, {}: {name} {}",
            contender.name,
            phase.name,
            axis_time(latency.as_secs_f64())
        );
        canvas.mark(series, kind, (x, at), &text);
    }
    if all.failed() > 0 {
        let share = 100.0 * all.failed() as f64 / all.requests() as f64;
        let text = match share {
            share if share < 1.0 => "< 1 % fail".to_owned(),
            share => format!("{share:.0} % fail"),
        };
        canvas.label(
            &format!("value middle t{series}"),
            (x, y.place(timeout) + 18.0),
            &text,
        );
    }
}

/// Goodput by the actual load, both in capacities.
pub fn goodput(findings: &Findings) -> String {
    let mut canvas = Canvas::new(
        HEIGHT,
        "Goodput by offered load",
        "Answers in time a second as a share of capacity, by what was offered; the figures stand in the table of predictions",
    );
    let open = |contender: &Contender| -> Vec<(f64, f64, String)> {
        let phases = contender.phases.iter().filter(|phase| phase.is_open());
        phases
            .map(|phase| {
                let (x, y) = (
                    contender.offered_share(phase),
                    contender.goodput_share(phase),
                );
                (x, y, format!("{}, {}: {y:.2}", contender.name, phase.name))
            })
            .collect()
    };
    let points: Vec<_> = findings.contenders.iter().map(open).collect();
    let all = || points.iter().flatten();
    let least = all().map(|point| point.0).fold(0.5, f64::min) * 0.8;
    let most = all().map(|point| point.0).fold(2.0, f64::max) * 1.25;
    let highest = all().map(|point| point.1).fold(1.0, f64::max) * 1.2;
    let x = Scale::logarithmic((least, most), (LEFT, WIDTH - RIGHT));
    let y = Scale::linear((0.0, highest), (HEIGHT - BOTTOM, TOP));
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0] {
        if tick > highest {
            break;
        }
        canvas.line(
            "grid",
            (LEFT, y.place(tick)),
            (WIDTH - RIGHT, y.place(tick)),
        );
        canvas.label(
            "tick end",
            (LEFT - 6.0, y.place(tick) + 4.0),
            &format!("{tick}"),
        );
    }
    for tick in [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0] {
        if (least..=most).contains(&tick) {
            let at = (x.place(tick), HEIGHT - BOTTOM + 18.0);
            canvas.label("tick middle", at, &format!("{tick}x"));
        }
    }
    canvas.line("limit", (LEFT, y.place(1.0)), (WIDTH - RIGHT, y.place(1.0)));
    canvas.label("note", (LEFT + 4.0, y.place(1.0) - 6.0), "capacity");
    let ideal: Vec<(f64, f64)> = [least, 1.0]
        .map(|offered| (x.place(offered), y.place(offered)))
        .into();
    canvas.path("ideal", &ideal);
    for (series, points) in points.iter().enumerate().rev() {
        let line: Vec<(f64, f64)> = points
            .iter()
            .map(|(offered, good, _)| (x.place(*offered), y.place(*good)))
            .collect();
        canvas.path(&format!("curve s{series}"), &line);
        for ((_, _, text), at) in points.iter().zip(line) {
            canvas.mark(series, "p99", at, text);
        }
    }
    canvas.label(
        "axis middle",
        (axis_middle(), HEIGHT - 8.0),
        "offered load, in capacities",
    );
    canvas.finish()
}

/// Outcomes of all requests, as bars of a hundred per cent.
pub fn outcomes(findings: &Findings) -> String {
    const ROW: f64 = 30.0;
    const NAMES: f64 = 138.0;
    let rows: Vec<(&Contender, &PhaseResult)> = findings
        .contenders
        .iter()
        .flat_map(|contender| contender.phases.iter().map(move |phase| (contender, phase)))
        .filter(|(_, phase)| phase.is_open() && phase.tally.requests() > 0)
        .collect();
    let height = ROW * rows.len() as f64 + 8.0;
    let mut canvas = Canvas::new(
        height,
        "What became of predictions",
        "Shares of answers in time, refusals, timeouts and other failures; the counts stand in the table of predictions",
    );
    for (row, (contender, phase)) in rows.into_iter().enumerate() {
        let y = 4.0 + ROW * row as f64;
        let name = format!("{}, {}", contender.name, phase.name);
        canvas.label("tick end", (NAMES - 8.0, y + 17.0), &name);
        let total = phase.tally.requests() as f64;
        let mut x = NAMES;
        for (class, what, count) in parts(&phase.tally) {
            let share = count as f64 / total;
            let width = share * (WIDTH - NAMES - RIGHT);
            let text = format!("{name}: {what} {count} ({:.1} %)", 100.0 * share);
            // Each kind also has its own height, for readers who do not see its colour.
            let height = (ROW - 6.0) * bar_height(class);
            let top = y + (ROW - 6.0 - height);
            canvas.bar(class, (x, top), (width, height), &text);
            if width > 34.0 {
                let at = (x + width / 2.0, top + height / 2.0 + 4.5);
                let text = format!("{:.0} %", 100.0 * share);
                canvas.label(&format!("in-bar in-{class} middle"), at, &text);
            }
            x += width;
        }
    }
    canvas.finish()
}

/// Class, name and count of each part of a bar, in their order.
pub fn parts(tally: &Tally) -> [(&'static str, &'static str, u64); 4] {
    let refused: u64 = tally
        .statuses
        .iter()
        .filter(|(status, _)| matches!(**status, 429 | 503))
        .map(|(_, count)| count)
        .sum();
    let timeouts = tally.failures.get("timeout").copied().unwrap_or(0);
    let others = tally.failed() - refused - timeouts;
    [
        ("ok", "answered in time", tally.ok()),
        ("refused", "refused (503, 429)", refused),
        ("timeout", "client gave up", timeouts),
        ("other", "other failures", others),
    ]
}

/// The height of a part's bar, as a share of the highest.
pub fn bar_height(class: &str) -> f64 {
    match class {
        "ok" => 1.0,
        "refused" => 0.85,
        "timeout" => 0.7,
        _ => 0.55,
    }
}

/// The share of probes answered within each time, at the highest load of each contender.
pub fn probe_percentiles(findings: &Findings) -> String {
    const SHARES: [(f64, &str); 5] = [
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
    ];
    let timeout = findings.method.probe_timeout.as_secs_f64();
    let mut canvas = Canvas::new(
        HEIGHT,
        "Probes answered within a time, at the highest load",
        "Latency by percentile of each server's probes, on logarithmic scales; the figures stand in the table of probes",
    );
    // By the share that is slower, so that the tail has as much room as the rest.
    let x = Scale::logarithmic((0.0001, 1.0), (WIDTH - RIGHT, LEFT));
    let least = lowest_latency(findings).min(timeout / 10.0);
    let y = Scale::logarithmic((least, timeout * 2.0), (HEIGHT - BOTTOM, TOP));
    canvas.times_at(&y);
    canvas.line(
        "limit",
        (LEFT, y.place(timeout)),
        (WIDTH - RIGHT, y.place(timeout)),
    );
    for (share, name) in SHARES {
        let at = x.place(1.0 - share);
        canvas.line("grid", (at, TOP), (at, HEIGHT - BOTTOM));
        let class = if share > 0.999 {
            "tick end"
        } else {
            "tick middle"
        };
        let at = if share > 0.999 { WIDTH - 2.0 } else { at };
        canvas.label(class, (at, HEIGHT - BOTTOM + 18.0), name);
    }
    for (series, contender) in findings.contenders.iter().enumerate().rev() {
        let Some(phase) = contender.highest() else {
            continue;
        };
        let points = percentile_points(&all_probes(phase), &x, &y, timeout);
        canvas.path(&format!("curve s{series}"), &points);
        if let (Some(last), Some(median)) = (points.last(), points.get(12)) {
            canvas.mark(
                series,
                "p99",
                *last,
                &format!("{}: slowest", contender.name),
            );
            canvas.mark(
                series,
                "p50",
                *median,
                &format!("{}: median", contender.name),
            );
        }
    }
    canvas.label(
        "axis middle",
        (axis_middle(), HEIGHT - 8.0),
        "share of probes that were as fast or faster",
    );
    canvas.finish()
}

/// The points of a percentile curve: in steps of a fortieth of a decade, as far as there are enough
/// probes.
fn percentile_points(all: &Tally, x: &Scale, y: &Scale, timeout: f64) -> Vec<(f64, f64)> {
    let count = all.requests().max(1) as f64;
    let mut points = Vec::new();
    for step in 0..=160 {
        let slower = 10_f64.powf(-f64::from(step) / 40.0);
        if slower < 1.0 / count {
            break;
        }
        match all.quantile_of_all(1.0 - slower) {
            Quantile::Within(latency) => {
                points.push((x.place(slower), y.place(latency.as_secs_f64())));
            }
            Quantile::Never => points.push((x.place(slower), y.place(timeout))),
            Quantile::Nothing => {}
        }
    }
    points
}

fn axis_middle() -> f64 {
    (LEFT + WIDTH - RIGHT) / 2.0
}

/// The names of all phases, in order of load.
fn loads(findings: &Findings) -> Vec<&str> {
    let mut names: Vec<(f64, &str)> = Vec::new();
    for phase in findings.contenders.iter().flat_map(|one| &one.phases) {
        if phase.name != "capacity" && !names.iter().any(|(_, name)| *name == phase.name) {
            names.push((phase.load.unwrap_or(0.0), &phase.name));
        }
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    names.into_iter().map(|(_, name)| name).collect()
}

/// The probes of all listeners together.
fn all_probes(phase: &PhaseResult) -> Tally {
    let mut all = Tally::default();
    for probes in &phase.probes {
        all.merge(&probes.tally);
    }
    all
}

/// A latency below all medians, in seconds: a power of ten.
fn lowest_latency(findings: &Findings) -> f64 {
    let phases = findings.contenders.iter().flat_map(|one| &one.phases);
    let medians = phases.filter_map(|phase| match all_probes(phase).quantile_of_all(0.1) {
        Quantile::Within(latency) => Some(latency.as_secs_f64()),
        _ => None,
    });
    let least = medians.fold(1e-3, f64::min).max(1e-6);
    10_f64.powf(least.log10().floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::findings::tests::findings;

    #[test]
    fn parts_of_a_bar_add_up() {
        let findings = findings(0, 31);
        let tally = &findings.contenders[0].phases[1].tally;
        let parts = parts(tally);
        let sum: u64 = parts.iter().map(|(_, _, count)| count).sum();
        assert_eq!(sum, tally.requests());
        assert_eq!(parts.map(|(_, _, count)| count), [40, 850, 10, 0]);
    }

    #[test]
    fn every_plot_is_one_whole_picture_with_a_name() {
        for findings in [findings(0, 31), findings(1200, 0)] {
            for plot in [
                probe_latency(&findings),
                goodput(&findings),
                outcomes(&findings),
                probe_percentiles(&findings),
            ] {
                assert!(
                    plot.starts_with("<svg ") && plot.ends_with("</svg>"),
                    "{plot}"
                );
                assert!(plot.contains("role=\"img\" aria-label=\""), "{plot}");
                assert!(!plot.contains("NaN") && !plot.contains("inf\""), "{plot}");
                assert_eq!(
                    plot.matches("<text").count(),
                    plot.matches("</text>").count()
                );
            }
        }
    }
}
