//! Compares the answers that probes got with those that are right.

use std::time::{Duration, Instant};

use lanekeeper::drill::measure::Latencies;

use super::prober::{Heard, Question, Record};

/// How late a verdict may change, and how long a passing one may take to return.
pub const SLACK: Duration = Duration::from_secs(1);

/// The right answers to one question from a step of a row on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// Every probe passes. After a step with failures, from the first probe that passes again.
    Yes,
    /// Probes fail within a second, and continue to fail.
    No,
    /// Probes fail within a second after so many milliseconds.
    NoAfter(u64),
    /// Probes pass until the step has lasted for `--stall-timeout`, and fail within a second after that.
    /// The number is by how many milliseconds the stall itself may begin late.
    Stalled(u64),
    /// The server may be unable to answer; if it does answer, the probe must pass.
    Unasked,
}

/// The results that probes may have in a period.
#[derive(Debug, Clone, Copy)]
struct Phase {
    from: Instant,
    until: Instant,
    may_pass: bool,
    may_fail: bool,
    may_be_silent: bool,
}

/// A step as it happened.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Before its action.
    pub began: Instant,
    /// After its action.
    pub acted: Instant,
    pub truth: Truth,
    /// Whether a failing server still answers.
    pub answers: bool,
}

/// How the probes of one question ended over a row; a failing probe is a positive.
#[derive(Debug, Clone, Default)]
pub struct Score {
    pub true_positives: usize,
    pub false_positives: usize,
    pub true_negatives: usize,
    pub false_negatives: usize,
    /// Probes without an answer while the machine was too busy for any process.
    pub late: usize,
    /// For each step in which probes must fail, the time until the first one did.
    pub detections: Vec<Duration>,
    /// The errors, one line each.
    pub wrongs: Vec<String>,
    pub latencies: Latencies,
}

/// The properties of the row under test.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub stall_timeout: Duration,
    /// How long a passing verdict may take to return.
    pub settling: Duration,
    /// The machine is starved on purpose, so a probe may get no answer within its second.
    pub starved: bool,
    /// Whether probes passed before the first step.
    pub passed_before: bool,
    /// Whether a missing answer is not the server's fault.
    pub excuses: &'a dyn Fn(&Record) -> bool,
}

/// Whether a probe has the right result: it passes, or it fails, with an answer if `answers`.
pub fn shows(record: &Record, truth: Truth, answers: bool) -> bool {
    // Even with a stuck acceptor, probes are answered once the stall timeout is over.
    let answers = answers || matches!(truth, Truth::Stalled(_));
    match (truth, &record.heard) {
        (Truth::Yes | Truth::Unasked, heard) => *heard == Heard::Passed,
        (_, Heard::Passed) => false,
        (_, Heard::Failed(..)) => true,
        (_, Heard::Nothing(_)) => !answers,
    }
}

/// Compares all probes of one question with the right results.
pub fn judge(
    question: Question,
    records: &[Record],
    moments: &[Moment],
    end: Instant,
    terms: Terms,
) -> Score {
    let mut score = Score::default();
    let phases = phases(question, records, moments, end, terms, &mut score);
    for record in records {
        // An answer may be about any moment between the probe's start and end.
        let held: Vec<&Phase> = phases
            .iter()
            .filter(|phase| phase.from <= record.answered && phase.until > record.sent)
            .collect();
        if !held.is_empty() {
            classify(question, record, &held, moments, terms, &mut score);
        }
    }
    let wrong = score.false_positives + score.false_negatives;
    if wrong > score.wrongs.len() {
        score.wrongs.push(format!("{wrong} wrong in all"));
    }
    score
}

fn classify(
    question: Question,
    record: &Record,
    held: &[&Phase],
    moments: &[Moment],
    terms: Terms,
    score: &mut Score,
) {
    let may_pass = held.iter().any(|phase| phase.may_pass);
    let may_fail = held.iter().any(|phase| phase.may_fail);
    let may_be_silent = held.iter().any(|phase| phase.may_be_silent);
    if !may_be_silent {
        score.latencies.record(record.latency());
    }
    match &record.heard {
        Heard::Passed if may_pass && !may_fail => score.true_negatives += 1,
        Heard::Passed if may_pass => {}
        Heard::Passed => {
            score.false_negatives += 1;
            note(question, record, "passed, but should fail", moments, score);
        }
        Heard::Failed(..) if may_fail && !may_pass => score.true_positives += 1,
        Heard::Failed(..) if may_fail => {}
        Heard::Failed(status, text) => {
            score.false_positives += 1;
            let what = format!("said {status} {text:?}, but should pass");
            note(question, record, &what, moments, score);
        }
        Heard::Nothing(_) if may_be_silent && !may_pass => score.true_positives += 1,
        Heard::Nothing(_) if may_be_silent => {}
        Heard::Nothing(_) if terms.starved || (terms.excuses)(record) => score.late += 1,
        Heard::Nothing(why) => {
            // Even if the probe should fail, which kubelet concludes from silence, the server must answer.
            score.false_positives += 1;
            let what = format!("had no answer ({why})");
            note(question, record, &what, moments, score);
        }
    }
}

