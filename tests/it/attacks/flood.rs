//! Clients that send small things as fast as they can.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use lanekeeper::platform::client::{Client, ClientError, ClientRequest};
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

use super::traffic::{Traffic, connect};
use super::{PREDICTION, Scene, crowd, predict_request};

/// Timeout of a client in a closed loop; longer than any delay by a rate limit, so that none leaves.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a request that got no answer.
pub(super) const BACK_OFF: Duration = Duration::from_millis(10);

/// Threads that connect anew each time.
const CONNECTING: usize = 4;

/// Malformed requests, each on a fresh connection.
pub(super) fn malformed(scene: &Scene) -> io::Result<()> {
    let openings: Vec<Vec<u8>> = MALFORMED.iter().map(|request| request.to_vec()).collect();
    Traffic::of(16, &openings).run(scene, scene.main)
}

/// Each is malformed, or valid in a rare form that few servers are tested with.
pub(crate) const MALFORMED: &[&[u8]] = &[
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Folded: a\r\n b\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET /livez HTTP/1.1\nHost: a\n\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    b"GET /li\0vez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length 5\r\n\r\n",
    b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /livez\r\n\r\n",
    b"GET /livez HTTP/3.0\r\nHost: a\r\n\r\n",
    b"GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /livez HTTP/1.1 \r\nHost: a\r\n\r\n",
    b"GET livez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET ftp://a/livez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /livez#fragment HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"get /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a/b@c\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\n: none\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\rSet-Cookie: b\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\nSet-Cookie: b\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: a%0d%0aSet-Cookie: b\r\nConnection: close\r\n\r\n",
    b"\r\n\r\n\r\n\r\n",
    b" GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Openings of other protocols, and bytes of none.
pub(super) fn other_protocols(scene: &Scene) -> io::Result<()> {
    let mut openings = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\x16\x03\x03\x00\x05\x01\x00\x00\x01\x00".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
        b"SSH-2.0-client\r\n".to_vec(),
        b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00a\x00database\x00b\x00\x00".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"\x05\x01\x00".to_vec(),
    ];
    // From its own generator (xorshift), so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [1, 7, 64, 1_000, 20_000] {
        let bytes = (0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        });
        openings.push(bytes.collect());
    }
    // An opening that is not refused at its first bytes waits for a time limit, so some are closed early.
    Traffic::of(64, &openings).run(scene, scene.main)
}

pub(super) fn connect_and_reset(scene: &Scene) -> io::Result<()> {
    crowd(CONNECTING, |_| {
        while scene.goes_on() {
            if connect(scene.main, None).is_err() {
                sys::sleep(BACK_OFF);
            }
        }
    })
}

/// Predictions whose clients leave at once, every other one with a reset.
pub(super) fn abandoned_predictions(scene: &Scene) -> io::Result<()> {
    let request = predict_request(PREDICTION, "");
    crowd(CONNECTING, |_| {
        let mut orderly = false;
        while scene.goes_on() {
            let sent = connect(scene.main, None).and_then(|mut stream| {
                stream.write_all(&request)?;
                let linger = (!orderly).then_some(Duration::ZERO);
                socket2::SockRef::from(&stream).set_linger(linger)
            });
            orderly = !orderly;
            if sent.is_err() {
                sys::sleep(BACK_OFF);
            }
        }
    })
}

pub(super) fn livez_8(scene: &Scene) -> io::Result<()> {
    livez(scene, scene.main, 8)
}

pub(super) fn livez_16(scene: &Scene) -> io::Result<()> {
    livez(scene, scene.main, 16)
}

pub(super) fn livez_128(scene: &Scene) -> io::Result<()> {
    livez(scene, scene.main, 128)
}

pub(super) fn livez_on_probe_listener(scene: &Scene) -> io::Result<()> {
    livez(scene, scene.probe, 64)
}

/// As kubelets would ask, if there were hundreds: on a fresh connection each time.
pub(super) fn fresh_livez(scene: &Scene) -> io::Result<()> {
    fresh(scene, scene.main)
}

pub(super) fn fresh_livez_on_probe_listener(scene: &Scene) -> io::Result<()> {
    fresh(scene, scene.probe)
}

fn fresh(scene: &Scene, address: SocketAddr) -> io::Result<()> {
    let openings = [b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()];
    Traffic::of(200, &openings).run(scene, address)
}

/// The most expensive of the cheap responses.
pub(super) fn statusz(scene: &Scene) -> io::Result<()> {
    let request = ClientRequest::new("GET", "/statusz", "a", &[], b"");
    closed_loop(scene, scene.main, 500, request)
}

/// Heads sent a byte at a time, without a pause.
pub(super) fn heads_by_bytes(scene: &Scene) -> io::Result<()> {
    let openings = [b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Bytes: ".to_vec()];
    let traffic = Traffic {
        refrain: b"x",
        refrain_bytes: 1 << 20,
        ..Traffic::of(200, &openings)
    };
    traffic.run(scene, scene.main)
}

fn livez(scene: &Scene, address: SocketAddr, clients: usize) -> io::Result<()> {
    let request = ClientRequest::new("GET", "/livez", "a", &[], b"");
    closed_loop(scene, address, clients, request)
}

/// Predictions that are refused by their content type, which occupies no worker.
pub(super) fn refused_predictions(scene: &Scene) -> io::Result<()> {
    let fields = [("Content-Type", "text/html")];
    let request = ClientRequest::new("POST", "/predict", "a", &fields, PREDICTION.as_bytes());
    closed_loop(scene, scene.main, 64, request)
}

fn closed_loop(
    scene: &Scene,
    address: SocketAddr,
    clients: usize,
    request: Result<ClientRequest, ClientError>,
) -> io::Result<()> {
    let request = request.map_err(io::Error::other)?;
    crowd(clients, |_| {
        let mut client = Client::new(address);
        while scene.goes_on() {
            let deadline = scene.ends.min(clock::instant() + PATIENCE);
            if client.send(&request, deadline).is_err() {
                sys::sleep(BACK_OFF);
            }
        }
    })
}
