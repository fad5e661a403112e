//! Rows in which the server is healthy but under load.

use super::judge::Truth;
use super::matrix::{ROW, Row, STEP, Step};
use super::stage::until;
use crate::support::action::{ANSWER, BLOCK, COMPUTE, SLEEP};

pub const ROWS: &[Row] = &[
    Row {
        name: "nobody asks for a prediction for longer than the limit",
        steps: &[Step {
            does: "nothing happens",
            hold: 2_000,
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "one client asks for short predictions now and then",
        steps: &[Step {
            does: "light load",
            act: |stage| stage.load(1, 30, COMPUTE, 3.0),
            check: |stage| assert!(stage.had(200) > 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "as many clients as workers ask for one prediction after the other",
        steps: &[Step {
            does: "load exactly at capacity",
            act: |stage| stage.load(2, 0, COMPUTE, 15.0),
            check: |stage| assert!(stage.had(200) > 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "ten times as many clients as workers ask for short predictions",
        steps: &[
            Step {
                does: "ten times the capacity",
                act: |stage| stage.load(20, 0, COMPUTE, 15.0),
                hold: 2_500,
                check: |stage| {
                    let (served, refused) = (stage.had(200), stage.had(503));
                    assert!(
                        served > 3 && refused > 3,
                        "{served} served, {refused} refused"
                    );
                },
                ..STEP
            },
            Step {
                does: "the load ends",
                act: |stage| stage.rest(),
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        name: "both workers are on predictions of 0.8 of the limit, twice in a row",
        stall: 1_500,
        steps: &[
            Step {
                does: "two predictions begin that take 0.8 of the limit",
                act: |stage| stage.hang(2, BLOCK),
                // A little less, because starting and releasing take time too.
                hold: 1_150,
                ..STEP
            },
            Step {
                does: "they end, and two more begin",
                act: |stage| {
                    stage.release();
                    stage.hang(2, BLOCK);
                },
                hold: 1_150,
                ..STEP
            },
            Step {
                does: "they end too",
                act: |stage| stage.release(),
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        name: "every worker is on one batch for more than twice the limit, slice by slice",
        args: &["--request-timeout=20s"],
        steps: &[
            Step {
                does: "two batches of 150 rows begin, of which 16 take a third of the limit",
                act: |stage| {
                    stage.batches(2, 150, SLEEP, 20.0);
                    until("both workers are on one", || stage.server.busy() == 2);
                },
                hold: 1_900,
                check: |stage| assert_eq!(stage.server.busy(), 2, "they are still at it"),
                ..STEP
            },
            Step {
                does: "they end",
                act: |stage| stage.await_batches(),
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        // Every client has left before its answer. A finished prediction counts all the same.
        name: "every prediction takes 0.7 of the limit, and more are asked for than can be served",
        args: &["--request-timeout=300ms", "--max-wait=5s"],
        steps: &[Step {
            does: "load of slow predictions whose clients leave",
            act: |stage| stage.load(6, 0, SLEEP, 700.0),
            hold: 3_000,
            check: |stage| assert_eq!(stage.had(200), 0, "all come too late"),
            ..STEP
        }],
        ..ROW
    },
    Row {
        // The canary's trial waits for a core behind these, so it is late but has not failed.
        name: "slow predictions succeed one after the other",
        args: &["--request-timeout=2s"],
        steps: &[Step {
            does: "load of slow predictions within the limit",
            act: |stage| stage.load(4, 0, SLEEP, 600.0),
            hold: 2_500,
            check: |stage| assert!(stage.had(200) >= 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "the process is stopped for longer than the limit under load, and continued",
        steps: &[
            Step {
                does: "load, and two long predictions",
                act: |stage| {
                    stage.load(1, 5, COMPUTE, 5.0);
                    stage.wait_for(200);
                    stage.hang(1, BLOCK);
                },
                hold: 100,
                ..STEP
            },
            Step {
                does: "SIGSTOP, for more than twice the limit",
                act: |stage| stage.server.signal(rustix::process::Signal::STOP),
                alive: Truth::Unasked,
                ready: Truth::Unasked,
                started: Truth::Unasked,
                answers: false,
                hold: 2_300,
                ..STEP
            },
            Step {
                does: "SIGCONT: no time has passed",
                act: |stage| stage.server.signal(rustix::process::Signal::CONT),
                hold: 500,
                ..STEP
            },
            Step {
                does: "the long prediction ends",
                act: |stage| {
                    stage.release();
                    stage.wait_for(200);
                },
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        name: "the process is stopped for longer than the limit while every worker computes",
        steps: &[
            Step {
                does: "two long predictions, and others wait",
                act: |stage| {
                    stage.hang(2, BLOCK);
                    stage.load(2, 0, ANSWER, 1.0);
                },
                hold: 200,
                ..STEP
            },
            Step {
                does: "SIGSTOP, for more than twice the limit",
                act: |stage| stage.server.signal(rustix::process::Signal::STOP),
                alive: Truth::Unasked,
                ready: Truth::Unasked,
                started: Truth::Unasked,
                answers: false,
                hold: 2_300,
                ..STEP
            },
            Step {
                does: "SIGCONT: a third of the limit has passed",
                act: |stage| stage.server.signal(rustix::process::Signal::CONT),
                hold: 200,
                ..STEP
            },
            Step {
                does: "the long predictions end",
                act: |stage| {
                    stage.release();
                    stage.wait_for(200);
                },
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
];
