use super::*;
use crate::platform::clock::Stamp;

fn ago(seconds: u64) -> Stamp {
    Stamp((1_000_000 - seconds) * 1_000_000_000)
}

fn busy(seconds: u64) -> WorkerSnapshot {
    WorkerSnapshot {
        busy_since: Some(ago(seconds)),
        substituted: false,
    }
}

fn replaced(seconds: u64) -> WorkerSnapshot {
    WorkerSnapshot {
        substituted: true,
        ..busy(seconds)
    }
}

const IDLE: WorkerSnapshot = WorkerSnapshot {
    busy_since: None,
    substituted: false,
};

fn quiet() -> Snapshot {
    Snapshot::quiet(ago(0))
}

fn alive(snapshot: &Snapshot) -> Result<(), &'static str> {
    failing(ProbeKind::Liveness, snapshot)
}

fn ready(snapshot: &Snapshot) -> Result<(), &'static str> {
    failing(ProbeKind::Readiness, snapshot)
}

fn failing(kind: ProbeKind, snapshot: &Snapshot) -> Result<(), &'static str> {
    failure(kind, snapshot).map_or(Ok(()), |failure| Err(failure.check))
}

#[test]
fn liveness_fails_only_where_predictions_no_longer_complete() {
    const OK: Result<(), &str> = Ok(());
    const STUCK: Result<(), &str> = Err("workers");
    const DEAF: Result<(), &str> = Err("predictions");
    type Row = (
        &'static str,
        Vec<WorkerSnapshot>,
        usize,
        Stamp,
        Result<(), &'static str>,
    );
    #[rustfmt::skip]
    let table: Vec<Row> = vec![
        ("idle for days", vec![IDLE, IDLE], 0, ago(900_000), OK),
        ("busy within the limit", vec![busy(59), busy(59)], 0, ago(59), OK),
        ("one prediction of 50 s, with others waiting for as long", vec![busy(50)], 200, ago(50), OK),
        ("one stuck, one idle", vec![busy(600), IDLE], 0, ago(600), OK),
        ("one stuck, one moving", vec![busy(600), busy(1)], 5, ago(1), OK),
        ("one stuck, one on an honest long prediction", vec![busy(90), busy(59)], 5, ago(59), OK),
        ("all stuck", vec![busy(60), busy(61)], 0, ago(60), STUCK),
        ("all stuck with a queue that was filled since", vec![busy(600), busy(600)], 9, ago(50), STUCK),
        ("overloaded but moving", vec![busy(1), busy(2)], 256, ago(1), OK),
        ("jobs wait, workers idle and deaf", vec![IDLE, IDLE], 1, ago(60), DEAF),
        ("jobs have waited a little", vec![IDLE, IDLE], 1, ago(59), OK),
        ("no worker runs, nothing waits", vec![], 0, ago(600), OK),
        ("no worker runs, jobs wait", vec![], 3, ago(60), DEAF),
        ("the survivor is stuck", vec![busy(60)], 0, ago(60), STUCK),
        ("one stuck and replaced, the others move", vec![replaced(600), busy(1), IDLE], 0, ago(1), OK),
        ("all stuck, some of them replaced", vec![replaced(600), busy(60), busy(70)], 0, ago(60), STUCK),
        ("a replaced worker that is idle again", vec![WorkerSnapshot { substituted: true, ..IDLE }, busy(60)], 0, ago(60), OK),
        ("only replaced workers run for a moment", vec![replaced(600)], 0, ago(600), OK),
    ];
    for (name, workers, waiting, moved_at, expected) in table {
        let snapshot = Snapshot {
            workers,
            waiting,
            moved_at,
            ..quiet()
        };
        assert_eq!(alive(&snapshot), expected, "{name}");
    }
}

