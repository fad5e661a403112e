//! Probes tell the truth: the fault matrix.
//!
//! Each row of the matrix is a scenario with what is true in it, written down beforehand. A kubelet
//! in a hurry probes a real process meanwhile, and what it heard is held against that: a live server
//! that is said to be dead is a false positive, a dead one that passes a false negative.

mod failures;
mod hangs;
mod judge;
mod life;
mod load;
mod machine;
mod matrix;
mod prober;
mod pure;
mod quota;
mod stage;
mod states;
mod threads;

use std::collections::HashSet;

use self::matrix::Row;

/// All rows that need a process, in the order in which they are shown.
fn rows() -> Vec<&'static Row> {
    let tables = [
        load::ROWS,
        hangs::ROWS,
        failures::ROWS,
        life::ROWS,
        threads::ROWS,
        machine::ROWS,
    ];
    tables.into_iter().flatten().collect()
}

#[test]
fn probes_tell_the_truth_in_every_scenario() {
    let mut reports = pure::run();
    reports.extend(matrix::run(&rows()));
    matrix::conclude(&reports);
}

#[test]
fn no_two_rows_have_the_same_name() {
    let mut names = HashSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{:?} is there twice", row.name);
        assert!(!row.steps.is_empty(), "{:?} has no steps", row.name);
    }
}

#[test]
fn readme_has_the_table_of_states_that_the_matrix_proves() {
    let table = states::markdown(&rows());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    assert!(
        readme.contains(&table),
        "README.md must have this table under \"What each state means\":\n\n{table}"
    );
}
