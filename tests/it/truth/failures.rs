//! Rows in which predictions or trials fail, hang or are late.

use super::judge::Truth;
use super::matrix::{Begin, End, ROW, Row, STEP, Step};
use super::stage::until;
use crate::support::action::{ANSWER, FAIL, PANIC};

/// From here on trials fail, after the model had passed one. Readiness fails with the next trial, at
/// most a canary interval later, and liveness once trials have failed for the stall timeout.
const TRIAL_FAILS: Step = Step {
    alive: Truth::Stalled(300),
    ready: Truth::NoAfter(300),
    hold: 400,
    check: |stage| {
        stage.says("/readyz", "Service has stopped completing predictions");
        stage.says_dead("inference");
    },
    ..STEP
};

/// Everything works again.
const CURED: Step = Step {
    does: "the model works again",
    act: |stage| stage.release(),
    hold: 500,
    ..STEP
};

pub const ROWS: &[Row] = &[
    Row {
        name: "every prediction panics, and so does the trial",
        steps: &[
            Step {
                does: "the model panics on everything under load",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.tell("trial panic");
                    stage.tell("every panic");
                },
                ..TRIAL_FAILS
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "the model fails on everything, and so does the trial",
        steps: &[
            Step {
                does: "the model fails on everything under load",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.tell("trial fail");
                    stage.tell("every fail");
                },
                ..TRIAL_FAILS
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "every prediction panics, but the trial passes",
        steps: &[
            Step {
                does: "the model panics on everything but its trial",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.tell("every panic");
                },
                hold: 2_200,
                check: |stage| assert!(stage.had(500) > 3),
                ..STEP
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "the model fails on everything, but the trial passes",
        steps: &[
            Step {
                does: "the model fails on everything but its trial",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.tell("every fail");
                },
                hold: 2_200,
                check: |stage| assert!(stage.had(500) > 3),
                ..STEP
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "every second prediction panics",
        steps: &[
            Step {
                does: "the model panics every second time",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.tell("every alternate");
                },
                hold: 2_000,
                check: |stage| assert!(stage.had(500) > 3 && stage.had(200) > 3),
                ..STEP
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "the model fails on some requests",
        steps: &[Step {
            does: "two clients send what works, one what does not",
            act: |stage| {
                stage.load(2, 20, ANSWER, 1.0);
                stage.load(1, 10, FAIL, 1.0);
            },
            hold: 1_800,
            check: |stage| assert!(stage.had(500) > 3 && stage.had(200) > 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "ten poison requests come to a quiet server",
        steps: &[Step {
            does: "ten requests on which the model panics",
            act: |stage| (0..10).for_each(|_| assert_eq!(stage.ask(PANIC, 1.0), 500)),
            hold: 1_600,
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "one client sends nothing but poison beside honest ones",
        steps: &[Step {
            does: "one client makes the model panic as fast as it can",
            act: |stage| {
                stage.load(2, 20, ANSWER, 1.0);
                stage.load(1, 0, PANIC, 1.0);
            },
            hold: 2_000,
            check: |stage| assert!(stage.had(500) > 3 && stage.had(200) > 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "one client sends nothing but poison, and there is no other",
        steps: &[Step {
            does: "one client makes the model panic as fast as it can",
            act: |stage| stage.load(1, 0, PANIC, 1.0),
            hold: 2_200,
            check: |stage| assert!(stage.had(500) > 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        // Three failures in a row request a trial at once.
        name: "everything fails long before the next trial is due",
        canary: 60_000,
        steps: &[Step {
            does: "the model panics on everything under load",
            act: |stage| {
                stage.load(1, 50, ANSWER, 1.0);
                stage.wait_for(200);
                stage.tell("trial panic");
                stage.tell("every panic");
            },
            // Trials run at most once a second, and three failures take 0.2 s.
            alive: Truth::Stalled(1_200),
            ready: Truth::NoAfter(200),
            hold: 300,
            check: |stage| stage.says_dead("inference"),
            ..STEP
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "two failures a second apart and no success ask for a trial",
        canary: 60_000,
        steps: &[Step {
            does: "one failure, and another more than a second later",
            act: |stage| {
                stage.tell("trial fail");
                assert_eq!(stage.ask(FAIL, 1.0), 500);
                // The test needs a second of nothing but failures.
                std::thread::sleep(std::time::Duration::from_millis(1_100));
                assert_eq!(stage.ask(FAIL, 1.0), 500);
            },
            // The trial runs at the second failure, so the stall timeout ends after this step.
            ready: Truth::No,
            hold: 200,
            check: |stage| stage.says("/readyz", "Model inference failed: "),
            ..STEP
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the trial fails on a quiet server, which had passed it",
        steps: &[
            Step {
                does: "the model returns an error for its trial",
                act: |stage| stage.tell("trial fail"),
                hold: 200,
                check: |stage| stage.says_dead("inference"),
                ..TRIAL_FAILS
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "the trial is answered wrongly on a quiet server",
        // So long that readiness fails with its own text before liveness fails.
        stall: 2_000,
        steps: &[
            Step {
                does: "the model answers its trial wrongly",
                act: |stage| stage.tell("trial wrong"),
                alive: Truth::Yes,
                ready: Truth::NoAfter(300),
                hold: 100,
                check: |stage| stage.says("/readyz", "Model inference failed: the trial gave 8"),
                ..STEP
            },
            Step {
                does: "the limit passes",
                alive: Truth::NoAfter(2_000),
                ready: Truth::No,
                act: |_| {},
                ..TRIAL_FAILS
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        // Real predictions are better evidence than a trial.
        name: "the trial would fail, but real predictions succeed",
        steps: &[Step {
            does: "the model would fail on its trial under honest load",
            act: |stage| {
                stage.load(2, 20, ANSWER, 1.0);
                stage.wait_for(200);
                stage.tell("trial fail");
            },
            hold: 2_000,
            ..STEP
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        // While predictions succeed, a restart would not help.
        name: "the trial fails, and then real predictions succeed all the same",
        steps: &[
            Step {
                does: "the model fails on its trial, and honest load begins before the limit",
                act: |stage| {
                    stage.tell("trial fail");
                    until("the trial has failed", || {
                        stage.server.probe("/readyz").status == 500
                    });
                    stage.load(2, 20, ANSWER, 1.0);
                },
                ready: Truth::NoAfter(300),
                hold: 2_500,
                check: |stage| assert!(stage.had(200) > 3),
                ..STEP
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "the model never passed its trial",
        source: "wrong",
        begin: Begin::Listening,
        steps: &[Step {
            does: "it is loaded, and answers wrongly",
            ready: Truth::No,
            hold: 2_500,
            check: |stage| {
                assert_eq!(
                    stage.server.probe("/readyz").body,
                    "Model inference failed: the trial gave 7 instead of 8"
                );
                stage.says("/readyz?verbose", "[-]canary ");
            },
            ..STEP
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        name: "the model never passed its trial, and everything else fails too",
        source: "panicking-trial",
        begin: Begin::Listening,
        steps: &[Step {
            does: "it is loaded, and panics on everything",
            act: |stage| {
                stage.tell("every panic");
                stage.load(2, 20, ANSWER, 1.0);
            },
            ready: Truth::No,
            hold: 2_500,
            ..STEP
        }],
        end: End::Left,
        ..ROW
    },
    Row {
        // A late trial has not failed, so liveness passes. A recent success since the trial began is
        // better evidence.
        name: "the trial hangs on an idle server",
        steps: &[
            Step {
                does: "the trial hangs",
                act: |stage| stage.hang_by("trial hang", 1),
                // After --canary-timeout, which is --request-timeout by default.
                ready: Truth::NoAfter(400),
                hold: 1_500,
                ..STEP
            },
            Step {
                does: "real predictions succeed meanwhile",
                act: |stage| stage.load(1, 20, ANSWER, 1.0),
                hold: 1_000,
                ..STEP
            },
            CURED,
        ],
        ..ROW
    },
    Row {
        name: "a trial that began while it was quiet is late under load",
        steps: &[
            Step {
                does: "the trial takes more than twice its time-out while real predictions succeed",
                act: |stage| {
                    stage.late_by("trial late");
                    stage.load(2, 5, ANSWER, 1.0);
                },
                hold: 1_500,
                check: |stage| assert!(stage.had(200) > 3),
                ..STEP
            },
            Step {
                does: "trials are in time again",
                act: |stage| stage.tell("trial ok"),
                hold: 500,
                ..STEP
            },
        ],
        ..ROW
    },
];
