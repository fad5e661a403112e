//! The control: a server that does nothing, asked in the same rhythm on the same machine.
//!
//! Where it too keeps its client waiting, a probe that had no answer in time says nothing about the
//! server that is judged: other processes had the cores. It excuses silence alone, never an answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::prober::{self, Question, Record};

/// What an idle machine takes a hundredth of: no server with two workers holds others up so.
const TOO_LONG: Duration = Duration::from_millis(100);

const INTERVAL: Duration = Duration::from_millis(20);

/// The control as it runs.
pub struct Control {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    /// When it kept its client waiting: from, until.
    waits: Arc<Mutex<Vec<(Instant, Instant)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Control {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut control = Control {
            stop: Arc::default(),
            address: listener.local_addr().unwrap(),
            waits: Arc::default(),
            threads: Vec::new(),
        };
        let stop = Arc::clone(&control.stop);
        control.spawn("control", move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A client that is gone is no matter of the control's.
                let _ = client.and_then(answer);
            }
        });
        let (stop, address) = (Arc::clone(&control.stop), control.address);
        let waits = Arc::clone(&control.waits);
        control.spawn("asks control", move || {
            // From one answer to the next: who sleeps is held up too where nobody gets a core.
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(INTERVAL); // the rhythm of probes
                let answered = prober::probe(address, Question::Alive).answered;
                if answered.duration_since(last) > INTERVAL + TOO_LONG {
                    waits.lock().unwrap().push((last, answered));
                }
                last = answered;
            }
        });
        control
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) {
        let named = thread::Builder::new().name(name.to_owned());
        self.threads.push(named.spawn(body).unwrap());
    }

    /// Whether the control was kept waiting while a probe was.
    pub fn excuses(&self, record: &Record) -> bool {
        let waits = self.waits.lock().unwrap();
        waits
            .iter()
            .any(|(from, until)| *from <= record.answered && *until >= record.sent)
    }
}

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 1024];
    let _ = client.read(&mut head)?;
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The one that accepts has to be told by a client.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
