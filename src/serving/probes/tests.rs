use super::*;
use crate::health::WorkerSnapshot;
use crate::platform::clock::Stamp;
use crate::vitals::{ServerPhase, TrialVerdict};

fn snapshot(busy_since: Option<Stamp>) -> Snapshot {
    let worker = WorkerSnapshot {
        busy_since,
        substituted: false,
    };
    Snapshot {
        workers: vec![worker],
        ..Snapshot::quiet(Stamp(100_000_000_000))
    }
}

fn draining() -> Snapshot {
    Snapshot {
        phase: ServerPhase::Draining,
        ..snapshot(None)
    }
}

fn failed(reason: &str) -> Snapshot {
    Snapshot {
        trial: TrialVerdict::Failed(reason.into()),
        ..snapshot(None)
    }
}

fn check(snapshot: &Snapshot, probe: &Probe, status: u16, body: &str) {
    let payload = verdict(snapshot, probe);
    let text = std::str::from_utf8(&payload.body).unwrap();
    assert_eq!((payload.status, text), (status, body), "{probe:?}");
}

#[test]
fn a_probe_is_plain_ok_or_the_text_and_verbose_lists_the_checks() {
    let plain = Probe::new(ProbeKind::Liveness);
    let verbose = Probe {
        verbose: true,
        ..plain.clone()
    };
    let alive = snapshot(None);
    check(&alive, &plain, 200, "ok");
    check(
        &alive,
        &verbose,
        200,
        "[+]acceptor ok\n[+]predictions ok\n[+]workers ok\n[+]inference ok\nlivez check passed\n",
    );
    let stuck = snapshot(Some(Stamp(1)));
    check(&stuck, &plain, 500, health::NOT_ALIVE);
    check(
        &stuck,
        &verbose,
        500,
        "Service has stopped completing predictions\n[+]acceptor ok\n[+]predictions ok\n[-]workers failed: all 1 prediction workers have made no progress for --stall-timeout (1m) or longer\n[+]inference ok\nlivez check failed\n",
    );
}

#[test]
fn one_check_alone_may_be_asked_for() {
    let stuck = snapshot(Some(Stamp(1)));
    let only = |name| Probe {
        only: Some(name),
        ..Probe::new(ProbeKind::Liveness)
    };
    check(&stuck, &only("acceptor"), 200, "ok");
    check(
        &stuck,
        &only("workers"),
        500,
        "Service has stopped completing predictions\n[-]workers failed: all 1 prediction workers have made no progress for --stall-timeout (1m) or longer\n",
    );
    let verbose = Probe {
        verbose: true,
        ..only("acceptor")
    };
    check(
        &stuck,
        &verbose,
        200,
        "[+]acceptor ok\nlivez check passed\n",
    );
}

#[test]
fn excluded_checks_do_not_count_and_unknown_ones_are_named() {
    let exclude = |names: &[&'static str], unknown: &[&str], verbose| Probe {
        verbose,
        excluded: names.to_vec(),
        unknown: unknown.iter().map(|name| (*name).to_owned()).collect(),
        ..Probe::new(ProbeKind::Readiness)
    };
    let failed = failed("no");
    check(&failed, &exclude(&["canary"], &[], false), 200, "ok");
    check(
        &failed,
        &exclude(&["draining"], &[], false),
        500,
        "Model inference failed: no",
    );
    let text = verdict(&failed, &exclude(&["canary"], &["canery"], true));
    let text = std::str::from_utf8(&text.body).unwrap();
    assert!(text.contains("[+]canary excluded: ok\nwarn: excluding [\"canery\"] changed nothing: the checks here are acceptor, "), "{text}");
    assert!(text.ends_with("readyz check passed\n"), "{text}");
    let text = verdict(&failed, &exclude(&["canary"], &["canery"], false));
    let text = std::str::from_utf8(&text.body).unwrap();
    assert!(
        text.starts_with("ok\nwarn: excluding [\"canery\"]"),
        "{text}"
    );
}

#[test]
fn readyz_fails_with_500_or_asks_to_come_back_with_503() {
    let probe = Probe::new(ProbeKind::Readiness);
    check(&draining(), &probe, 503, "draining");
    assert_eq!(verdict(&draining(), &probe).retry_after, Some(1));
    check(&failed("no"), &probe, 500, "Model inference failed: no");
    assert_eq!(verdict(&failed("no"), &probe).retry_after, None);
    let stuck = snapshot(Some(Stamp(1)));
    check(&stuck, &probe, 500, health::NOT_ALIVE);
}

#[test]
fn no_reason_breaks_lines_or_exceeds_what_kubelet_reads() {
    let snapshot = Snapshot {
        failed_trials: Some((Stamp(1), Stamp(90_000_000_000))),
        succeeded_at: Stamp::NEVER,
        ..failed(&"é\n\r\0".repeat(100_000))
    };
    let unknown = "\"".repeat(64);
    let probe = Probe {
        verbose: true,
        unknown: vec![unknown; 8],
        ..Probe::new(ProbeKind::Readiness)
    };
    for verbose in [true, false] {
        let payload = verdict(
            &snapshot,
            &Probe {
                verbose,
                ..probe.clone()
            },
        );
        assert!(payload.body.len() < 10_000, "{}", payload.body.len());
        let text = std::str::from_utf8(&payload.body).unwrap();
        assert!(!text.contains(['\r', '\0']));
        assert!(text.lines().count() < 13, "{text}");
    }
}
