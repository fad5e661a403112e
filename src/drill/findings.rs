//! The findings of a drill: contenders, their phases, and the verdict.
//!
//! Pure: it stores and judges, and writes nothing. The terminal, JSON and HTML show the same
//! findings.

use std::time::Duration;

use crate::drill::measure::Tally;

/// Probes below which a p99 is a guess.
const P99_NEEDS: u64 = 1_000;

/// Probes below which a p99.9 is a guess.
const P999_NEEDS: u64 = 10_000;

/// Goodput above this share of capacity says that the capacity was measured too low.
pub const SHARE_PLAUSIBLE: f64 = 1.1;

/// An offered load below this share of the intended one is not reported as if it had been offered.
pub const OFFERED_ENOUGH: f64 = 0.95;

/// Everything that a drill found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Where it was held.
    pub machine: Machine,
    /// What was asked for.
    pub request: DrillSettings,
    /// How it was measured.
    pub method: Method,
    /// The servers that were drilled; the verdict is about the first.
    pub contenders: Vec<Contender>,
    /// What a reader has to know about these figures, one sentence each.
    pub notes: Vec<String>,
    /// What a manifest would say.
    pub numbers: Vec<ManifestNumber>,
}

/// Where a drill was held.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// CPUs that this process may run on.
    pub cpus: usize,
    /// CPU time per unit of time, if a control group limits it.
    pub cpu_quota: Option<f64>,
    /// The processor, as the kernel names it.
    pub processor: String,
    /// The kernel's name and release.
    pub kernel: String,
    /// lanekeeper's version and commit.
    pub version: String,
    /// When it began (RFC 3339).
    pub date: String,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct DrillSettings {
    /// The model's name; user-supplied text.
    pub model: String,
    /// What kind of model it is.
    pub about: String,
    /// Where the body comes from.
    pub body: String,
    /// Its length.
    pub body_bytes: usize,
    /// Its content type.
    pub content_type: &'static str,
    /// Predictions one at a time on the idle server, as a client sees them.
    pub alone: Tally,
}

/// How it was measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Method {
    /// A client's patience.
    pub client_timeout: Duration,
    /// A probe's patience.
    pub probe_timeout: Duration,
    /// How long each window was open.
    pub window: Duration,
    /// How long the capacity was measured.
    pub capacity_window: Duration,
}

/// One server under the drill.
#[derive(Debug, Clone, Default)]
pub struct Contender {
    /// What it is called in tables.
    pub name: String,
    /// Whether probes wait in the same queue as predictions: the anti-pattern, whose failures are
    /// expected and do not affect the verdict.
    pub shared_lane: bool,
    /// Its prediction workers.
    pub workers: usize,
    /// 200s a second of the closed loop.
    pub capacity: f64,
    /// In the order in which they were held.
    pub phases: Vec<PhaseResult>,
}

/// A server at one load.
#[derive(Debug, Clone, Default)]
pub struct PhaseResult {
    /// `idle`, `capacity`, or the load, such as `10x`.
    pub name: String,
    /// The intended load, in capacities; `None` if the load was not an open loop.
    pub load: Option<f64>,
    /// For how long.
    pub duration: Duration,
    /// Connections of the load.
    pub connections: usize,
    /// The outcomes of the load; empty if there was none.
    pub tally: Tally,
    /// What became of the probes.
    pub probes: Vec<Probes>,
    /// CPU time per second of generator, server and others, in cores.
    pub cores: Cores,
}

/// The probes of one listener in one phase.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    /// `probe` or `main`.
    pub listener: &'static str,
    /// What became of them.
    pub tally: Tally,
}

/// Cores used by each party; `None` if unknown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cores {
    /// This process: load and probes.
    pub generator: Option<f64>,
    /// The server.
    pub server: Option<f64>,
    /// All other processes, which disturb the figures.
    pub others: Option<f64>,
}

