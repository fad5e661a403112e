//! Rows in which the machine has little time for the server; they run one at a time.

use super::matrix::{Company, ROW, Row, STEP, Step};
use crate::support::action::COMPUTE;

/// A stall timeout that predictions stay within even with a tenth of a core.
const SLOW: Row = Row {
    stall: 2_000,
    args: &["--request-timeout=1500ms", "--max-wait=1s"],
    company: Company::Alone,
    starved: true,
    ..ROW
};

const CROWDED: &[Step] = &[
    Step {
        does: "busy loops take the cores under load",
        act: |stage| {
            stage.load(2, 10, COMPUTE, 5.0);
            stage.crowd();
        },
        hold: 2_600,
        check: |stage| stage.wait_for(200),
        ..STEP
    },
    Step {
        does: "they end",
        act: |stage| stage.disperse(),
        hold: 300,
        ..STEP
    },
];

pub const ROWS: &[Row] = &[
    Row {
        name: "other processes take every core",
        steps: CROWDED,
        ..SLOW
    },
    Row {
        name: "other processes take every core, and workers give way to them",
        args: &["--request-timeout=1500ms", "--max-wait=1s", "--yield=nice"],
        steps: CROWDED,
        ..SLOW
    },
    Row {
        name: "the server has a fifth of a core",
        steps: &[
            Step {
                does: "a quota throttles it under load",
                act: |stage| {
                    stage.load(2, 10, COMPUTE, 5.0);
                    if !stage.limit_cpu(20) {
                        let why = "no control group with a CPU quota can be made on this machine";
                        stage.not_tested = Some(why.to_owned());
                    }
                },
                hold: 2_600,
                check: |stage| stage.wait_for(200),
                ..STEP
            },
            Step {
                does: "the quota is lifted",
                act: |stage| stage.unlimit_cpu(),
                hold: 300,
                ..STEP
            },
        ],
        ..SLOW
    },
];
