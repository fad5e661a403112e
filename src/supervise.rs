//! The crew: every long-lived thread but the connections', each with the way to start it again.
//!
//! The main thread calls [`Crew::tick`]; a thread that ended is joined, reported and replaced. A
//! thread that hangs is left alone: `health` judges it, and nobody joins it at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::lifecycle::Waker;
use crate::panic;
use crate::sys;
use crate::vitals::Vitals;

/// Address space for a crew thread's stack; models may recurse.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// The long-lived threads.
pub struct Crew {
    members: Vec<Member>,
    waker: Waker,
    vitals: Arc<Vitals>,
}

struct Member {
    name: String,
    body: Arc<dyn Fn() + Send + Sync>,
    /// The thread and whether it has come to its end; `None` where it could not be started.
    thread: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.members.iter().map(|member| &member.name))
            .finish()
    }
}

impl Crew {
    /// Makes a crew of nobody.
    pub fn new(waker: Waker, vitals: Arc<Vitals>) -> Self {
        Crew {
            members: Vec::new(),
            waker,
            vitals,
        }
    }

    /// Starts a thread that is to run until the process ends.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        &mut self,
        name: String,
        body: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<()> {
        let mut member = Member {
            name,
            body: Arc::new(body),
            thread: None,
        };
        member.start(&self.waker)?;
        self.members.push(member);
        Ok(())
    }

    /// Replaces threads that have ended.
    pub fn tick(&mut self) {
        for member in &mut self.members {
            if member.reap() {
                self.vitals.counts.threads_replaced.increment();
            }
            if member.thread.is_none()
                && let Err(error) = member.start(&self.waker)
            {
                log::error!("cannot start thread {}: {error}; trying again", member.name);
            }
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

    /// Joins the thread if it has ended; says whether it had.
    fn reap(&mut self) -> bool {
        let Some((handle, _)) = self
            .thread
            .take_if(|(_, ended)| ended.load(Ordering::Acquire))
        else {
            return false;
        };
        let how = match panic::catch(|| handle.join()) {
            Ok(Ok(())) => "returned".to_owned(),
            Ok(Err(payload)) => {
                let message = panic::panic_message(payload.as_ref());
                // Dropping a payload may panic again.
                let _ = panic::catch(move || drop(payload));
                format!("panicked: {message}")
            }
            Err(panic) => format!("panicked: {panic}"),
        };
        log::error!("thread {} ended ({how}); it is replaced", self.name);
        true
    }
}

/// Tells the main thread that a thread is about to end, however it does.
struct AtEnd(Arc<AtomicBool>, Waker);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.wake();
    }
}