/// A number for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestNumber {
    /// The field or option it belongs to.
    pub name: &'static str,
    /// Its value as written there.
    pub value: String,
    /// Why, in one line.
    pub reason: String,
}

/// The latency that a share of all probes did not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// There was none.
    Nothing,
    /// This long.
    Within(Duration),
    /// Longer than a probe waits, because so many failed.
    Never,
}

impl Tally {
    /// The latency that a share `q` of all requests did not exceed, counting failures as infinite:
    /// the quantile of answered requests alone would flatter a server that answers few.
    pub fn quantile_of_all(&self, q: f64) -> Quantile {
        let (all, ok) = (self.requests(), self.ok());
        let rank = (q * all as f64).ceil().max(1.0);
        match (all, ok as f64) {
            (0, _) => Quantile::Nothing,
            (_, answered) if rank > answered => Quantile::Never,
            (_, answered) => self
                .latencies
                .quantile(rank / answered)
                .map_or(Quantile::Nothing, Quantile::Within),
        }
    }

    /// Whether a quantile of so many requests is a guess.
    pub fn is_guess(&self, q: f64) -> bool {
        let needs = match q {
            q if q >= 1.0 => 0,
            q if q > 0.99 => P999_NEEDS,
            q if q > 0.9 => P99_NEEDS,
            _ => 0,
        };
        (1..needs).contains(&self.requests())
    }
}

impl PhaseResult {
    /// Requests per second that were actually sent.
    pub fn offered(&self) -> f64 {
        self.tally.requests() as f64 / self.duration.as_secs_f64().max(1e-9)
    }

    /// Probes of all listeners, and how many of them failed.
    pub fn probes_failed(&self) -> (u64, u64) {
        self.probes.iter().fold((0, 0), |(all, failed), probes| {
            (
                all + probes.tally.requests(),
                failed + probes.tally.failed(),
            )
        })
    }

    /// Whether the load was on a schedule.
    pub fn is_open(&self) -> bool {
        self.load.is_some()
    }
}

impl Contender {
    /// The phase with the highest actual load; without an open loop, the last.
    pub fn highest(&self) -> Option<&PhaseResult> {
        let open = self.phases.iter().filter(|phase| phase.is_open());
        open.max_by(|one, other| one.offered().total_cmp(&other.offered()))
            .or(self.phases.last())
    }

    /// Whether clients on this machine could not offer the intended load.
    pub fn falls_short(&self) -> bool {
        let meant = self.phases.iter().filter_map(|phase| phase.load);
        let most = meant.fold(0.0, f64::max);
        self.highest()
            .is_some_and(|phase| self.offered_share(phase) < OFFERED_ENOUGH * most)
    }

    /// The actual load, in capacities.
    pub fn offered_share(&self, phase: &PhaseResult) -> f64 {
        phase.offered() / self.capacity.max(1e-9)
    }

    /// Goodput as a share of capacity.
    pub fn goodput_share(&self, phase: &PhaseResult) -> f64 {
        phase.tally.per_second() / self.capacity.max(1e-9)
    }

    /// Probes in all phases, and how many of them failed.
    pub fn probes_failed(&self) -> (u64, u64) {
        self.phases.iter().fold((0, 0), |(all, failed), phase| {
            let (more, more_failed) = phase.probes_failed();
            (all + more, failed + more_failed)
        })
    }

    /// The load to report: the intended one if it was offered, otherwise the actual one.
    pub fn load_text(&self, phase: &PhaseResult) -> String {
        match phase.load {
            None => phase.name.clone(),
            Some(meant) => {
                let offered = self.offered_share(phase);
                if offered >= OFFERED_ENOUGH * meant {
                    format!("{meant}x")
                } else {
                    format!("{offered:.1}x")
                }
            }
        }
    }
}

impl Findings {
    /// Whether every probe that counts was answered in time.
    pub fn passed(&self) -> bool {
        self.failed_phases().is_empty()
    }

