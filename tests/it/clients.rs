//! No client, and no thousand of them, makes another client's probe fail or ends the server.
//!
//! Each group of attacks has its own server. The groups run one after another; in parallel they would
//! measure the machine instead.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lanekeeper::drill::report::outcomes;

use crate::attacks::{self, Attack, PREDICTION, Plan, Scene, Seen, Subject, Usage, observe};
use crate::support::{PATIENCE, Server, eventually};

/// The default of `--max-buffered`.
const BUFFERED_KIB_MAX: u64 = 256 << 10;

/// What connections, stacks and the allocator may take beyond that.
const RSS_KIB_MARGIN: u64 = 64 << 10;

pub const PLAN: Plan = Plan {
    calm: Duration::from_millis(200),
    attack: Duration::from_millis(1_600),
    // More often than a kubelet, so that one percent is a whole number of probes.
    probe_interval: Duration::from_millis(10),
    honest_clients: 1,
    honest_pause: Duration::from_millis(5),
    recovery: Duration::from_secs(5),
    rest: Duration::ZERO,
};

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other attack runs.
pub fn inject() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn subject(server: &Server) -> Subject {
    Subject {
        main: server.main,
        probe: server.probe.unwrap(),
        pid: server.pid(),
    }
}

/// What the server holds once it has served each kind of request and has no clients.
pub fn idle_usage(server: &Server) -> Usage {
    server.wait_ready();
    for _ in 0..5 {
        assert_eq!(server.predict(PREDICTION).status, 200);
        assert_eq!(server.get("/livez").status, 200);
        assert_eq!(server.probe("/livez").status, 200);
    }
    eventually("every connection is closed", || {
        let connections = server.status()["connections"].clone();
        connections["main"] == 0 && connections["probe"].as_u64().unwrap() <= 1
    });
    Usage::of(server.pid()).unwrap()
}

/// The effects in `seen` that no attack may have, one line each.
fn harm(attack: &Attack, seen: &Seen, idle: Usage) -> Vec<String> {
    let (probe, main) = (&seen.probe, &seen.main);
    let mut harm = Vec::new();
    if probe.failed() > 0 || probe.ok() == 0 {
        harm.push(format!("probe listener: {}", outcomes(probe)));
    }
    // One percent of the probes may meet a full listener. The percentage is of the planned probes: while
    // one waits for its second, a hundred others are not sent.
    let planned = PLAN.attack.div_duration_f64(PLAN.probe_interval) as u64;
    let allowed = if attack.fits_cap { 0 } else { planned / 100 };
    if main.failed() > allowed || main.ok() == 0 {
        harm.push(format!("probes on the main listener: {}", outcomes(main)));
    }
    if !attack.fills_lane && seen.attacked.answered == 0 {
        harm.push(format!(
            "no honest prediction was answered: {}",
            seen.attacked
        ));
    }
    let most = idle.rss_kib + BUFFERED_KIB_MAX + RSS_KIB_MARGIN;
    if seen.peak.peak_kib > most || seen.cut_short {
        harm.push(format!("{} KiB resident, over {most}", seen.peak.peak_kib));
    }
    if seen.recovery.is_none() {
        harm.push(format!(
            "idle it held {idle:?}, afterwards {:?}",
            seen.after
        ));
    }
    if seen.probe_after.failed() > 0 {
        harm.push(format!(
            "probes afterwards: {}",
            outcomes(&seen.probe_after)
        ));
    }
    for line in &mut harm {
        *line = format!("{}: {line}", attack.name);
    }
    harm
}

/// Runs the attacks of one kind against one server, one after the other.
fn endure(kind: &str) {
    let _turn = inject();
    let server = Server::real(&[]);
    let idle = idle_usage(&server);
    let mut harms = Vec::new();
    let mut endured = 0;
    for attack in attacks::named(kind) {
        let seen = match observe(subject(&server), Some(attack), &PLAN, idle) {
            Ok(seen) => seen,
            Err(error) => panic!("{}: {error}\n{}", attack.name, harms.join("\n")),
        };
        eprintln!("{}: {seen}", attack.name);
        harms.extend(harm(attack, &seen, idle));
        endured += 1;
    }
    assert!(endured > 0, "no attack is called {kind}");
    assert!(harms.is_empty(), "\n{}", harms.join("\n"));
    check_unharmed(&server);
}

/// Checks that the server still serves and that no thread of it has ended.
pub fn check_unharmed(server: &Server) {
    eventually("predictions are served again", || {
        server.predict(PREDICTION).status == 200
    });
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.status()["threads_replaced"], 0);
    // A connection that has just ended may still hold a buffer.
    eventually("nothing of what was refused counts as buffered", || {
        let status = server.status();
        status["buffered"]["bytes"].as_u64().unwrap_or(0) == 0
    });
    let logged = server.logged();
    assert!(!logged.contains("panic"), "{logged}");
}

#[test]
fn no_attack_has_the_name_of_another() {
    let names: HashSet<&str> = attacks::named("").map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks::named("").count());
}

#[test]
fn clients_that_hold_connections_harm_nobody() {
    endure("hold:");
}

#[test]
fn clients_that_never_read_harm_nobody() {
    endure("unread:");
}

#[test]
fn requests_without_an_end_harm_nobody() {
    endure("endless:");
}

#[test]
fn floods_harm_nobody() {
    endure("flood:");
}

#[test]
fn json_of_any_shape_and_size_harms_nobody() {
    endure("json:");
}

#[test]
fn uploads_by_the_thousand_harm_nobody() {
    endure("upload:");
}

/// Clients that hold connections cannot delay the end of the process.
#[test]
fn a_server_under_attack_still_drains() {
    let _turn = inject();
    for kind in [
        "1,000 dripped heads",
        "refused that stay",
        "pipelined livez",
        "128 clients",
        "1,000 of",
    ] {
        let attack = attacks::named(kind).next().unwrap();
        let mut server = Server::real(&["--drain-grace", "0", "--drain-timeout", "2s"]);
        server.wait_ready();
        let scene = Scene::new(server.main, server.probe.unwrap(), PATIENCE);
        let status = thread::scope(|scope| {
            let attacking = thread::Builder::new()
                .spawn_scoped(scope, || attack.run(&scene))
                .unwrap();
            thread::sleep(Duration::from_millis(700)); // until the attack is under way
            server.signal(rustix::process::Signal::TERM);
            let status = server.wait();
            scene.end();
            attacking.join().unwrap().unwrap();
            status
        });
        assert_eq!(status.code(), Some(0), "{}", attack.name);
    }
}