/// Notes an error, up to a few for each question.
fn note(question: Question, record: &Record, what: &str, moments: &[Moment], score: &mut Score) {
    const SHOWN: usize = 3;
    if score.wrongs.len() >= SHOWN {
        return;
    }
    let step = moments
        .iter()
        .rposition(|moment| moment.began <= record.sent)
        .unwrap_or(0);
    let since = record.sent.saturating_duration_since(moments[step].began);
    let took = record.latency();
    score.wrongs.push(format!(
        "{} {what}: sent {since:.3?} into step {}, answered after {took:.3?}",
        question.path(),
        step + 1,
    ));
}

/// Converts the steps to phases with their permitted results.
fn phases(
    question: Question,
    records: &[Record],
    moments: &[Moment],
    end: Instant,
    terms: Terms,
    score: &mut Score,
) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut passed_before = terms.passed_before;
    for (index, moment) in moments.iter().enumerate() {
        let until = moments.get(index + 1).map_or(end, |next| next.began);
        let mut add = |from, until, [may_pass, may_fail, may_be_silent]: [bool; 3]| {
            phases.push(Phase {
                from,
                until,
                may_pass,
                may_fail,
                may_be_silent,
            });
        };
        let (early, late) = match moment.truth {
            Truth::Unasked => {
                add(moment.began, until, [true, false, true]);
                continue;
            }
            Truth::Yes if passed_before => {
                add(moment.began, until, [true, false, false]);
                continue;
            }
            Truth::Yes => (Duration::ZERO, terms.settling),
            Truth::No => (Duration::ZERO, SLACK),
            Truth::NoAfter(after) => (Duration::ZERO, Duration::from_millis(after) + SLACK),
            Truth::Stalled(late) => {
                let late = Duration::from_millis(late) + SLACK;
                (terms.stall_timeout, terms.stall_timeout + late)
            }
        };
        let passes = moment.truth == Truth::Yes;
        // Before the stall timeout a probe must not fail. If the acceptor is stuck, a probe may wait
        // until then.
        let known = (moment.began + early).min(until);
        let stalled = matches!(moment.truth, Truth::Stalled(_));
        let may_be_silent = !moment.answers && !stalled;
        add(moment.began, known, [true, false, !moment.answers]);
        let turned = records
            .iter()
            .filter(|record| record.sent >= moment.began && record.answered <= until)
            .filter(|record| record.answered >= known)
            .find(|record| shows(record, moment.truth, moment.answers))
            .map(|record| record.answered);
        let by = moment.acted + late;
        let settled = turned.unwrap_or(by).min(by).min(until);
        add(known, settled, [true, true, may_be_silent || !stalled]);
        add(settled, until, [passes, !passes, may_be_silent && !passes]);
        passed_before = passes;
        match turned {
            _ if passes => {}
            Some(at) => score.detections.push(at.duration_since(moment.began)),
            None => {
                let (path, step) = (question.path(), index + 1);
                let wrong = format!("{path} never failed in step {step}");
                score.wrongs.push(wrong);
            }
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms<'_> = Terms {
        stall_timeout: Duration::from_secs(1),
        settling: SLACK,
        starved: false,
        passed_before: true,
        excuses: &|_| false,
    };

    /// Results of probes from a time on, one every 20 ms; times are in milliseconds.
    fn heard(from: u64, until: u64, heard: &Heard) -> Vec<(u64, Heard)> {
        let times = (from..until).step_by(20);
        times.map(|at| (at, heard.clone())).collect()
    }

    fn passed() -> Heard {
        Heard::Passed
    }

    fn failed() -> Heard {
        Heard::Failed(500, "no".to_owned())
    }

    /// Compares probes with the truths, each of which holds from its time on, until five seconds.
    fn score(truths: &[(u64, Truth)], told: &[Vec<(u64, Heard)>]) -> Score {
        let origin = Instant::now();
        let at = |millis: u64| origin + Duration::from_millis(millis);
        let moments: Vec<Moment> = truths
            .iter()
            .map(|(began, truth)| Moment {
                began: at(*began),
                acted: at(*began),
                truth: *truth,
                answers: true,
            })
            .collect();
        let records: Vec<Record> = told
            .iter()
            .flatten()
            .map(|(sent, heard)| Record {
                sent: at(*sent),
                answered: at(*sent) + Duration::from_micros(500),
                heard: heard.clone(),
            })
            .collect();
        judge(Question::Alive, &records, &moments, at(5_000), TERMS)
    }

    /// False positives, false negatives, and whether anything is wrong.
    fn check(truths: &[(u64, Truth)], told: &[Vec<(u64, Heard)>], expected: (usize, usize, bool)) {
        let score = score(truths, told);
        let found = (
            score.false_positives,
            score.false_negatives,
            !score.wrongs.is_empty(),
        );
        assert_eq!(found, expected, "{truths:?}: {score:?}");
    }

    #[test]
    fn one_failed_probe_of_a_live_server_is_a_false_kill() {
        let truths = [(0, Truth::Yes)];
        check(&truths, &[heard(0, 5_000, &passed())], (0, 0, false));
        let mut told = heard(0, 5_000, &passed());
        told[100].1 = failed();
        check(&truths, &[told.clone()], (1, 0, true));
        told[100].1 = Heard::Nothing("timeout");
        check(&truths, &[told], (1, 0, true));
    }

    #[test]
    fn a_stall_is_known_within_a_second_of_the_limit_and_not_before_it() {
        let truths = [(0, Truth::Stalled(0))];
        let turning = |at| [heard(0, at, &passed()), heard(at, 5_000, &failed())];
        check(&truths, &turning(1_000), (0, 0, false));
        check(&truths, &turning(1_980), (0, 0, false));
        check(&truths, &turning(900), (5, 0, true));
        check(&truths, &turning(2_100), (0, 5, true));
        check(&truths, &[heard(0, 5_000, &passed())], (0, 150, true));
    }

    #[test]
    fn a_dead_server_stays_dead_until_the_next_step_and_is_alive_soon_after() {
        let truths = [(0, Truth::Stalled(0)), (3_000, Truth::Yes)];
        let until = |at| {
            [
                heard(0, 1_000, &passed()),
                heard(1_000, at, &failed()),
                heard(at, 5_000, &passed()),
            ]
        };
        check(&truths, &until(3_000), (0, 0, false));
        check(&truths, &until(3_900), (0, 0, false));
        check(&truths, &until(2_900), (0, 5, true));
        check(&truths, &until(4_100), (5, 0, true));
        // Once it has passed again, it must not fail again.
        let mut told = until(3_100).concat();
        told[160].1 = failed();
        check(&truths, &[told], (1, 0, true));
    }

    #[test]
    fn silence_is_no_failure_and_is_excused_only_on_a_slow_machine() {
        let truths = [(0, Truth::Stalled(0))];
        let told = [
            heard(0, 1_200, &passed()),
            heard(1_200, 1_220, &Heard::Nothing("timeout")),
            heard(1_220, 1_500, &passed()),
            heard(1_500, 5_000, &failed()),
        ];
        check(&truths, &told, (1, 0, true));
        let origin = Instant::now();
        let moment = Moment {
            began: origin,
            acted: origin,
            truth: Truth::Yes,
            answers: true,
        };
        let record = |heard| Record {
            sent: origin,
            answered: origin + Duration::from_secs(1),
            heard,
        };
        let terms = Terms {
            excuses: &|_| true,
            ..TERMS
        };
        let end = origin + Duration::from_secs(2);
        let wrongs = |heard| {
            let records = [record(heard)];
            let score = judge(Question::Alive, &records, &[moment], end, terms);
            (score.false_positives, score.late)
        };
        assert_eq!(wrongs(Heard::Nothing("timeout")), (0, 1));
        assert_eq!(wrongs(failed()), (1, 0));
    }

    #[test]
    fn nobody_asked_may_be_silent_but_not_fail() {
        let truths = [(0, Truth::Unasked)];
        let silent = heard(0, 5_000, &Heard::Nothing("timeout"));
        check(&truths, &[silent], (0, 0, false));
        check(&truths, &[heard(0, 20, &failed())], (1, 0, true));
    }

    #[test]
    fn a_probe_may_be_answered_from_either_side_of_a_turn() {
        let origin = Instant::now();
        let moment = |at: u64, truth| Moment {
            began: origin + Duration::from_millis(at),
            acted: origin + Duration::from_millis(at),
            truth,
            answers: true,
        };
        let moments = [moment(0, Truth::Unasked), moment(1_000, Truth::Yes)];
        let record = |sent: u64, heard| Record {
            sent: origin + Duration::from_millis(sent),
            answered: origin + Duration::from_millis(sent + 500),
            heard,
        };
        let silent = || Heard::Nothing("timeout");
        let records = [record(600, silent()), record(1_001, silent())];
        let end = origin + Duration::from_secs(2);
        let score = judge(Question::Alive, &records, &moments, end, TERMS);
        assert_eq!(score.false_positives, 1, "{score:?}");
    }
}
