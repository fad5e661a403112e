use super::*;
use crate::platform::clock::{self, ProcessClock};

const MILLI: Duration = Duration::from_millis(1);

/// A lane of two workers on jobs of this length, of which the first so many are busy, and its
/// deployment.
fn lane(service: Duration, busy: usize) -> (Arc<Vitals>, DeploymentVitals) {
    let clock = ProcessClock::new(Duration::from_secs(1));
    let vitals = Arc::new(Vitals::new(clock, (256, 2), (8, 2)));
    let deployment = DeploymentVitals::default();
    deployment.loaded.store(true, Ordering::Release);
    vitals.advance(ServerPhase::Serving);
    let lane = &vitals.predict;
    if !service.is_zero() {
        lane.record_service_time(service);
        // Often enough for the deviation to settle.
        (0..64).for_each(|_| deployment.service_times.record((0, 40), service, 1));
    }
    for (index, slot) in lane.workers[..2].iter().enumerate() {
        slot.alive.store(true, Ordering::Release);
        if index < busy {
            slot.begin(vitals.clock.now(), service);
        }
    }
    (vitals, deployment)
}

fn ask(deployment: &DeploymentVitals, patience: Duration) -> Ask<'_> {
    let now = clock::instant();
    Ask {
        form: 0,
        deployment,
        bytes: Some(40),
        now,
        deadline: now + patience,
        client: None,
    }
}

fn admission(max_wait: MaxWait) -> Admission {
    Admission::with(max_wait, None)
}

/// Admits until a refusal, at most a thousand times.
fn fill(
    admission: &Admission,
    (vitals, deployment): (&Arc<Vitals>, &DeploymentVitals),
    patience: Duration,
) -> (Vec<Admitted>, Code) {
    let mut all_admitted = Vec::new();
    loop {
        match admission.admit(vitals, &ask(deployment, patience)) {
            Ok(admitted) if all_admitted.len() < 1000 => all_admitted.push(admitted),
            Ok(_) => panic!("everything is admitted"),
            Err(refusal) => return (all_admitted, refusal.code),
        }
    }
}

#[test]
fn refusals_name_what_is_in_the_way() {
    let (vitals, deployment) = lane(Duration::ZERO, 0);
    let admission = admission(MaxWait::Auto);
    let code = |vitals: &Arc<Vitals>| {
        let refused = admission.check(vitals, &ask(&deployment, Duration::from_secs(30)));
        refused.err().map(|refusal| refusal.code)
    };
    assert_eq!(code(&vitals), None);
    deployment.loaded.store(false, Ordering::Release);
    assert_eq!(code(&vitals), Some(Code::Loading));
    deployment.loaded.store(true, Ordering::Release);
    vitals.advance(ServerPhase::Draining);
    assert_eq!(code(&vitals), None, "the grace period still serves");
    vitals.predict.queue_length.store(256, Ordering::Relaxed);
    assert_eq!(code(&vitals), Some(Code::QueueFull));
    vitals.advance(ServerPhase::Finishing);
    assert_eq!(code(&vitals), Some(Code::Draining));
}

#[test]
fn the_queue_is_as_long_as_the_wait_that_is_allowed() {
    let long = Duration::from_secs(30);
    #[rustfmt::skip]
    let table = [
        ("ten service times of each worker, less a tenth", MaxWait::Auto, 50, long, 2 * 8..=2 * 10, Code::Overloaded),
        ("at most 2 s", MaxWait::Auto, 500, long, 2 * 2..=2 * 4, Code::Overloaded),
        ("at least 100 ms, then by count", MaxWait::Auto, 0, long, 256..=256, Code::QueueFull),
        ("as long as was asked for", MaxWait::Fixed(MILLI * 100), 50, long, 2..=4, Code::Overloaded),
        ("as its deadline leaves", MaxWait::Auto, 50, MILLI * 200, 4..=6, Code::Overloaded),
        ("by count alone", MaxWait::Unlimited, 50, long * 100, 256..=256, Code::QueueFull),
    ];
    for (name, max_wait, millis, patience, expected, why) in table {
        let (vitals, deployment) = lane(MILLI * millis, 2);
        let (all_admitted, code) = fill(&admission(max_wait), (&vitals, &deployment), patience);
        assert!(
            expected.contains(&all_admitted.len()),
            "{name}: {}",
            all_admitted.len()
        );
        assert_eq!(code, why, "{name}");
        // A reservation that is given up makes room for another.
        all_admitted
            .iter()
            .for_each(|admitted| admitted.reservation.give_up());
        drop(all_admitted);
        assert!(
            admission(max_wait)
                .check(&vitals, &ask(&deployment, patience))
                .is_ok(),
            "{name}"
        );
    }
}

#[test]
fn an_idle_worker_tries_whatever_is_expected() {
    let (vitals, deployment) = lane(MILLI * 900, 1);
    let admission = admission(MaxWait::Fixed(Duration::ZERO));
    assert!(
        admission
            .check(&vitals, &ask(&deployment, MILLI * 10))
            .is_ok()
    );
    let (vitals, deployment) = lane(MILLI * 900, 2);
    let refusal = admission
        .check(&vitals, &ask(&deployment, MILLI * 1000))
        .unwrap_err();
    assert_eq!(refusal.code, Code::Overloaded);
    assert!(refusal.retry_after.is_some());
    let refusal = admission
        .check(&vitals, &ask(&deployment, Duration::ZERO))
        .unwrap_err();
    assert_eq!(refusal.code, Code::DeadlineExceeded);
}

