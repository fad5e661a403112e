//! A kubelet with short intervals: it sends each of the three probes again and again on fresh connections,
//! and records the results and their times.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lanekeeper::drill::load::Target;
use lanekeeper::platform::client::Client;

/// Interval between probes of an endpoint, if they are answered in time.
const INTERVAL: Duration = Duration::from_millis(20);

/// The three questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Alive,
    Ready,
    Started,
}

pub const QUESTIONS: [Question; 3] = [Question::Alive, Question::Ready, Question::Started];

impl Question {
    pub fn path(self) -> &'static str {
        match self {
            Question::Alive => "/livez",
            Question::Ready => "/readyz",
            Question::Started => "/startupz",
        }
    }
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// 200.
    Passed,
    /// Another status from the server's verdict, with the first line of its text.
    Failed(u16, String),
    /// No verdict: no answer within a second, no connection, or 504.
    Nothing(&'static str),
}

/// One probe.
#[derive(Debug, Clone)]
pub struct Record {
    pub sent: Instant,
    pub answered: Instant,
    pub heard: Heard,
}

impl Record {
    pub fn latency(&self) -> Duration {
        self.answered.duration_since(self.sent)
    }
}

type Records = Arc<Mutex<Vec<Record>>>;

/// Three threads that probe until they are stopped.
pub struct Prober {
    stop: Arc<AtomicBool>,
    address: Arc<Mutex<SocketAddr>>,
    records: [Records; 3],
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    pub fn start(address: SocketAddr) -> Self {
        let mut prober = Prober {
            stop: Arc::default(),
            address: Arc::new(Mutex::new(address)),
            records: Default::default(),
            threads: Vec::new(),
        };
        for (question, records) in QUESTIONS.into_iter().zip(prober.records.clone()) {
            let (stop, address) = (Arc::clone(&prober.stop), Arc::clone(&prober.address));
            let body = move || {
                while !stop.load(Ordering::Relaxed) {
                    let address = *address.lock().unwrap();
                    let record = probe(address, question);
                    let pause = INTERVAL.saturating_sub(record.latency());
                    records.lock().unwrap().push(record);
                    thread::sleep(pause); // the interval of probes
                }
            };
            let named = thread::Builder::new().name(question.path().to_owned());
            prober.threads.push(named.spawn(body).unwrap());
        }
        prober
    }

    /// From now on probes another server, which a manager started in place of the first.
    pub fn follow(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = address;
    }

    /// Whether any probe sent since `began` satisfies `wanted`.
    pub fn has_heard(
        &self,
        question: Question,
        began: Instant,
        wanted: impl Fn(&Record) -> bool,
    ) -> bool {
        let records = self.records[question as usize].lock().unwrap();
        let recent = records.iter().rev();
        recent.take_while(|record| record.sent >= began).any(wanted)
    }

    /// Stops, and returns the results of each question.
    pub fn stop(&mut self) -> [Vec<Record>; 3] {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.records
            .each_ref()
            .map(|records| std::mem::take(&mut *records.lock().unwrap()))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Probes once, on a fresh connection.
pub fn probe(address: SocketAddr, question: Question) -> Record {
    let target = Target::probe(address, question.path()).unwrap();
    let sent = Instant::now();
    let mut client = Client::new(address);
    let heard = match client.send(&target.request, sent + target.timeout) {
        Ok(response) => match response.status {
            200 => Heard::Passed,
            504 => Heard::Nothing("504"),
            status => {
                let text = String::from_utf8_lossy(response.body);
                Heard::Failed(status, text.lines().next().unwrap_or("").to_owned())
            }
        },
        Err(error) => Heard::Nothing(error.reason()),
    };
    Record {
        sent,
        answered: Instant::now(),
        heard,
    }
}
