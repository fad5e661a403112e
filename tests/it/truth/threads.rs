//! Rows in which the server's own threads end or hang, or descriptors run out.

use rustix::process::Resource;

use super::judge::Truth;
use super::matrix::{ROW, Row, STEP, Step};
use crate::support::action::ANSWER;

/// Everything that hung continues.
const RELEASED: Step = Step {
    does: "all go on",
    act: |stage| stage.release(),
    hold: 400,
    ..STEP
};

pub const ROWS: &[Row] = &[
    Row {
        // Only the prober's jobs are lost.
        name: "the acceptor ends three times",
        steps: &[Step {
            does: "the acceptor ends with a probe in hand, and again, and again",
            act: |stage| (0..3).for_each(|_| stage.end("acceptor", 1)),
            hold: 500,
            check: |stage| assert_eq!(stage.number("/threads_replaced"), 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "the acceptor hangs",
        stall: 600,
        steps: &[
            Step {
                does: "the acceptor hangs with a probe in hand",
                act: |stage| stage.hang_by("hang acceptor", 1),
                alive: Truth::Stalled(0),
                ready: Truth::NoAfter(600),
                // Kubelet sends no startup probes once the server has started.
                started: Truth::Unasked,
                answers: false,
                hold: 500,
                check: |stage| stage.says_dead("acceptor"),
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "a prediction worker ends three times",
        steps: &[Step {
            does: "a worker ends under load, and again, and again",
            act: |stage| {
                stage.load(2, 20, ANSWER, 1.0);
                (0..3).for_each(|_| stage.end("predict", 1));
            },
            hold: 500,
            check: |stage| {
                assert_eq!(stage.number("/threads_replaced"), 3);
                assert_eq!(stage.had(500), 3, "the client of each is told");
            },
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "all prediction workers end",
        steps: &[Step {
            does: "both workers end under load",
            act: |stage| {
                stage.load(2, 20, ANSWER, 1.0);
                stage.end("predict", 2);
            },
            check: |stage| {
                assert_eq!(stage.number("/threads_replaced"), 2);
                stage.rest();
                assert!(stage.can_compute(2));
            },
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "all prediction workers hang outside the model",
        steps: &[
            Step {
                does: "both workers take a prediction up and hang",
                act: |stage| {
                    stage.load(2, 20, ANSWER, 1.0);
                    stage.hang_by("hang predict 2", 2);
                },
                alive: Truth::Stalled(0),
                ready: Truth::NoAfter(1_000),
                hold: 400,
                check: |stage| stage.says_dead("workers"),
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "a probe worker ends three times",
        steps: &[Step {
            does: "a probe worker ends with a probe in hand, and again, and again",
            act: |stage| (0..3).for_each(|_| stage.end("probe", 1)),
            hold: 500,
            check: |stage| assert_eq!(stage.number("/threads_replaced"), 3),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "one of two probe workers hangs",
        steps: &[
            Step {
                does: "it hangs with a probe in hand, which is answered all the same",
                act: |stage| stage.hang_by("hang probe", 1),
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        // Predictions still complete, so probes must pass, without a probe worker to answer them.
        name: "all probe workers hang",
        steps: &[
            Step {
                does: "both hang, under light load",
                act: |stage| {
                    stage.load(1, 20, ANSWER, 1.0);
                    stage.hang_by("hang probe 2", 2);
                },
                check: |stage| stage.wait_for(200),
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "the canary ends",
        steps: &[Step {
            does: "the thread that makes trials ends",
            act: |stage| stage.end("canary", 1),
            check: |stage| assert_eq!(stage.number("/threads_replaced"), 1),
            ..STEP
        }],
        ..ROW
    },
    Row {
        name: "nobody writes the log",
        steps: &[
            Step {
                does: "the thread that writes the log hangs",
                act: |stage| {
                    stage.load(1, 5, ANSWER, 1.0);
                    stage.hang_by("hang log", 1);
                },
                check: |stage| stage.wait_for(200),
                ..STEP
            },
            RELEASED,
        ],
        ..ROW
    },
    Row {
        name: "there is no descriptor left, and then there is again",
        steps: &[
            Step {
                does: "the limit is lowered, many clients connect and many others ask",
                act: |stage| {
                    const LEFT: u64 = 20;
                    let open = stage.server.resources().1 as u64;
                    stage.limit(Resource::Nofile, Some(open + LEFT));
                    stage.connect(80);
                    stage.load(40, 50, ANSWER, 1.0);
                },
                hold: 1_600,
                check: |stage| {
                    assert!(
                        stage
                            .server
                            .logged()
                            .contains("descriptors all but a reserve")
                    );
                    stage.wait_for(200);
                },
                ..STEP
            },
            Step {
                does: "the limit is lifted and they leave",
                act: |stage| {
                    stage.limit(Resource::Nofile, None);
                    stage.disconnect();
                    stage.rest();
                },
                hold: 300,
                ..STEP
            },
        ],
        ..ROW
    },
];
