//! Does every limit hold, with a real socket on the other side?

use super::{
    super::*,
    decisions_body,
    harness::{Behaviour, Keys, call, connect, get, post, raw, read_reply, start},
};
use std::{
    io::{Read, Write},
    time::Duration,
};
use tokio::sync::Notify;

#[test]
fn a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length() {
    let settings = Settings { body_bytes: 1_000, ..Settings::default() };
    let server = start(settings, Keys::None, Behaviour::Answers);
    let reply = post(&server, "/v1/decisions", &"x".repeat(1_001));
    assert_eq!((reply.status, reply.error_code()), (413, "body_too_large".into()));
    let mut chunked =
        b"POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(format!("190\r\n{}\r\n", "x".repeat(400)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let reply = raw(&server, &chunked);
    assert_eq!((reply.status, reply.error_code()), (413, "body_too_large".into()));
    assert_eq!(post(&server, "/v1/decisions", &"x".repeat(1_000)).status, 400);
}

#[test]
fn a_body_in_many_pieces_is_read_whole() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let whole = decisions_body("support");
    for piece in [1, 7, 40] {
        let mut chunked =
            b"POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
        for part in whole.as_bytes().chunks(piece) {
            chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            chunked.extend_from_slice(part);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let reply = raw(&server, &chunked);
        assert_eq!(reply.status, 200, "in pieces of {piece}: {}", reply.body);
    }
}

#[test]
fn a_body_that_fills_the_memory_of_all_is_told_to_come_back() {
    let settings = Settings { body_budget_bytes: 100, ..Settings::default() };
    let server = start(settings, Keys::None, Behaviour::Answers);
    let reply = post(&server, "/v1/decisions", &decisions_body("support"));
    assert_eq!((reply.status, reply.error_code()), (503, "overloaded".into()));
    let small = r#"{"input":"x","questions":["team"]}"#;
    assert_eq!(
        post(&server, "/v1/tasks/support/decide", small).status,
        200,
        "nothing was kept from the budget"
    );
}

#[test]
fn a_zstd_body_is_read_and_other_encodings_are_refused() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let compressed = zstd::stream::encode_all(decisions_body("support").as_bytes(), 3).expect("compresses");
    let head = format!(
        "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: zstd\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        compressed.len()
    );
    let reply = raw(&server, &[head.as_bytes(), &compressed].concat());
    assert_eq!(reply.status, 200, "{}", reply.body);
    for headers in ["content-encoding: gzip\r\n", "content-type: multipart/form-data; boundary=x\r\n"] {
        let reply = call(&server, "POST", "/v1/decisions", headers, "x");
        assert_eq!((reply.status, reply.error_code()), (415, "media_unsupported".into()), "{headers}");
    }
}

#[test]
fn more_requests_than_places_are_told_to_come_back() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let behaviour = Behaviour::Waits { asked: Arc::clone(&asked), go: Arc::clone(&go) };
    let server = start(Settings { concurrent_requests: 1, ..Settings::default() }, Keys::None, behaviour);
    let mut first = connect(&server);
    let body = decisions_body("support");
    let request = format!(
        "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    first.write_all(request.as_bytes()).expect("sends");
    wait(&asked);
    let second = post(&server, "/v1/decisions", &body);
    assert_eq!((second.status, second.error_code()), (503, "overloaded".into()));
    assert_eq!(second.header("retry-after"), Some("1"));
    assert_eq!(get(&server, "/healthz").status, 200, "an open route takes no place");
    go.notify_one();
    assert_eq!(read_reply(&mut first).status, 200);
}

#[test]
fn a_request_that_takes_too_long_is_given_up() {
    let behaviour = Behaviour::Waits { asked: Arc::new(Notify::new()), go: Arc::new(Notify::new()) };
    let settings = Settings { request_timeout: Duration::from_millis(30), ..Settings::default() };
    let server = start(settings, Keys::None, behaviour);
    let reply = post(&server, "/v1/decisions", &decisions_body("support"));
    assert_eq!((reply.status, reply.error_code()), (503, "overloaded".into()));
}

#[test]
fn a_body_that_does_not_arrive_is_given_up() {
    let settings = Settings { body_timeout: Duration::from_millis(30), ..Settings::default() };
    let server = start(settings, Keys::None, Behaviour::Answers);
    let reply =
        raw(&server, b"POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{\"mo");
    assert_eq!((reply.status, reply.error_code()), (408, "body_too_slow".into()));
}

#[test]
fn a_head_that_does_not_arrive_ends_the_connection() {
    let settings = Settings { header_timeout: Duration::from_millis(30), ..Settings::default() };
    let server = start(settings, Keys::None, Behaviour::Answers);
    for begun in [&b""[..], b"GET /healthz HTTP/1.1\r\nhost: loc"] {
        let mut stream = connect(&server);
        stream.write_all(begun).expect("sends");
        let mut rest = Vec::new();
        // Until the server closes; a reset is an end too.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(60_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x-many: 1\r\n".repeat(100));
    for request in [long, many] {
        let mut stream = connect(&server);
        // The server may close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
    }
}

#[test]
fn one_connection_carries_many_requests_and_head_gets_no_body() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let mut stream = connect(&server);
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sends");
        assert_eq!(read_reply(&mut stream).json()["status"], "ok");
    }
    let mut stream = connect(&server);
    stream
        .write_all(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("sends");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("reads");
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("\r\n\r\n"), "{reply}");
}

#[test]
fn connections_over_the_limit_wait_until_one_closes() {
    let server = start(Settings { connections: 1, ..Settings::default() }, Keys::None, Behaviour::Answers);
    let mut first = connect(&server);
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sends");
    assert_eq!(read_reply(&mut first).status, 200);
    let mut second = connect(&server);
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sends");
    second.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    assert!(second.read(&mut [0u8; 1]).is_err(), "it waits while the first is open");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    assert_eq!(read_reply(&mut second).status, 200);
}

fn wait(notify: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(notify.notified());
}