    /// One sentence about the probes.
    pub fn verdict(&self) -> String {
        let Some(judged) = self.contenders.first() else {
            return "nothing was measured".to_owned();
        };
        let (all, failed) = judged.probes_failed();
        if failed > 0 {
            return format!(
                "{} of {} probes failed ({})",
                thousands(failed),
                thousands(all),
                self.failed_phases().join(", ")
            );
        }
        let Some(highest) = judged.highest() else {
            return "nothing was measured".to_owned();
        };
        let (all, _) = highest.probes_failed();
        let mut text = format!(
            "0 of {} probes failed at {} capacity",
            thousands(all),
            judged.load_text(highest)
        );
        let shared = self.contenders.iter().find(|other| other.shared_lane);
        if let Some(shared) = shared.and_then(Contender::highest) {
            let (all, failed) = shared.probes_failed();
            let (all, failed) = (thousands(all), thousands(failed));
            text.push_str(&match failed.as_str() {
                "0" => format!("; with one shared lane none of {all} did either"),
                _ => format!("; with one shared lane {failed} of {all} did"),
            });
        }
        text
    }

    /// One sentence about predictions at the highest load.
    pub fn summary(&self) -> Option<String> {
        let judged = self.contenders.first()?;
        let highest = judged.highest().filter(|phase| phase.is_open())?;
        let share = judged.goodput_share(highest);
        let more = match judged.falls_short() {
            true => " More than that could not be offered from this machine; the notes say why.",
            false => "",
        };
        if share > SHARE_PLAUSIBLE {
            return Some(format!(
                "At {} capacity it served {} predictions a second in time, which is more than the capacity measured, {}.{more}",
                judged.load_text(highest),
                super::report::rate(highest.tally.per_second()),
                super::report::rate(judged.capacity),
            ));
        }
        Some(format!(
            "At {} capacity it went on serving {:.0} % of its capacity of {} predictions a second in time.{more}",
            judged.load_text(highest),
            100.0 * share,
            super::report::rate(judged.capacity),
        ))
    }

    /// The phases in which probes that count failed, such as `10x: 3 of 900`.
    fn failed_phases(&self) -> Vec<String> {
        let judged = self.contenders.iter().filter(|one| !one.shared_lane);
        let phases = judged.flat_map(|one| &one.phases);
        phases
            .filter_map(|phase| match phase.probes_failed() {
                (_, 0) => None,
                (all, failed) => Some(format!(
                    "{}: {} of {}",
                    phase.name,
                    thousands(failed),
                    thousands(all)
                )),
            })
            .collect()
    }
}

