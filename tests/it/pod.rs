//! The life of a pod under a simulated kubelet, with the numbers that `lanekeeper manifest kubernetes`
//! prints: started, ready, under load, stalled, terminated; and a rolling update.

mod kubelet;

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use self::kubelet::{Kubelet, Seen};
use crate::support::{
    Server, action, eventually, exchange, has_programs, instance, predict_request, skip,
};

const ROW: &str = r#"{"instances": [[6.0, 2.7, 5.1, 1.6]]}"#;

/// The Deployment's container, and how long its pod may take to end.
struct Pod {
    container: Value,
    termination_grace: Duration,
    main: SocketAddr,
    probes: SocketAddr,
}

/// Two successive free ports below 32768, so that the system gives them to no other program meanwhile.
fn free_ports() -> (u16, u16) {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    loop {
        let port = 20_000 + (offset + TAKEN.fetch_add(2, Ordering::Relaxed)) % 12_000;
        let free = |port| TcpListener::bind(("0.0.0.0", port)).is_ok();
        if free(port) && free(port + 1) {
            return (port, port + 1);
        }
    }
}

impl Pod {
    fn of(options: &[&str]) -> Self {
        let (port, probe_port) = free_ports();
        let output = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .args(["manifest", "kubernetes", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let documents = text.split("\n---\n");
        let documents = documents.map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap());
        let deployment = documents
            .into_iter()
            .find(|document| document["kind"] == "Deployment")
            .unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        Pod {
            container: pod["containers"][0].clone(),
            termination_grace: Duration::from_secs(grace),
            main: SocketAddr::from(([127, 0, 0, 1], port)),
            probes: SocketAddr::from(([127, 0, 0, 1], probe_port)),
        }
    }

    /// The container's arguments after `serve`.
    fn args(&self) -> Vec<&str> {
        let args = self.container["args"].as_array().unwrap();
        let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
        assert_eq!(args[0], "serve");
        args[1..].to_vec()
    }

    fn kubelet(&self) -> Kubelet {
        Kubelet::new(self.probes, &self.container)
    }
}

#[test]
fn a_pod_starts_stays_ready_is_killed_on_a_stall_and_ends_in_its_grace() {
    let pod = Pod::of(&[
        "--stall-timeout=2s",
        "--request-timeout=1500ms",
        "--max-wait=1s",
        "--drain-grace=1s",
        "--drain-timeout=2s",
        "--predict-workers=2",
    ]);
    let mut server = Server::fixture("slow-load", &pod.args());
    let kubelet = pod.kubelet();
    let started_at = Instant::now();
    // While the model loads, the container is not started, and kubelet sends no other probe.
    eventually("startup is asked twice", || {
        kubelet.asked("startupProbe") >= 2
    });
    assert_eq!(kubelet.seen(), Seen::default());
    server.tell("release");
    eventually("it is started and ready", || kubelet.seen().ready);
    assert!(kubelet.seen().started && !kubelet.seen().killed);

    // Load of many times the capacity of two workers: requests are refused, and no probe fails.
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let (stop, main) = (Arc::clone(&stop), pod.main);
            thread::spawn(move || {
                let body = instance(action::COMPUTE, 50.0);
                while !stop.load(Ordering::Relaxed) {
                    let request = predict_request(&body, "Connection: close\r\n");
                    let status = exchange(main, &request).status;
                    assert!([200, 503, 504].contains(&status), "{status}");
                }
            })
        })
        .collect();
    let asked = kubelet.asked("livenessProbe");
    eventually("liveness is asked four times", || {
        kubelet.asked("livenessProbe") >= asked + 4
    });
    stop.store(true, Ordering::Relaxed);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    assert_eq!(
        (
            kubelet.failed("livenessProbe"),
            kubelet.failed("readinessProbe")
        ),
        (0, 0)
    );

    // Both workers hang: kubelet kills the pod after as many liveness probes as the manifest says.
    let asked = kubelet.asked("livenessProbe");
    let held: Vec<_> = (0..2)
        .map(|_| server.begin(&instance(action::BLOCK, 1.0)))
        .collect();
    let stalled_at = Instant::now();
    eventually("kubelet decides to kill it", || kubelet.seen().killed);
    let decided = stalled_at.elapsed();
    let (period, _, threshold) = kubelet.numbers("livenessProbe");
    assert!(decided >= Duration::from_secs(2), "{decided:?}");
    // The stall timeout, a tick of a quarter of it, and the threshold, counted in probes rather than
    // time, because probes are late on a busy machine. Up to three more may be sent in between.
    let asked = kubelet.asked("livenessProbe") - asked;
    let promised = Duration::from_millis(2_500).div_duration_f64(period).ceil() as usize;
    assert!(asked <= promised + threshold as usize + 3, "{asked} probes");
    assert_eq!(kubelet.failed("livenessProbe"), threshold as usize);

    // On SIGTERM it ends within its grace period; readiness probes are answered until then.
    let ready = kubelet.asked("readinessProbe");
    server.signal(Signal::TERM);
    let ended = server.wait_for(pod.termination_grace);
    assert_eq!(
        ended.and_then(|status| status.code()),
        Some(0),
        "not within its grace"
    );
    assert!(kubelet.asked("readinessProbe") >= ready);
    assert!(started_at.elapsed() > Duration::from_secs(4));
    drop(held);
    let log = server.logged();
    let lines = log.lines().filter(|line| line.contains("[ERROR]"));
    // The only errors in the log are about the stall, not about clients that reset connections.
    for line in lines {
        assert!(
            line.contains("livez") || line.contains("readyz") || line.contains("stall"),
            "{line}"
        );
    }
}

