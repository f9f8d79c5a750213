//! What is a collector of traces told?

use super::provider::received;
use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A head and its body.
type Heard = (String, Vec<u8>);

/// Takes whatever traces it is sent.
pub(crate) struct Collector {
    pub(crate) address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || while call(&stream, &kept) {});
            }
        });
        Self { address, heard }
    }

    /// The heads of all calls.
    pub(crate) fn heads(&self) -> String {
        self.heard.lock().unwrap().iter().map(|(head, _)| head.as_str()).collect()
    }

    /// The bodies of all calls, one after the other.
    pub(crate) fn bodies(&self) -> Vec<u8> {
        self.heard.lock().unwrap().iter().flat_map(|(_, body)| body.iter().copied()).collect()
    }
}

fn call(mut stream: &TcpStream, heard: &Mutex<Vec<Heard>>) -> bool {
    let Some((head, body)) = received(stream) else { return false };
    heard.lock().unwrap().push((head, body));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").is_ok()
}