#[test]
fn with_the_policy_any_one_stuck_worker_is_fatal_replaced_or_not() {
    let mut snapshot = quiet();
    snapshot.limits.any_stuck_is_fatal = true;
    for (workers, expected) in [
        (vec![busy(59), IDLE], Ok(())),
        (vec![busy(60), IDLE], Err("workers")),
        (vec![replaced(60), IDLE, IDLE], Err("workers")),
    ] {
        snapshot.workers = workers;
        assert_eq!(alive(&snapshot), expected, "{:?}", snapshot.workers);
    }
}

#[test]
fn some_stuck_workers_are_a_degradation() {
    let mut snapshot = quiet();
    assert_eq!(degradation(&snapshot), None);
    snapshot.workers = vec![busy(60), replaced(70), IDLE];
    let text = degradation(&snapshot).unwrap();
    assert!(
        text.starts_with("2 of 3 prediction workers") && text.ends_with("1 of them replaced"),
        "{text}"
    );
}

#[test]
fn an_acceptor_that_ended_is_stuck_or_loses_every_job_is_fatal() {
    let acceptor =
        |has_ended: Option<u64>, busy: Option<u64>, losses: Option<(u64, u64)>| Acceptor {
            missing_since: has_ended.map(ago),
            busy_since: busy.map(ago),
            losses: losses.map(|(first, last)| (ago(first), ago(last))),
        };
    const MISSING: Result<(), &str> = Err("acceptor");
    #[rustfmt::skip]
    let table = [
        ("it is being replaced", acceptor(Some(0), None, None), Ok(())),
        ("it could not be replaced", acceptor(Some(1), None, None), MISSING),
        ("it has just got a job", acceptor(None, Some(0), None), Ok(())),
        ("it has had a job for a while", acceptor(None, Some(59), None), Ok(())),
        ("it has had a job too long", acceptor(None, Some(60), None), MISSING),
        ("it has lost some", acceptor(None, None, Some((59, 1))), Ok(())),
        ("it has lost every one", acceptor(None, None, Some((60, 1))), MISSING),
        ("it lost the last ones long ago", acceptor(None, None, Some((90, 60))), Ok(())),
    ];
    for (name, acceptor, expected) in table {
        let snapshot = Snapshot {
            acceptor,
            ..quiet()
        };
        assert_eq!(alive(&snapshot), expected, "{name}");
        assert_eq!(ready(&snapshot), expected, "{name}");
    }
}

#[test]
fn failing_trials_are_fatal_after_the_limit_if_the_model_had_passed() {
    #[rustfmt::skip]
    let table = [
        ("it never passed", None, Stamp::NEVER, Ok(())),
        ("for a while", Some((ago(59), ago(0))), Stamp::NEVER, Ok(())),
        ("once, long ago", Some((ago(90), ago(90))), Stamp::NEVER, Ok(())),
        ("for as long as the limit", Some((ago(60), ago(0))), ago(61), Err("inference")),
        ("but real predictions succeed", Some((ago(90), ago(0))), ago(1), Ok(())),
        ("one prediction succeeded at first", Some((ago(90), ago(0))), ago(80), Err("inference")),
    ];
    for (name, failed_trials, succeeded_at, expected) in table {
        let snapshot = Snapshot {
            trial: TrialVerdict::Failed("no".into()),
            failed_trials,
            succeeded_at,
            ..quiet()
        };
        assert_eq!(alive(&snapshot), expected, "{name}");
        let unready = Err(expected.err().unwrap_or("canary"));
        assert_eq!(ready(&snapshot), unready, "{name}");
    }
}

