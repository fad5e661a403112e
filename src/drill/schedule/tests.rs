//! What schedules and their traces promise.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Due and ended in milliseconds, and the status, where 0 is a timeout and 1 was not sent.
fn trace(arrivals: &[(u64, u64, u16)]) -> Trace {
    let arrival = |(due, ended, status): &(u64, u64, u16)| Arrival {
        due: millis(*due),
        ended: millis(*ended),
        outcome: match status {
            0 => ArrivalOutcome::Failure("timeout"),
            1 => ArrivalOutcome::Unsent,
            status => ArrivalOutcome::Status(*status),
        },
    };
    Trace::new(arrivals.iter().map(arrival).collect())
}

#[test]
fn arrivals_are_evenly_spaced_in_their_phases_and_none_come_in_a_pause() {
    let phases = [(2.0, 1_000), (0.0, 500), (4.0, 500)].map(|(rate, duration)| RatePhase {
        rate,
        duration: millis(duration),
    });
    let times: Vec<u128> = (0..)
        .map_while(|index| due(&phases, index))
        .map(|due| due.as_millis())
        .collect();
    assert_eq!(times, [0, 500, 1_500, 1_750]);
    assert_eq!(count(&phases), 4);
}

#[test]
fn goodput_counts_parts_of_completions_at_its_edges() {
    let steady: Vec<_> = (1..=50)
        .map(|index| (index * 200 - 150, index * 200, 200))
        .collect();
    let steady = trace(&steady);
    for (from, to) in [(1_000, 8_000), (1_050, 8_040), (1_199, 1_201)] {
        let goodput = steady.goodput(millis(from), millis(to));
        assert!((goodput - 5.0).abs() < 1e-6, "{from}..{to}: {goodput}");
    }
    // Nothing is made up after the last: 10 of the 20 s have completions.
    let goodput = steady.goodput(Duration::ZERO, 20 * SECOND);
    assert!((goodput - 2.5).abs() < 1e-6, "{goodput}");
    assert!(trace(&[]).goodput(Duration::ZERO, SECOND).abs() < 1e-9);
}

#[test]
fn a_tally_is_of_what_was_due_then_and_sent() {
    let trace = trace(&[
        (0, 900, 200),
        (500, 510, 503),
        (600, 600, 1),
        (700, 5_700, 0),
        (1_000, 1_010, 200),
    ]);
    let tally = trace.tally(Duration::ZERO, SECOND);
    assert_eq!((tally.requests(), tally.ok()), (3, 1));
    assert_eq!(tally.latencies.max(), Some(millis(900)));
    assert!((trace.offered(Duration::ZERO, SECOND) - 3.0).abs() < 1e-9);
}

#[test]
fn recovery_is_from_the_first_arrival_after_which_all_are_good() {
    let table = [
        ("all are good", vec![(1_000, 1_100, 200)], Some(0)),
        (
            "a good one before a bad one does not count",
            vec![
                (1_000, 1_100, 200),
                (1_250, 1_260, 503),
                (1_500, 1_600, 200),
                (1_750, 1_800, 200),
            ],
            Some(500),
        ),
        (
            "the last is bad",
            vec![(1_000, 1_100, 200), (1_500, 6_500, 0)],
            None,
        ),
        ("none arrive", vec![], None),
    ];
    for (name, arrivals, expected) in table {
        let recovery = trace(&arrivals).recovery(SECOND, 2 * SECOND, Arrival::is_ok);
        assert_eq!(recovery, expected.map(millis), "{name}");
    }
}

#[test]
fn what_cannot_be_run_is_said_before_a_thread_is_made() {
    let address = ([127, 0, 0, 1], 9).into();
    let crowd = |rate, seconds, connections| Crowd {
        target: Target::get(address, "/", SECOND).unwrap(),
        source: None,
        phases: vec![RatePhase {
            rate,
            duration: SECOND * seconds,
        }],
        connections,
    };
    for wrong in [
        crowd(-1.0, 1, 1),
        crowd(f64::NAN, 1, 1),
        crowd(1e6, 5, 1),
        crowd(1.0, 1, 0),
        crowd(1.0, 1, CONNECTIONS_MAX + 1),
    ] {
        let error = run(&[wrong]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 are the machine's own
fn each_crowd_has_its_addresses_and_sends_only_over_free_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let crowd = |last, rate| Crowd {
        target: Target::get(address, "/", 10 * SECOND).unwrap(),
        source: Some(IpAddr::from([127, 0, 0, last])),
        phases: vec![RatePhase {
            rate,
            duration: millis(400),
        }],
        connections: 1,
    };
    let traces = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let (mut stream, peer) = listener.accept().unwrap();
                scope.spawn(move || {
                    let slow = peer.ip() == IpAddr::from([127, 0, 0, 3]);
                    let mut chunk = [0; 1024];
                    while stream.read(&mut chunk).unwrap_or(0) > 0 {
                        sys::sleep(millis(if slow { 200 } else { 0 }));
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        run(&[crowd(2, 5.0), crowd(3, 100.0)]).unwrap()
    });
    let sent = |trace: &Trace| trace.tally(Duration::ZERO, SECOND).requests();
    assert_eq!(traces[0].due(Duration::ZERO, SECOND).len(), 2);
    assert_eq!(traces[1].due(Duration::ZERO, SECOND).len(), 40);
    // One connection, 200 ms each: two or three of forty.
    assert!((1..=4).contains(&sent(&traces[1])), "{:?}", traces[1]);
}
