//! What the load generator promises, tried against servers of a few lines on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);

/// A server that answers every request with `answer` after `delay`, or never; it ends when
/// `test` does. Returns the number of connections it took.
fn serve(answer: &'static [u8], delay: Duration, test: impl FnOnce(SocketAddr)) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        let (done_here, taken) = (Arc::clone(&done), &taken);
        scope.spawn(move || {
            for stream in listener.incoming() {
                if done_here.load(Ordering::Acquire) {
                    return;
                }
                taken.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || answer_all(stream.unwrap(), answer, delay));
            }
        });
        test(address);
        done.store(true, Ordering::Release);
        drop(TcpStream::connect(address));
    });
    taken.load(Ordering::Relaxed)
}

fn answer_all(mut stream: TcpStream, answer: &[u8], delay: Duration) {
    stream.set_nodelay(true).unwrap();
    let mut chunk = [0; 1024];
    // The requests of these tests are one small write each, so one read takes one request.
    while stream.read(&mut chunk).unwrap_or(0) > 0 {
        sys::sleep(delay);
        let written = stream.write_all(answer);
        if written.is_err()
            || chunk.windows(17).any(|part| part == b"Connection: close")
            || answer == BUSY
        {
            return;
        }
    }
}

#[test]
fn a_closed_loop_keeps_its_connections_and_counts_its_window() {
    let connections = serve(OK, Duration::from_millis(10), |address| {
        let target = Target::get(address, "/livez", SECOND).unwrap();
        let closed = ClosedLoop {
            target,
            connections: 4,
            warm_up: Duration::from_millis(50),
            duration: Duration::from_millis(400),
        };
        let tally = closed.run().unwrap();
        assert_eq!((tally.failed(), tally.in_window), (0, tally.ok()));
        // 10 ms each: at most 40 for each client, and some even on a busy machine.
        assert!((4..=164).contains(&tally.in_window), "{tally:?}");
        assert!(tally.latencies.quantile(0.0).unwrap() >= Duration::from_millis(10));
    });
    assert_eq!(connections, 4);
}

#[test]
fn open_loop_latency_counts_from_the_arrival() {
    let connections = serve(OK, Duration::from_millis(40), |address| {
        let target = Target::get(address, "/", 10 * SECOND).unwrap();
        // One connection serves 25 a second at most; 50 a second arrive for 400 ms.
        let open = OpenLoop {
            target,
            rate: 50.0,
            duration: Duration::from_millis(400),
            connections: 1,
        };
        let tally = open.run().unwrap();
        assert_eq!((tally.requests(), tally.ok()), (20, 20));
        // The last arrives at 380 ms and is answered no sooner than after 20 times 40 ms.
        assert!(
            tally.latencies.max().unwrap() >= Duration::from_millis(420),
            "{tally:?}"
        );
    });
    assert_eq!(connections, 1);
}

#[test]
fn goodput_counts_only_what_arrives_in_its_window() {
    serve(OK, Duration::ZERO, |address| {
        let target = Target::get(address, "/", Duration::from_millis(400)).unwrap();
        let open = OpenLoop {
            target,
            rate: 100.0,
            duration: Duration::from_millis(500),
            connections: 50,
        };
        let tally = open.run().unwrap();
        assert_eq!(tally.requests(), 50);
        assert_eq!(tally.window, Duration::from_millis(100));
        // The window opens at 400 ms of 500: ten arrivals, the edges apart.
        assert!(tally.in_window <= 11, "{tally:?}");
    });
}

#[test]
fn open_loop_clients_time_out_and_refusals_are_no_goodput() {
    let table: [(&str, &[u8], Duration, &str); 2] = [
        (
            "answers that come too late are timeouts",
            OK,
            Duration::from_millis(600),
            "timeout: 10",
        ),
        (
            "refusals are told by their status code",
            BUSY,
            Duration::ZERO,
            "503: 10",
        ),
    ];
    for (name, answer, delay, expected) in table {
        serve(answer, delay, |address| {
            let target = Target::get(address, "/", Duration::from_millis(200)).unwrap();
            let open = OpenLoop {
                target,
                rate: 100.0,
                duration: Duration::from_millis(100),
                connections: 10,
            };
            let tally = open.run().unwrap();
            assert_eq!(crate::drill::report::outcomes(&tally), expected, "{name}");
            assert_eq!(tally.in_window, 0, "{name}");
        });
    }
}

#[test]
fn a_prober_makes_a_connection_for_each_probe_and_lets_ticks_fall() {
    let connections = serve(OK, Duration::from_millis(50), |address| {
        let target = Target::probe(address, "/livez").unwrap();
        let prober = Prober {
            target,
            interval: Duration::from_millis(20),
            duration: Duration::from_millis(240),
        };
        let tally = prober.run();
        assert_eq!(tally.failed(), 0);
        // 50 ms each: every third tick of 20 ms, four in all where nothing else delays them.
        assert!((1..=4).contains(&tally.ok()), "{tally:?}");
    });
    assert!((1..=4).contains(&connections));
}

#[test]
fn a_server_that_has_ended_is_not_asked_in_a_busy_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = Target::get(address, "/", SECOND).unwrap();
    assert!(capacity(&target, 1).is_err());
    let closed = ClosedLoop {
        target,
        connections: 1,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(100),
    };
    let tally = closed.run().unwrap();
    assert_eq!(tally.ok(), 0);
    assert!((1..=11).contains(&tally.failures["connect"]), "{tally:?}");
}

#[test]
fn limits_are_checked_before_any_thread_starts() {
    let target = Target::get("127.0.0.1:9".parse().unwrap(), "/", SECOND).unwrap();
    for connections in [0, CONNECTIONS_MAX + 1] {
        let closed = ClosedLoop {
            target: target.clone(),
            connections,
            warm_up: SECOND,
            duration: SECOND,
        };
        assert_eq!(
            closed.run().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let open = OpenLoop {
            target: target.clone(),
            rate,
            duration: SECOND,
            connections: 1,
        };
        assert_eq!(open.run().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(OpenLoop::connections_enough(100.0, 5 * SECOND), 516);
    assert_eq!(
        OpenLoop::connections_enough(1e5, 5 * SECOND),
        CONNECTIONS_MAX
    );
}