#[test]
fn readiness_says_whether_a_prediction_made_now_would_work() {
    let failed = |reason: &str| TrialVerdict::Failed(reason.into());
    #[rustfmt::skip]
    let table: Vec<(&str, Snapshot, Result<(), &str>)> = vec![
        ("quiet", quiet(), Ok(())),
        ("loading", Snapshot { phase: ServerPhase::Starting, trial: TrialVerdict::Untried, ..quiet() }, Err("model")),
        ("draining", Snapshot { phase: ServerPhase::Draining, ..quiet() }, Err("draining")),
        ("the trial failed", Snapshot { trial: failed("wrong"), ..quiet() }, Err("canary")),
        ("not alive", Snapshot { workers: vec![busy(60)], ..quiet() }, Err("workers")),
        ("overloaded", Snapshot { workers: vec![busy(1)], waiting: 256, moved_at: ago(1), ..quiet() }, Ok(())),
        ("a trial is under way", Snapshot { trial_running_since: Some(ago(29)), ..quiet() }, Ok(())),
        ("a trial is late", Snapshot { trial_running_since: Some(ago(30)), succeeded_at: ago(31), ..quiet() }, Err("canary")),
        ("a trial is late under load", Snapshot { trial_running_since: Some(ago(90)), succeeded_at: ago(89), ..quiet() }, Ok(())),
        ("a worker is being replaced", Snapshot { workers: vec![], deserted_since: Some(ago(0)), ..quiet() }, Ok(())),
        ("no worker can be started", Snapshot { workers: vec![], deserted_since: Some(ago(1)), ..quiet() }, Err("lane")),
        ("connections are refused for a moment", Snapshot { accept_failures: Some((ago(4), ago(0))), ..quiet() }, Ok(())),
        ("connections are refused", Snapshot { accept_failures: Some((ago(5), ago(0))), ..quiet() }, Err("listeners")),
        ("connections were refused once", Snapshot { accept_failures: Some((ago(50), ago(50))), ..quiet() }, Ok(())),
    ];
    for (name, snapshot, expected) in table {
        assert_eq!(ready(&snapshot), expected, "{name}");
    }
}

#[test]
fn startup_passes_after_the_first_trial_whatever_it_said() {
    let started = |trial| {
        let snapshot = Snapshot { trial, ..quiet() };
        failing(ProbeKind::Startup, &snapshot)
    };
    assert_eq!(started(TrialVerdict::Untried), Err("model"));
    assert_eq!(started(TrialVerdict::Passed), Ok(()));
    assert_eq!(started(TrialVerdict::Failed("no".into())), Ok(()));
}

#[test]
fn who_is_not_alive_is_not_ready() {
    let names = |kind| checks(kind).iter().map(|check| check.name);
    let liveness: Vec<_> = names(ProbeKind::Liveness).collect();
    let readiness: Vec<_> = names(ProbeKind::Readiness).collect();
    assert!(readiness.starts_with(&liveness));
}

#[test]
fn a_stuck_worker_counts_until_it_has_its_substitute() {
    use crate::platform::clock::ProcessClock;
    use crate::vitals::Vitals;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let second = 1_000_000_000;
    let nanos = Arc::new(AtomicU64::new(second));
    let clock = ProcessClock::manual(Arc::clone(&nanos), Duration::from_secs(1));
    let vitals = Vitals::new(clock, (8, 2), (8, 2));
    for worker in vitals.predict.workers.iter().take(2) {
        worker.alive.store(true, Ordering::Release);
        worker.busy_since.store(Stamp(second));
    }
    let limits = |replaces_stuck| Limits {
        replaces_stuck,
        ..quiet().limits
    };
    let at = |millis: u64, replaces_stuck| {
        // As the main thread does, one tick per second.
        while nanos.load(Ordering::Acquire) < second + millis * 1_000_000 {
            let now = nanos.load(Ordering::Acquire);
            let next = (now + second).min(second + millis * 1_000_000);
            nanos.store(next, Ordering::Release);
            vitals.clock.tick();
        }
        alive(&Snapshot::of(
            &vitals,
            [].into_iter(),
            limits(replaces_stuck),
        ))
    };
    assert_eq!(at(59_999, true), Ok(()));
    assert_eq!(
        at(60_000, true),
        Err("workers"),
        "nothing else came to an end"
    );
    vitals.predict.finished_from.store(Stamp(second + 1));
    assert_eq!(at(60_000, true), Ok(()), "a substitute is on its way");
    assert_eq!(at(60_000, false), Err("workers"), "none will come");
    assert_eq!(at(60_250, true), Err("workers"), "none could be started");
}
