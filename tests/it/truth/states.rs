//! The states that the guide lists, each with the steps of the matrix that prove its verdicts.

use std::fmt::Write as _;

use super::judge::Truth;
use super::matrix::Row;
use super::prober::Question;

/// A state of the server, as an operator sees it.
struct State {
    name: &'static str,
    /// Rows by name, each with the number of the step that shows the state.
    proofs: &'static [(&'static str, usize)],
    kubernetes: &'static str,
    systemd: &'static str,
}

const NOTHING: &str = "nothing";

const WATCHDOG: &str = "gets no keep-alive, and restarts it after `WatchdogSec`";
const WAITS: &str = "sends it no requests, and waits as long as the startup probe allows";
const NO_REQUESTS: &str = "sends it no requests";
const RESTARTS: &str = "sends it no requests, and restarts the container";
const STARTS_AGAIN: &str = "restarts it (`Restart=on-failure`)";

const STATES: &[State] = &[
    State {
        name: "starting: the model loads, or is tried for the first time, however long that takes",
        proofs: &[
            ("loading the model takes longer than the limit", 1),
            ("loading the model hangs", 1),
            ("the first trial hangs", 1),
        ],
        kubernetes: WAITS,
        systemd: "waits, for longer while loading makes progress (`EXTEND_TIMEOUT_USEC`)",
    },
    State {
        name: "the model cannot be loaded: the process ends with exit code 1",
        proofs: &[("the model cannot be loaded", 1)],
        kubernetes: "restarts the container, with longer and longer pauses",
        systemd: STARTS_AGAIN,
    },
    State {
        name: "serving, or idle for any time",
        proofs: &[
            ("nobody asks for a prediction for longer than the limit", 1),
            ("one client asks for short predictions now and then", 1),
            (
                "as many clients as workers ask for one prediction after the other",
                1,
            ),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "overloaded: more requests than it can serve",
        proofs: &[
            (
                "ten times as many clients as workers ask for short predictions",
                1,
            ),
            (
                "every prediction takes 0.7 of the limit, and more are asked for than can be served",
                1,
            ),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "slow: every prediction takes long, but less than `--stall-timeout`",
        proofs: &[
            (
                "both workers are on predictions of 0.8 of the limit, twice in a row",
                1,
            ),
            ("slow predictions succeed one after the other", 1),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "a large batch that makes progress, however long it takes",
        proofs: &[(
            "every worker is on one batch for more than twice the limit, slice by slice",
            1,
        )],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "starved of CPU by other processes or a quota",
        proofs: &[
            ("other processes take every core", 1),
            ("the server has a fifth of a core", 1),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "degraded: one worker is stuck, others are idle or serve",
        proofs: &[
            ("one of two workers hangs while the other is idle", 1),
            ("one of two workers hangs while the other serves", 1),
            (
                "one of two workers hangs while the other serves, and nobody is replaced",
                1,
            ),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "one worker is stuck, with `--stall-policy any`",
        proofs: &[
            (
                "one of two workers hangs while the other is idle, and any hang is fatal",
                1,
            ),
            (
                "one of two workers hangs while the other serves, and any hang is fatal",
                1,
            ),
        ],
        kubernetes: RESTARTS,
        systemd: WATCHDOG,
    },
    State {
        name: "every worker is stuck",
        proofs: &[
            ("every worker hangs on a condition that does not come", 1),
            ("every worker hangs on a lock that is not given up", 1),
            ("every worker spins for ever", 1),
            (
                "poison stops one worker after the other until no substitute is left",
                4,
            ),
        ],
        kubernetes: RESTARTS,
        systemd: WATCHDOG,
    },
    State {
        name: "the acceptor is stuck",
        proofs: &[("the acceptor hangs", 1)],
        kubernetes: RESTARTS,
        systemd: WATCHDOG,
    },
    State {
        name: "requests fail, but the trial passes",
        proofs: &[
            ("every prediction panics, but the trial passes", 1),
            ("ten poison requests come to a quiet server", 1),
            ("one client sends nothing but poison beside honest ones", 1),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "the trial fails, although the model had passed it before",
        proofs: &[
            ("every prediction panics, and so does the trial", 1),
            ("the model fails on everything, and so does the trial", 1),
            ("the trial fails on a quiet server, which had passed it", 1),
        ],
        kubernetes: RESTARTS,
        systemd: WATCHDOG,
    },
    State {
        name: "the trial fails, and the model never passed one",
        proofs: &[
            ("the model never passed its trial", 1),
            (
                "the model never passed its trial, and everything else fails too",
                1,
            ),
        ],
        kubernetes: NO_REQUESTS,
        systemd: NOTHING,
    },
    State {
        name: "the trial takes longer than `--canary-timeout`, and nothing else succeeds",
        proofs: &[("the trial hangs on an idle server", 1)],
        kubernetes: NO_REQUESTS,
        systemd: NOTHING,
    },
    State {
        name: "the trial is late, but predictions succeed",
        proofs: &[
            ("the trial hangs on an idle server", 2),
            (
                "a trial that began while it was quiet is late under load",
                1,
            ),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "no descriptors are left",
        proofs: &[("there is no descriptor left, and then there is again", 1)],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "draining",
        proofs: &[
            ("the server drains without work", 1),
            ("the server drains with work", 2),
            ("the server drains while one of two workers hangs", 2),
        ],
        kubernetes: "sends it no new requests, and waits for `terminationGracePeriodSeconds`",
        systemd: "waits for `TimeoutStopSec`",
    },
    State {
        name: "stopped (SIGSTOP, a frozen container)",
        proofs: &[(
            "the process is stopped for longer than the limit while every worker computes",
            2,
        )],
        kubernetes: "restarts the container if it stays so",
        systemd: WATCHDOG,
    },
    State {
        name: "continued after that",
        proofs: &[
            (
                "the process is stopped for longer than the limit under load, and continued",
                3,
            ),
            (
                "the process is stopped for longer than the limit while every worker computes",
                3,
            ),
        ],
        kubernetes: NOTHING,
        systemd: NOTHING,
    },
    State {
        name: "out of memory: the process dies",
        proofs: &[("the model takes memory until there is none", 1)],
        kubernetes: "restarts the container",
        systemd: STARTS_AGAIN,
    },
];

/// The table for the guide, with the verdicts of the matrix.
///
/// # Panics
/// A state names a step that does not exist, or two of its steps differ.
pub fn markdown(rows: &[&Row]) -> String {
    let mut table = String::from(
        "| state | `/livez` | `/readyz` | `/startupz` | Kubernetes | systemd |\n|---|---|---|---|---|---|\n",
    );
    for state in STATES {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            state.name,
            verdict(state, rows, Question::Alive),
            verdict(state, rows, Question::Ready),
            verdict(state, rows, Question::Started),
            state.kubernetes,
            state.systemd,
        );
    }
    table
}

fn verdict(state: &State, rows: &[&Row], question: Question) -> &'static str {
    let mut words: Vec<&'static str> = Vec::new();
    for (name, number) in state.proofs {
        let row = rows.iter().find(|row| row.name == *name);
        let row = row.unwrap_or_else(|| panic!("{:?}: no row {name:?}", state.name));
        let step = number.checked_sub(1).and_then(|at| row.steps.get(at));
        let step = step.unwrap_or_else(|| panic!("{name:?} has no step {number}"));
        words.push(word(row, step.truth(question), step.answers));
    }
    words.dedup();
    match words[..] {
        [word] => word,
        _ => panic!("{:?}: {} is {words:?}", state.name, question.path()),
    }
}

/// What a truth is called.
fn word(row: &Row, truth: Truth, answers: bool) -> &'static str {
    match truth {
        Truth::Yes => "passes",
        Truth::Unasked => "no answer",
        Truth::No if !answers => "no answer",
        Truth::No => "fails",
        Truth::NoAfter(after) if after < row.stall => "fails",
        Truth::NoAfter(_) => "fails after `--stall-timeout` at the latest",
        Truth::Stalled(_) => "fails after `--stall-timeout`",
    }
}
