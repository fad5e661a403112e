//! Rows in which predictions hang.

use super::judge::Truth;
use super::matrix::{Company, ROW, Row, STEP, Step};
use crate::support::action::{ANSWER, BLOCK, DOZE, FAIL, LOCK, SLEEP, SPIN};

/// From here on every worker hangs: liveness fails at the stall timeout, and readiness by then.
const ALL_STUCK: Step = Step {
    alive: Truth::Stalled(0),
    ready: Truth::NoAfter(1_000),
    hold: 500,
    check: |stage| stage.says_dead("workers"),
    ..STEP
};

/// Everything that hung continues.
const RELEASED: Step = Step {
    does: "all go on",
    act: |stage| stage.release(),
    hold: 300,
    check: |stage| assert!(!stage.is_degraded()),
    ..STEP
};

pub const ROWS: &[Row] = &[
    Row {
        name: "one of two workers hangs while the other is idle",
        steps: &[
            Step {
                does: "one prediction hangs",
                act: |stage| stage.hang(1, BLOCK),
                hold: 1_500,
                check: |stage| {
                    assert!(stage.is_degraded());
                    assert_eq!(stage.number("/lanes/predict/stuck"), 1);
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 0);
                    assert_eq!(stage.answer(), 200);
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "one of two workers hangs while the other serves",
        steps: &[
            Step {
                does: "one prediction hangs under light load",
                act: |stage| {
                    stage.load(1, 10, ANSWER, 1.0);
                    stage.hang(1, BLOCK);
                },
                hold: 1_600,
                check: |stage| {
                    assert!(stage.is_degraded());
                    assert_eq!(stage.number("/lanes/predict/stuck"), 1);
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 1);
                    stage.rest();
                    // The substitute restores the capacity.
                    assert!(stage.can_compute(2));
                },
                ..STEP
            },
            Step {
                check: |stage| {
                    assert!(!stage.is_degraded());
                    // The worker that was stuck retires when it comes back.
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 0);
                },
                ..RELEASED
            },
        ],
        ..ROW
    },
    Row {
        // Every prediction that a worker finishes counts, even if it failed.
        name: "one of two workers hangs while the model fails on what the other serves",
        steps: &[
            Step {
                does: "one prediction hangs under load that fails",
                act: |stage| {
                    stage.load(1, 10, FAIL, 1.0);
                    stage.hang(1, BLOCK);
                },
                hold: 1_600,
                check: |stage| {
                    stage.rest();
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 1);
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "one worker hangs after the other, and honest predictions between them succeed",
        steps: &[
            Step {
                does: "one prediction hangs under light load",
                act: |stage| {
                    stage.load(1, 10, ANSWER, 1.0);
                    stage.hang(1, BLOCK);
                },
                hold: 450,
                ..STEP
            },
            Step {
                does: "half a limit later the other hangs, but the first is replaced in time",
                act: |stage| stage.hang(1, BLOCK),
                hold: 2_000,
                check: |stage| {
                    assert_eq!(stage.number("/lanes/predict/stuck"), 2);
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 2);
                    stage.rest();
                    assert!(stage.can_compute(2));
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "one of two workers hangs while the other is idle, and any hang is fatal",
        args: &["--stall-policy=any"],
        steps: &[
            Step {
                does: "one prediction hangs",
                act: |stage| stage.hang(1, BLOCK),
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        // A substitute takes its place, which changes no verdict.
        name: "one of two workers hangs while the other serves, and any hang is fatal",
        args: &["--stall-policy=any"],
        steps: &[
            Step {
                does: "one prediction hangs under light load",
                act: |stage| {
                    stage.load(1, 10, ANSWER, 1.0);
                    stage.hang(1, BLOCK);
                },
                alive: Truth::Stalled(0),
                ready: Truth::NoAfter(1_000),
                hold: 800,
                check: |stage| {
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 1);
                    stage.says_dead("workers");
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "one of two workers hangs while the other serves, and nobody is replaced",
        args: &["--replace-stuck-workers=false"],
        steps: &[
            Step {
                does: "one prediction hangs under light load",
                act: |stage| {
                    stage.load(1, 10, ANSWER, 1.0);
                    stage.hang(1, BLOCK);
                },
                hold: 1_600,
                check: |stage| {
                    assert!(stage.is_degraded());
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 0);
                    stage.rest();
                    assert!(!stage.can_compute(2), "one worker is missing");
                    assert_eq!(stage.answer(), 200);
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "every worker hangs on a condition that does not come",
        steps: &[
            Step {
                does: "two predictions hang",
                act: |stage| stage.hang(2, BLOCK),
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "every worker hangs on a lock that is not given up",
        steps: &[
            Step {
                does: "two predictions wait for a lock",
                act: |stage| stage.hang(2, LOCK),
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "every worker sleeps for ever, and others ask in vain",
        steps: &[
            Step {
                does: "two predictions sleep",
                act: |stage| {
                    stage.hang(2, DOZE);
                    stage.load(3, 20, ANSWER, 1.0);
                },
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "every worker spins for ever",
        company: Company::Alone,
        steps: &[
            Step {
                does: "two predictions compute without an end",
                act: |stage| stage.hang(2, SPIN),
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        // The second worker hangs before the first counts as stuck. No prediction that began after the
        // first has finished, so nothing shows that a substitute would help.
        name: "a model that always hangs stops one worker after the other",
        steps: &[
            Step {
                does: "the first prediction hangs",
                act: |stage| {
                    stage.tell("every hang");
                    stage.hang(1, ANSWER);
                },
                hold: 450,
                ..STEP
            },
            Step {
                does: "half a limit later the second hangs",
                act: |stage| {
                    stage.hang(1, ANSWER);
                    stage.load(3, 20, ANSWER, 1.0);
                },
                alive: Truth::Stalled(0),
                ready: Truth::NoAfter(1_000),
                hold: 1_000,
                check: |stage| {
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 0);
                    stage.says_dead("workers");
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "the model hangs on everything, and so does its trial",
        steps: &[
            Step {
                does: "whatever is asked under load hangs",
                act: |stage| {
                    stage.tell("trial hang");
                    stage.tell("every hang");
                    stage.hang(2, ANSWER);
                    stage.load(2, 20, ANSWER, 1.0);
                },
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "an honest long prediction begins while the other worker hangs",
        stall: 1_500,
        args: &["--request-timeout=1400ms"],
        steps: &[
            Step {
                does: "one prediction hangs",
                act: |stage| stage.hang(1, BLOCK),
                hold: 900,
                ..STEP
            },
            Step {
                does: "another begins that takes 0.8 of the limit",
                act: |stage| stage.load(1, 3_000, SLEEP, 1_200.0),
                hold: 2_000,
                check: |stage| {
                    assert_eq!(stage.had(200), 1);
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 1);
                    assert!(stage.can_compute(2));
                },
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "every worker hangs and recovers before the limit",
        stall: 1_500,
        steps: &[
            Step {
                does: "two predictions hang, and others wait",
                act: |stage| {
                    stage.hang(2, BLOCK);
                    stage.load(2, 0, ANSWER, 1.0);
                },
                hold: 1_100,
                ..STEP
            },
            Step {
                does: "they go on",
                act: |stage| stage.release(),
                hold: 1_600,
                ..STEP
            },
        ],
        ..ROW
    },
    Row {
        name: "every worker hangs and recovers after the limit, twice",
        steps: &[
            Step {
                does: "two predictions hang under load",
                act: |stage| {
                    stage.hang(2, BLOCK);
                    stage.load(2, 5, ANSWER, 1.0);
                },
                ..ALL_STUCK
            },
            RELEASED,
            Step {
                does: "two more hang",
                act: |stage| {
                    stage.rest();
                    stage.hang(2, BLOCK);
                },
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        // Two workers get substitutes, which is the limit. Further stuck workers count.
        name: "poison stops one worker after the other until no substitute is left",
        steps: &[
            Step {
                does: "one hangs under light load",
                act: |stage| {
                    stage.load(1, 10, ANSWER, 1.0);
                    stage.hang(1, BLOCK);
                },
                hold: 1_600,
                check: |stage| assert_eq!(stage.number("/lanes/predict/substitutes"), 1),
                ..STEP
            },
            Step {
                does: "another hangs",
                act: |stage| stage.hang(1, BLOCK),
                hold: 1_600,
                check: |stage| {
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 2);
                    assert_eq!(stage.number("/lanes/predict/stuck"), 2);
                },
                ..STEP
            },
            Step {
                does: "a third hangs",
                act: |stage| stage.hang(1, BLOCK),
                hold: 1_600,
                check: |stage| {
                    assert_eq!(stage.number("/lanes/predict/substitutes"), 2);
                    stage.rest();
                    assert_eq!(stage.answer(), 200, "one is left");
                },
                ..STEP
            },
            Step {
                does: "the last one hangs",
                act: |stage| stage.hang(1, BLOCK),
                ..ALL_STUCK
            },
            RELEASED,
        ],
        ..ROW
    },
];
