//! The control: a server that does nothing, probed at the same interval on the same machine.
//!
//! If it is late too, other processes had the cores, and a probe without an answer says nothing about the
//! server under test. A late control excuses only missing answers, never a wrong one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::prober::{self, Question, Record};

/// An idle machine takes a hundredth of this, and a server with two workers cannot delay others so long.
const TOO_LONG: Duration = Duration::from_millis(100);

const INTERVAL: Duration = Duration::from_millis(20);

/// The control as it runs.
pub struct Control {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    /// Start and end of each time in which the control was late.
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
                // Ignore clients that have left.
                let _ = client.and_then(answer);
            }
        });
        let (stop, address) = (Arc::clone(&control.stop), control.address);
        let waits = Arc::clone(&control.waits);
        control.spawn("asks control", move || {
            // Measured from one answer to the next, because a sleeping thread also wakes up late.
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(INTERVAL); // the interval of probes
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

    /// Whether the control was late at the same time as a probe.
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
        // The accepting thread ends at its next client.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
