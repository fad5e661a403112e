//! What the main thread does at every tick: it keeps the threads running and reports changed
//! verdicts.
//!
//! The supervisor holds every long-lived thread except the connections', each with the way to start
//! it again. A thread that ended is joined, reported and replaced. A thread that hangs is left
//! alone: `health` judges it, nobody joins it, and a prediction worker may get a substitute.

pub mod notify;
mod stall_report;
mod verdict_log;
pub mod watchdog;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::lanes::queue::LaneKind;
use crate::lifecycle::Waker;
use crate::platform::clock::{self, Stamp};
use crate::platform::panic;
use crate::platform::sys;
use crate::serving::context::Context;
use crate::serving::worker;

pub use self::verdict_log::VerdictLog;

/// Address space for a supervisor thread's stack; models may recurse.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// How often it is logged that a thread cannot be started.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

type Body = Arc<dyn Fn() + Send + Sync>;

/// The long-lived threads.
pub struct Supervisor {
    members: Vec<Member>,
    context: Arc<Context>,
    /// The body of the prediction worker of a slot.
    predictor: Arc<dyn Fn(usize) + Send + Sync>,
    complained: Option<Instant>,
}

struct Member {
    name: String,
    /// A prediction worker's slot.
    slot: Option<usize>,
    body: Body,
    /// The thread and whether it has ended; `None` if it could not be started.
    thread: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.members.iter().map(|member| &member.name))
            .finish()
    }
}

impl Supervisor {
    /// Makes an empty supervisor; `predictor` makes the body of the prediction worker of a slot.
    pub fn new(context: Arc<Context>, predictor: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Supervisor {
            members: Vec::new(),
            context,
            predictor: Arc::new(predictor),
            complained: None,
        }
    }

    /// Starts a thread that runs until the process ends.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub fn start(
        &mut self,
        name: String,
        body: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.add(name, None, Arc::new(body))
    }

    /// Starts the prediction worker of a slot.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub fn start_predictor(&mut self, slot: usize) -> io::Result<()> {
        let predictor = Arc::clone(&self.predictor);
        let name = worker::thread_name(LaneKind::Predict, slot);
        self.add(name, Some(slot), Arc::new(move || predictor(slot)))
    }

    fn add(&mut self, name: String, slot: Option<usize>, body: Body) -> io::Result<()> {
        let mut member = Member {
            name,
            slot,
            body,
            thread: None,
        };
        member.start(&self.context.waker)?;
        self.members.push(member);
        Ok(())
    }

    /// Replaces threads that have ended, and starts substitutes for stuck ones.
    pub fn tick(&mut self) {
        let mut refused = None;
        let context = Arc::clone(&self.context);
        self.members.retain_mut(|member| {
            let how = member.reap();
            if let (Some(how), Some(slot)) = (&how, member.slot)
                && context.vitals.predict.workers[slot].vacate()
            {
                let name = &member.name;
                log::info!("thread {name} ended ({how}); it had a substitute");
                // Nobody follows in this slot, so it is not being replaced.
                context.vitals.predict.workers[slot]
                    .ended_at
                    .store(Stamp::NEVER);
                return false;
            }
            if let Some(how) = how {
                log::error!("thread {} ended ({how}); it is replaced", member.name);
                context.vitals.counts.threads_replaced.increment();
            }
            if member.thread.is_none()
                && let Err(error) = member.start(&context.waker)
            {
                refused = Some((member.name.clone(), error));
            }
            true
        });
        if context.config.verdicts.replace_stuck_workers
            && let Err(error) = self.substitute()
        {
            refused = Some(("a substitute".to_owned(), error));
        }
        if let Some((name, error)) = refused {
            self.complain(&name, &error);
        }
    }

    /// Starts a substitute for each stuck worker if the model has finished a prediction that began
    /// after the stuck one, which is evidence that the lane works for other input. While no
    /// prediction finishes, a substitute would hang like the others, and would hide from `/livez`
    /// that all do.
    fn substitute(&mut self) -> io::Result<()> {
        let context = Arc::clone(&self.context);
        let lane = &context.vitals.predict;
        let limit = context.config.stall_timeout;
        let evidence = lane.finished_from.load();
        let now = context.vitals.clock.now();
        for (slot, worker) in lane.workers.iter().enumerate() {
            let since = worker.busy_since.load();
            let stuck = since != Stamp::NEVER && now.since(since) >= limit;
            if !stuck || evidence <= since || worker.is_substituted() {
                continue;
            }
            let taken = |slot: &usize| self.members.iter().any(|other| other.slot == Some(*slot));
            let Some(free) = (0..lane.workers.len()).find(|slot| !taken(slot)) else {
                return Ok(());
            };
            if !worker.substitute(since) {
                continue;
            }
            if let Err(error) = self.start_predictor(free) {
                // If it is already retiring, it is replaced like any other that has ended.
                worker.vacate();
                return Err(error);
            }
            log::warn!(
                "thread {} has been on its prediction for {}, while others finish; {} takes its place",
                worker::thread_name(LaneKind::Predict, slot),
                format_duration(whole_millis(now.since(since))),
                worker::thread_name(LaneKind::Predict, free),
            );
        }
        Ok(())
    }

    /// When a worker that may get a substitute will become stuck, so that it gets one at once.
    ///
    /// Those that are stuck already have had their chance, and get the next one at a tick.
    pub fn next_substitution(&self) -> Option<Duration> {
        if !self.context.config.verdicts.replace_stuck_workers {
            return None;
        }
        let lane = &self.context.vitals.predict;
        let (evidence, now) = (lane.finished_from.load(), self.context.vitals.clock.now());
        let limit = self.context.config.stall_timeout;
        let stamps = lane.workers.iter().map(|worker| worker.busy_since.load());
        let hopeful = stamps.filter(|since| *since != Stamp::NEVER && evidence > *since);
        let remaining = hopeful.map(|since| limit.saturating_sub(now.since(since)));
        remaining.filter(|remaining| !remaining.is_zero()).min()
    }

    fn complain(&mut self, name: &str, error: &io::Error) {
        let now = clock::instant();
        let recent = |at: Instant| now.saturating_duration_since(at) < COMPLAINT_INTERVAL;
        if !self.complained.is_some_and(recent) {
            self.complained = Some(now);
            log::error!("cannot start thread {name}: {error}; trying again");
        }
    }
}

impl Member {
    fn start(&mut self, waker: &Waker) -> io::Result<()> {
        let ended = Arc::new(AtomicBool::new(false));
        let at_end = AtEnd(Arc::clone(&ended), waker.clone());
        let body = Arc::clone(&self.body);
        let handle = sys::spawn(&self.name, STACK_BYTES, move || {
            let _at_end = at_end;
            body();
        })?;
        self.thread = Some((handle, ended));
        Ok(())
    }

    /// Joins the thread if it has ended; returns how it ended.
    fn reap(&mut self) -> Option<String> {
        let (handle, _) = self
            .thread
            .take_if(|(_, ended)| ended.load(Ordering::Acquire))?;
        Some(match panic::catch(|| handle.join()) {
            Ok(Ok(())) => "returned".to_owned(),
            Ok(Err(payload)) => {
                let message = panic::panic_message(payload.as_ref());
                // Dropping a payload may panic again.
                let _ = panic::catch(move || drop(payload));
                format!("panicked: {message}")
            }
            Err(panic) => format!("panicked: {panic}"),
        })
    }
}

/// Tells the main thread that a thread is about to end, however it ends.
struct AtEnd(Arc<AtomicBool>, Waker);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.wake();
    }
}

/// A duration in words, for the log.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
