//! Does a server that is told to stop lose no request that it has taken?

use super::{
    super::*,
    decisions_body,
    harness::{Behaviour, Keys, Running, connect, get, read_reply, start},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use tokio::sync::Notify;

/// A request that the engine has begun to work on.
fn in_flight(server: &Running, asked: &Notify) -> TcpStream {
    let mut stream = connect(server);
    let body = decisions_body("support");
    let request = format!(
        "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sends");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(asked.notified());
    stream
}

#[test]
fn a_request_in_flight_finishes_and_idle_connections_close() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let behaviour = Behaviour::Waits { asked: Arc::clone(&asked), go: Arc::clone(&go) };
    let mut server = start(Settings::default(), Keys::None, behaviour);
    let mut idle = connect(&server);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sends");
    assert_eq!(read_reply(&mut idle).status, 200);
    let mut busy = in_flight(&server, &asked);
    server.stop();
    assert_eq!(idle.read(&mut [0u8; 1]).expect("an end"), 0, "an idle connection is closed at once");
    assert!(TcpStream::connect(server.address).is_err(), "new connections are refused");
    go.notify_one();
    let reply = read_reply(&mut busy);
    assert_eq!(reply.status, 200);
    assert_eq!(server.end(), Drained { cut: 0 });
}

#[test]
fn a_request_that_does_not_finish_is_cut_at_the_deadline() {
    let asked = Arc::new(Notify::new());
    let behaviour = Behaviour::Waits { asked: Arc::clone(&asked), go: Arc::new(Notify::new()) };
    let settings = Settings { drain_deadline: Duration::from_millis(30), ..Settings::default() };
    let server = start(settings, Keys::None, behaviour);
    let _busy = in_flight(&server, &asked);
    assert_eq!(server.end(), Drained { cut: 1 });
}

#[test]
fn readiness_ends_before_connections_are_refused() {
    let settings = Settings { drain_delay: Duration::from_secs(3600), ..Settings::default() };
    let (drained, reply) = {
        let mut server = start(settings, Keys::None, Behaviour::Answers);
        assert_eq!(get(&server, "/readyz").status, 200);
        server.stop();
        // The flag is set by the server's own thread; each round asks it over the socket.
        let reply = std::iter::repeat_with(|| get(&server, "/readyz"))
            .take(100_000)
            .find(|reply| reply.status == 503)
            .expect("readiness ends");
        let served = get(&server, "/healthz").status;
        // The delay of this test never ends, so the server is left to end with the process.
        std::mem::forget(server);
        (served, reply)
    };
    assert_eq!(drained, 200, "requests are still served");
    assert_eq!(reply.json()["status"], "stopping");
}