/// A count as a person reads it: `4,210`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tally of so many 200s of these latencies, and so many timeouts.
    pub(crate) fn tally(millis: impl IntoIterator<Item = u64>, timeouts: u64) -> Tally {
        let mut tally = Tally {
            window: Duration::from_secs(4),
            ..Tally::default()
        };
        for millis in millis {
            tally.latencies.record(Duration::from_millis(millis));
            *tally.statuses.entry(200).or_default() += 1;
            tally.in_window += 1;
        }
        if timeouts > 0 {
            tally.failures.insert("timeout", timeouts);
        }
        tally
    }

    pub(crate) fn phase(load: Option<f64>, tally: Tally, probes: Tally) -> PhaseResult {
        PhaseResult {
            name: load.map_or("idle".to_owned(), |load| format!("{load}x")),
            load,
            duration: Duration::from_secs(9),
            connections: 16,
            tally,
            probes: vec![Probes {
                listener: "probe",
                tally: probes,
            }],
            cores: Cores::default(),
        }
    }

    /// Two contenders, idle and at ten times their capacity of 10 a second.
    pub(crate) fn findings(failed: u64, shared_failed: u64) -> Findings {
        let contender = |name: &str, shared_lane, failed| {
            let mut load = tally(vec![200; 40], 10);
            load.statuses.insert(503, 850);
            load.codes.insert((503, "queue_full".to_owned()), 850);
            Contender {
                name: name.to_owned(),
                shared_lane,
                workers: 2,
                capacity: 10.0,
                phases: vec![
                    phase(None, Tally::default(), tally(vec![1; 1100], 0)),
                    phase(Some(10.0), load, tally(vec![2; 1200], failed)),
                ],
            }
        };
        Findings {
            machine: Machine {
                cpus: 2,
                ..Machine::default()
            },
            request: DrillSettings {
                model: "<i>ris & \"co\"".to_owned(),
                ..DrillSettings::default()
            },
            method: Method {
                client_timeout: Duration::from_secs(5),
                probe_timeout: Duration::from_secs(1),
                window: Duration::from_secs(4),
                capacity_window: Duration::from_secs(5),
            },
            contenders: vec![
                contender("two lanes", false, failed),
                contender("shared lane", true, shared_failed),
            ],
            notes: vec!["a < b".to_owned()],
            numbers: vec![ManifestNumber {
                name: "timeoutSeconds",
                value: "5".to_owned(),
                reason: "c > d".to_owned(),
            }],
        }
    }

    #[test]
    fn the_verdict_is_about_two_lanes_and_tells_of_the_shared_one() {
        let table = [
            (
                (0, 31),
                true,
                "0 of 1,200 probes failed at 10x capacity; with one shared lane 31 of 1,231 did",
            ),
            (
                (0, 0),
                true,
                "0 of 1,200 probes failed at 10x capacity; with one shared lane none of 1,200 did either",
            ),
            ((3, 31), false, "3 of 2,303 probes failed (10x: 3 of 1,203)"),
        ];
        for ((failed, shared), passed, expected) in table {
            let findings = findings(failed, shared);
            assert_eq!(findings.verdict(), expected);
            assert_eq!(findings.passed(), passed, "{expected}");
        }
        assert_eq!(
            findings(0, 0).summary().unwrap(),
            "At 10x capacity it went on serving 100 % of its capacity of 10.0 predictions a second in time."
        );
    }

    #[test]
    fn a_load_that_was_not_offered_is_not_reported_as_offered() {
        let mut findings = findings(0, 0);
        findings.contenders[0].capacity = 50.0;
        let verdict = findings.verdict();
        assert!(verdict.contains("failed at 2.0x capacity"), "{verdict}");
        let summary = findings.summary().unwrap();
        assert!(summary.contains("could not be offered"), "{summary}");
        let idle = Contender {
            phases: vec![phase(None, Tally::default(), tally(vec![1], 0))],
            ..Contender::default()
        };
        assert!(idle.highest().is_some() && !idle.falls_short());
    }

    #[test]
    fn failed_probes_count_as_longer_than_all_others() {
        let probes = tally(vec![1; 90], 10);
        let within = |millis| Quantile::Within(Duration::from_millis(millis));
        assert_eq!(probes.quantile_of_all(0.5), within(1));
        assert_eq!(probes.quantile_of_all(0.9), within(1));
        assert_eq!(probes.quantile_of_all(0.91), Quantile::Never);
        assert_eq!(probes.quantile_of_all(1.0), Quantile::Never);
        assert_eq!(tally([], 0).quantile_of_all(0.5), Quantile::Nothing);
        assert_eq!(tally([], 1).quantile_of_all(0.5), Quantile::Never);
    }

    #[test]
    fn quantiles_of_too_few_are_guesses() {
        let (few, many) = (tally(vec![1; 999], 0), tally(vec![1; 10_000], 0));
        assert!(few.is_guess(0.99) && few.is_guess(0.999));
        assert!(!few.is_guess(0.5) && !few.is_guess(1.0));
        assert!(!many.is_guess(0.99) && !many.is_guess(0.999));
    }

    #[test]
    fn counts_have_separators() {
        let table = [
            (0, "0"),
            (999, "999"),
            (4_210, "4,210"),
            (1_000_000, "1,000,000"),
        ];
        for (count, expected) in table {
            assert_eq!(thousands(count), expected);
        }
    }
}
