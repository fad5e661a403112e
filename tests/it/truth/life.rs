//! Rows in which a server starts, drains or dies.

use rustix::process::{Resource, Signal};

use super::judge::Truth;
use super::matrix::{Begin, End, ROW, Row, STEP, Step};
use super::stage::until;
use crate::support::action::{ALLOCATE, ANSWER, BLOCK, SLEEP};

/// The model is still loading: the server is alive.
const LOADING: Step = Step {
    ready: Truth::No,
    started: Truth::No,
    hold: 1_600,
    check: |stage| {
        stage.says("/readyz", "model is loading");
        stage.says("/startupz", "model is loading");
        assert_eq!(stage.answer(), 503);
    },
    ..STEP
};

/// The process has ended, so nothing answers.
const GONE: Step = Step {
    alive: Truth::No,
    ready: Truth::No,
    started: Truth::No,
    answers: false,
    hold: 300,
    ..STEP
};

/// Draining: not ready, but alive while it finishes what it has admitted.
const DRAINING: Step = Step {
    does: "SIGTERM",
    act: |stage| stage.server.signal(Signal::TERM),
    ready: Truth::No,
    hold: 1_400,
    check: |stage| stage.says("/readyz", "draining"),
    ..STEP
};

/// The drain ends.
const DRAINED: Step = Step {
    does: "the drain ends",
    act: |stage| assert_eq!(stage.wait().code(), Some(0)),
    ..GONE
};

const GRACE: &[&str] = &["--drain-grace=2500ms", "--drain-timeout=300ms"];

pub const ROWS: &[Row] = &[
    Row {
        name: "the model cannot be loaded",
        source: "none",
        begin: Begin::Listening,
        steps: &[Step {
            does: "the process says why and ends",
            act: |stage| assert_eq!(stage.wait().code(), Some(1)),
            ..GONE
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "loading the model takes longer than the limit",
        source: "slow-load",
        begin: Begin::Listening,
        steps: &[
            Step {
                does: "the model loads",
                ..LOADING
            },
            Step {
                does: "it is loaded",
                act: |stage| stage.release(),
                hold: 500,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        name: "loading the model hangs",
        source: "slow-load",
        begin: Begin::Listening,
        steps: &[Step {
            does: "the model loads and does not come to an end",
            act: |stage| stage.load(2, 20, ANSWER, 1.0),
            hold: 3_000,
            ..LOADING
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the first trial hangs",
        source: "hung-trial",
        begin: Begin::Listening,
        steps: &[Step {
            does: "the model is loaded, and its trial does not come to an end",
            hold: 2_500,
            ..LOADING
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the server drains without work",
        args: GRACE,
        steps: &[DRAINING, DRAINED],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the server drains with work",
        args: GRACE,
        steps: &[
            Step {
                does: "predictions run and wait",
                act: |stage| {
                    stage.load(4, 0, SLEEP, 100.0);
                    stage.wait_for(200);
                },
                hold: 100,
                ..STEP
            },
            Step {
                check: |stage| {
                    stage.says("/readyz", "draining");
                    stage.wait_for(200);
                },
                ..DRAINING
            },
            DRAINED,
        ],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the server drains while one of two workers hangs",
        args: GRACE,
        steps: &[
            Step {
                does: "one prediction hangs",
                act: |stage| stage.hang(1, BLOCK),
                hold: 100,
                ..STEP
            },
            DRAINING,
            DRAINED,
        ],
        end: End::Left,
        ..ROW
    },
    Row {
        // A stuck server fails liveness even while it drains; draining alone does not fail it.
        name: "the server drains while every worker hangs",
        args: GRACE,
        steps: &[
            Step {
                does: "SIGTERM, and two predictions hang",
                act: |stage| {
                    stage.server.signal(Signal::TERM);
                    stage.hang(2, BLOCK);
                },
                alive: Truth::Stalled(0),
                ready: Truth::No,
                hold: 300,
                check: |stage| stage.says_dead("workers"),
                ..STEP
            },
            DRAINED,
        ],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the model takes memory until there is none",
        steps: &[
            Step {
                does: "a prediction takes all that a limit leaves, and the process dies of it",
                act: |stage| {
                    const LEFT: u64 = 256 << 20;
                    // The model allocates 16 MiB at a time.
                    const LAST: u64 = 32 << 20;
                    let most = stage.address_space().unwrap() + LEFT;
                    stage.limit(Resource::As, Some(most));
                    stage.send(ALLOCATE);
                    until("the memory is taken", || {
                        stage.address_space().is_none_or(|size| size + LAST > most)
                    });
                },
                check: |stage| assert!(!stage.wait().success()),
                ..GONE
            },
            Step {
                does: "a manager starts it again",
                act: |stage| stage.restart(),
                hold: 500,
                ..STEP
            },
        ],
        ..ROW
    },
];
