//! The service manager's watchdog: a keep-alive while `/livez` would pass and the probe listener
//! answers, and none otherwise.
//!
//! Runs on its own thread, `watchdog`, which asks as a client does, through the kernel, so that an
//! unreachable server is noticed. It asks only the probe listener: what clients do to the main one
//! never ends the service while `/livez` passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::health::{self, ProbeKind};
use crate::http::listener::Listener;
use crate::platform::address::Address;
use crate::platform::client::{ClientConnection, ClientRequest};
use crate::platform::clock;
use crate::platform::sys;
use crate::platform::systemd::Notifier;
use crate::serving::context::Context;

/// How the watchdog knows whether the probe listener answers.
#[derive(Debug, Clone)]
pub enum SelfProbe {
    /// It connects and asks.
    Ask(Address),
    /// It cannot connect, because the listener is in another network namespace or has no path. So
    /// it checks whether waiting connections are accepted.
    Look(Arc<Listener>),
    /// There is no probe listener.
    Nothing,
}

/// The watchdog's thread.
#[derive(Debug)]
pub struct Watchdog {
    /// What all threads share.
    pub context: Arc<Context>,
    /// Who receives the keep-alives.
    pub notifier: Notifier,
    /// Without a keep-alive for this long, the service is ended (`WATCHDOG_USEC`).
    pub interval: Duration,
    /// How to check whether the probe listener answers.
    pub self_probe: SelfProbe,
}

const OK: u16 = 200;

impl Watchdog {
    /// Sends a keep-alive every half interval from when the first model is served; does not return.
    pub fn run(&self) {
        let half = self.interval / 2;
        let mut withheld = false;
        loop {
            let began = clock::instant();
            let next = began + half;
            loop {
                if !self.context.has_loaded() {
                    break;
                }
                match self.life(clock::instant() + half / 2) {
                    Ok(()) => {
                        self.notifier.notify("WATCHDOG=1");
                        if std::mem::take(&mut withheld) {
                            log::info!("the watchdog's keep-alive is sent again");
                        }
                        break;
                    }
                    Err(why) => {
                        if !std::mem::replace(&mut withheld, true) {
                            log::error!(
                                "the watchdog's keep-alive is withheld: {why}; the service is ended after {} without one",
                                format_duration(self.interval)
                            );
                        }
                    }
                }
                // Once more within the half: what was late may be in time.
                sys::sleep(half / 8);
                if clock::instant() + half / 8 >= next {
                    break;
                }
            }
            sys::sleep(next.saturating_duration_since(clock::instant()));
        }
    }

    /// Returns whether the service lives, or why not.
    fn life(&self, deadline: Instant) -> Result<(), String> {
        self.liveness()?;
        match &self.self_probe {
            SelfProbe::Ask(address) => match ask(address, deadline) {
                Ok(OK) => Ok(()),
                // It may have failed since the look above, and then there is a reason to name.
                Ok(status) => self.liveness().and(Err(format!(
                    "the probe listener answers {status} to /livez"
                ))),
                Err(why) => Err(format!("the probe listener does not answer: {why}")),
            },
            SelfProbe::Look(listener) => look(listener, deadline),
            SelfProbe::Nothing => Ok(()),
        }
    }

    fn liveness(&self) -> Result<(), String> {
        match health::failure(ProbeKind::Liveness, &self.context.snapshot()) {
            Some(failure) => Err(format!("{} [{}]", failure.reason, failure.check)),
            None => Ok(()),
        }
    }
}

fn ask(address: &Address, deadline: Instant) -> Result<u16, String> {
    let fields = [
        (
            "User-Agent",
            concat!("lanekeeper-watchdog/", env!("CARGO_PKG_VERSION")),
        ),
        ("Connection", "close"),
    ];
    let asked =
        ClientRequest::new("GET", "/livez", "localhost", &fields, b"").and_then(|request| {
            let mut connection = ClientConnection::open(&address.reachable(), deadline)?;
            Ok(connection.exchange(&request, deadline)?.status)
        });
    asked.map_err(|error| error.to_string())
}

/// Whether nobody waits at a listener for longer than until `deadline`.
fn look(listener: &Listener, deadline: Instant) -> Result<(), String> {
    const PAUSE: Duration = Duration::from_millis(5);
    let before = listener.accepted_at();
    while listener.has_waiting() && listener.accepted_at() == before {
        if clock::instant() >= deadline {
            return Err(
                "nobody accepts the connections that wait at the probe listener".to_owned(),
            );
        }
        sys::sleep(PAUSE);
    }
    Ok(())
}