#[test]
fn a_signal_while_the_model_loads_ends_it_at_once() {
    let mut server = Server::fixture("slow-load", &["--drain-grace", "60s"]);
    assert_eq!(server.probe("/readyz").status, 503);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        server.logged().contains("draining: grace 0s"),
        "{}",
        server.logged()
    );
}

/// The servers to which clients send requests: those that were ready three seconds ago.
#[derive(Default)]
struct Endpoints {
    history: Mutex<Vec<(Instant, Vec<SocketAddr>)>>,
}

impl Endpoints {
    const LAG: Duration = Duration::from_secs(3);

    fn observe(&self, ready: Vec<SocketAddr>) {
        self.history.lock().unwrap().push((Instant::now(), ready));
    }

    fn now(&self) -> Vec<SocketAddr> {
        let history = self.history.lock().unwrap();
        let known = history.iter().rev();
        let mut known = known.filter(|(at, _)| at.elapsed() >= Self::LAG);
        known
            .next()
            .map(|(_, ready)| ready.clone())
            .unwrap_or_default()
    }
}

#[test]
fn a_rolling_update_fails_no_request_of_clients_three_seconds_behind() {
    let pods = [
        Pod::of(&["--predict-workers=1"]),
        Pod::of(&["--predict-workers=1"]),
    ];
    let endpoints = Arc::new(Endpoints::default());
    let stop = Arc::new(AtomicBool::new(false));
    let probes = pods.each_ref().map(|pod| (pod.main, pod.probes));
    let (told, over) = (Arc::clone(&endpoints), Arc::clone(&stop));
    let watcher = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let is_ready =
                |probes: &SocketAddr| kubelet::probe(*probes, "/readyz", Duration::from_secs(1));
            let ready = probes.iter().filter(|(_, probes)| is_ready(probes));
            told.observe(ready.map(|(main, _)| *main).collect());
            thread::sleep(Duration::from_millis(100)); // the watcher's interval
        }
    });
    let mut old = Server::real(&pods[0].args());
    eventually("clients know the first", || {
        endpoints.now() == [pods[0].main]
    });
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (stop, endpoints) = (Arc::clone(&stop), Arc::clone(&endpoints));
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                let mut inject = client;
                while !stop.load(Ordering::Relaxed) {
                    let now = endpoints.now();
                    inject += 1;
                    let to = now[inject % now.len()];
                    let response = exchange(to, &predict_request(ROW, "Connection: close\r\n"));
                    assert_eq!(response.status, 200, "{response:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(10)); // the client's interval
                }
            })
        })
        .collect();
    let new = Server::real(&pods[1].args());
    eventually("clients know both", || endpoints.now().len() == 2);
    old.signal(Signal::TERM);
    let ended = old.wait_for(pods[0].termination_grace);
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    eventually("clients know the second alone", || {
        endpoints.now() == [pods[1].main]
    });
    stop.store(true, Ordering::Relaxed);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    watcher.join().unwrap();
    assert!(answered.load(Ordering::Relaxed) > 100);
    drop(new);
}

#[test]
fn as_process_1_it_obeys_signals_and_reaps_every_child() {
    if !has_programs(&["unshare", "sh", "sleep", "true"]) {
        return;
    }
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let able = Command::new("unshare")
        .args(&unshare[1..])
        .arg("true")
        .status();
    if !able.is_ok_and(|status| status.success()) {
        skip("no process namespace can be made on this machine");
        return;
    }
    // A process whose parent has ended becomes a child of process 1, which must reap it.
    let orphans = r#"(sleep 0.2 & (sleep 0.3 & ) & ) & exec "$@""#;
    let wrapper = [&unshare[..], &["sh", "-c", orphans, "sh"]].concat();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_lanekeeper"));
    let mut server = Server::wrapped(
        &wrapper,
        binary,
        &["--drain-grace", "0s", "--stall-timeout", "2s"],
    );
    server.wait_ready();
    let inside = || -> Vec<(i32, char)> {
        let children = format!("/proc/{0}/task/{0}/children", server.pid());
        let first = std::fs::read_to_string(children).unwrap();
        let first: i32 = first.trim().parse().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap();
        let all = [first]
            .into_iter()
            .chain(children.split_whitespace().map(|pid| pid.parse().unwrap()));
        let state = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            Some((pid, rest.chars().next()?))
        };
        all.filter_map(state).collect()
    };
    eventually("nobody but itself is left", || inside().len() == 1);
    let first = rustix::process::Pid::from_raw(inside()[0].0).unwrap();
    rustix::process::kill_process(first, Signal::TERM).unwrap();
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.logged().contains("stopped"), "{}", server.logged());
}