#[test]
fn one_that_has_just_come_leaves_the_other_worker_idle() {
    let (vitals, deployment) = lane(MILLI * 900, 0);
    let admission = admission(MaxWait::Auto);
    let _first = admission
        .admit(&vitals, &ask(&deployment, MILLI * 1000))
        .unwrap();
    let _second = admission
        .admit(&vitals, &ask(&deployment, MILLI * 1000))
        .unwrap();
    assert!(
        admission
            .admit(&vitals, &ask(&deployment, MILLI * 1000))
            .is_err()
    );
}

#[test]
fn waits_that_were_longer_than_expected_shorten_the_queue() {
    let (vitals, deployment) = lane(MILLI * 50, 2);
    let admission = admission(MaxWait::Auto);
    let (before, _) = fill(&admission, (&vitals, &deployment), Duration::from_secs(30));
    let count = before.len();
    drop(before);
    for _ in 0..64 {
        forecast::learn(&vitals.predict, MILLI * 100, MILLI * 200);
    }
    let (after, _) = fill(&admission, (&vitals, &deployment), Duration::from_secs(30));
    assert!(after.len() < count * 2 / 3, "{} of {count}", after.len());
}

#[test]
fn what_is_taken_up_too_late_is_not_computed() {
    let (vitals, deployment) = lane(MILLI * 50, 2);
    let admission = admission(MaxWait::Fixed(MILLI * 300));
    let second = Duration::from_secs(1);
    let ask = ask(&deployment, second);
    let first = admission.admit(&vitals, &ask).unwrap();
    let decide = |waited: Duration, after: Duration| {
        let decision = check_at_dequeue(&vitals.predict, &first, waited, ask.now + after);
        decision.err().map(|refusal| refusal.code)
    };
    first.reservation.take_up();
    assert_eq!(decide(MILLI * 20, MILLI * 20), None);
    assert_eq!(decide(MILLI * 301, MILLI * 301), Some(Code::Expired));
    assert_eq!(decide(MILLI * 20, second), Some(Code::DeadlineExceeded));
    assert_eq!(decide(MILLI * 20, MILLI * 990), None, "nobody else waits");
    let _other = admission.admit(&vitals, &ask).unwrap();
    assert_eq!(decide(MILLI * 280, MILLI * 990), Some(Code::Expired));
    let too_short = Some(Code::DeadlineExceeded);
    assert_eq!(decide(MILLI * 20, MILLI * 990), too_short, "from the start");
}

#[test]
fn a_deadline_that_no_server_could_meet_gets_no_retry_after() {
    let (vitals, deployment) = lane(MILLI * 900, 2);
    for max_wait in [
        MaxWait::Auto,
        MaxWait::Unlimited,
        MaxWait::Fixed(Duration::ZERO),
    ] {
        let admission = admission(max_wait);
        let refusal = admission
            .check(&vitals, &ask(&deployment, MILLI * 500))
            .unwrap_err();
        assert_eq!(refusal.code, Code::DeadlineExceeded, "{max_wait}");
        assert_eq!(refusal.retry_after, None, "{max_wait}");
        assert!(refusal.text.contains("about 900ms"), "{}", refusal.text);
        // A request that an idle server could hold is told to retry.
        let refusal = admission
            .check(&vitals, &ask(&deployment, MILLI * 950))
            .unwrap_err();
        assert_eq!(refusal.code, Code::Overloaded, "{max_wait}");
        assert!(refusal.retry_after.is_some(), "{max_wait}");
    }
}

#[test]
fn what_an_idle_worker_takes_is_computed_with_no_wait_allowed_at_all() {
    let (vitals, deployment) = lane(MILLI * 50, 0);
    let admission = admission(MaxWait::Fixed(Duration::ZERO));
    let ask = ask(&deployment, Duration::from_secs(30));
    let admitted = admission.admit(&vitals, &ask).unwrap();
    admitted.reservation.take_up();
    let decision = check_at_dequeue(&vitals.predict, &admitted, MILLI, ask.now + MILLI);
    assert!(decision.is_ok(), "{decision:?}");
}

#[test]
fn who_floods_is_refused_before_the_lane_is_full_and_others_are_not() {
    let (vitals, deployment) = lane(MILLI * 50, 2);
    let admission = Admission::with(MaxWait::Auto, Some(&FairBy::Address));
    let long = Duration::from_secs(30);
    let ask_of = |name: &str| Ask {
        client: admission.client(name),
        ..ask(&deployment, long)
    };
    assert!(admission.check(&vitals, &ask_of("modest")).is_ok());
    let mut all_admitted = Vec::new();
    let refusal = loop {
        match admission.admit(&vitals, &ask_of("greedy")) {
            Ok(admitted) => all_admitted.push(admitted),
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.text.contains("--fair-by"), "{}", refusal.text);
    assert!(all_admitted.len() < 2 * 9, "{}", all_admitted.len());
    assert!(admission.admit(&vitals, &ask_of("modest")).is_ok());
}

#[test]
fn retry_after_is_the_wait_and_up_to_as_much_again() {
    #[rustfmt::skip]
    let table = [
        ("nothing waits", 0.0, 0.0, 1), ("at least a second", 0.1, 0.9, 2),
        ("as long as it takes", 4.0, 0.0, 4), ("up to twice that", 4.0, 1.0, 8),
        ("never longer than 30 s", 90.0, 0.5, 30),
    ];
    for (name, wait, part, expected) in table {
        let found = retry_after_seconds(Duration::from_secs_f64(wait), part);
        assert_eq!(found, expected, "{name}");
    }
    let mut counts = [0; 4];
    for count in 0..1000 {
        counts[(fraction(count) * 4.0).min(3.0) as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (240..=260).contains(count)),
        "{counts:?}"
    );
}
