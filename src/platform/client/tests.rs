//! The client's promises, tried against minimal servers on loopback.

use std::net::TcpListener;

use super::*;

fn soon() -> Instant {
    clock::instant() + Duration::from_secs(5)
}

/// Serves one connection: reads one request for each of `answers` and writes that answer.
fn serve(answers: Vec<&'static [u8]>, body: impl FnOnce(SocketAddr)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut seen = Vec::new();
                let mut byte = [0];
                while !seen.ends_with(b"\r\n\r\n") {
                    if stream.read(&mut byte).unwrap() == 0 {
                        return;
                    }
                    seen.push(byte[0]);
                }
                stream.write_all(answer).unwrap();
            }
        });
        body(address);
    });
}

fn get() -> ClientRequest {
    ClientRequest::new("GET", "/livez", "test", &[("Accept", "*/*")], b"").unwrap()
}

#[test]
fn a_request_is_rendered_with_host_and_length() {
    let request =
        ClientRequest::new("POST", "/predict", "h:1", &[("X-Request-Id", "7")], b"{}").unwrap();
    let expected =
        "POST /predict HTTP/1.1\r\nHost: h:1\r\nX-Request-Id: 7\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(String::from_utf8(request.wire).unwrap(), expected);
}

#[test]
fn no_text_of_a_caller_becomes_a_second_request() {
    let table = [
        ("a path with a line end", "/\r\nX: y", "h", "v"),
        ("a path with a space", "/a b", "h", "v"),
        ("a host with a line end", "/", "h\r\n", "v"),
        ("a field value with a line end", "/", "h", "v\r\nX: y"),
    ];
    for (name, path, host, value) in table {
        let made = ClientRequest::new("GET", path, host, &[("X-A", value)], b"");
        assert!(matches!(made, Err(ClientError::Protocol(_))), "{name}");
    }
}

#[test]
fn a_connection_is_used_again_until_close_is_said() {
    let answers: Vec<&'static [u8]> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ];
    serve(answers, |address| {
        let mut connection = ClientConnection::open(&address.into(), soon()).unwrap();
        let response = connection.exchange(&get(), soon()).unwrap();
        assert_eq!(
            (response.status, response.body, response.field("x-a")),
            (200, &b"ok"[..], Some("b"))
        );
        assert!(connection.is_reusable());
        assert_eq!(connection.exchange(&get(), soon()).unwrap().status, 503);
        assert!(!connection.is_reusable());
    });
}

#[test]
fn answers_that_are_not_whole_http_have_different_errors() {
    type Row<'a> = (&'a str, &'a [u8], Result<&'a [u8], &'a str>);
    let table: &[Row] = &[
        (
            "a body up to the end of the connection is whole",
            b"HTTP/1.0 200 OK\r\n\r\nabc",
            Ok(b"abc"),
        ),
        (
            "a body cut short is closed",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            Err("closed"),
        ),
        ("no byte at all is closed", b"", Err("closed")),
        (
            "a head cut short is closed",
            b"HTTP/1.1 200 OK\r\nConte",
            Err("closed"),
        ),
        (
            "something else is a protocol error",
            b"SSH-2.0-x\r\n\r\n",
            Err("protocol"),
        ),
        (
            "two lengths are a protocol error",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            Err("protocol"),
        ),
        (
            "a signed length is a protocol error",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
            Err("protocol"),
        ),
        (
            "a chunked body is a protocol error",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Err("protocol"),
        ),
        (
            "a body beyond the limit is a protocol error",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            Err("protocol"),
        ),
    ];
    for (name, answer, expected) in table {
        serve(vec![answer], |address| {
            let mut connection = ClientConnection::open(&address.into(), soon()).unwrap();
            let got = connection
                .exchange(&get(), soon())
                .map(|response| response.body.to_vec());
            assert_eq!(
                got.as_deref().map_err(ClientError::reason),
                *expected,
                "{name}"
            );
            assert!(!connection.is_reusable(), "{name}");
        });
    }
}

#[test]
fn a_silent_server_times_out_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::new(listener.local_addr().unwrap());
    let began = clock::instant();
    let got = client
        .send(&get(), began + Duration::from_millis(50))
        .map(|response| response.status);
    assert_eq!(got.map_err(|error| error.reason()), Err("timeout"));
    let waited = clock::instant() - began;
    assert!(
        waited >= Duration::from_millis(50) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
}

#[test]
fn a_port_where_nobody_listens_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = ClientConnection::open(&address.into(), soon()).unwrap_err();
    assert_eq!(error.reason(), "connect");
    assert!(error.to_string().starts_with("cannot connect: "), "{error}");
}

#[test]
fn a_unix_socket_works_like_a_port_and_a_full_backlog_times_out() {
    let path = std::env::temp_dir().join(format!("lanekeeper-client-{}.sock", std::process::id()));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let address = Address::Unix(path.clone());
    let mut connection = ClientConnection::open(&address, soon()).unwrap();
    let began = clock::instant();
    let refused = ClientConnection::open(&address, began + Duration::from_millis(50));
    assert_eq!(refused.unwrap_err().reason(), "timeout");
    let waited = clock::instant() - began;
    assert!(
        waited >= Duration::from_millis(50) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let count = stream.read(&mut [0; 1024]).unwrap();
            assert!(count > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        });
        let response = connection.exchange(&get(), soon()).unwrap();
        assert_eq!((response.status, response.body), (200, &b"ok"[..]));
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_answer_over_a_connections_own_limit_is_a_protocol_error() {
    let table: [(&str, &'static [u8]); 2] = [
        (
            "declared",
            b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789",
        ),
        (
            "up to the end of the connection",
            b"HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234567890123456789",
        ),
    ];
    for (name, answer) in table {
        for (most, expected) in [(answer.len() - 1, Err("protocol")), (answer.len(), Ok(200))] {
            serve(vec![answer], |address| {
                let connection = ClientConnection::open(&address.into(), soon()).unwrap();
                let mut connection = connection.with_answer_bytes_max(most);
                let got = connection.exchange(&get(), soon());
                let got = got.map(|response| response.status);
                assert_eq!(got.map_err(|error| error.reason()), expected, "{name}");
            });
        }
    }
}
