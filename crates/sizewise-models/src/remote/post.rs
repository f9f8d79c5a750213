//! How does something get to another server now and then, from a thread that may wait?
//!
//! One connection is kept. Which addresses may be called is decided when it is made, as for providers.

use super::{client::Client, reach::Reach};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use std::{sync::atomic::AtomicBool, time::Duration};

/// Most bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 << 10;

/// A server that is told something.
#[derive(Debug)]
pub struct Post {
    client: Client,
    runtime: tokio::runtime::Runtime,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What it said to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its status.
    pub status: u16,
    /// For how many seconds it wants to be left alone.
    pub wait_s: Option<u64>,
}

impl Post {
    /// A server by its address, with what each call carries; `private` lets its name lead to a private network.
    ///
    /// # Errors
    /// Says what is wrong with the address or a header. No message shows a header's value.
    pub fn new(address: &str, private: bool, headers: &[(String, String)]) -> Result<Self, String> {
        let client = Client::new(address, private.then_some(Reach::Private))?;
        if !client.is_https() && !private && !super::chat::is_this_machine(client.host()) {
            return Err(
                "what is sent there would cross the network unprotected: use https://, or private = true"
                    .into(),
            );
        }
        let mut all = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        for (name, value) in headers {
            let wrong = || format!("`{name}` is no header that may be set");
            let known: HeaderName = name.parse().map_err(|_| wrong())?;
            if ["host", "content-length", "transfer-encoding", "connection", "content-type"]
                .contains(&known.as_str())
            {
                return Err(wrong());
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            all.push((known, value));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(Self { client, runtime, headers: all })
    }

    /// Sends JSON and waits for what the server says to it.
    ///
    /// # Errors
    /// Says why nothing came back in time.
    pub fn send(&self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Said, String> {
        let sent = AtomicBool::new(false);
        let asked = async {
            let target = (hyper::Method::POST, path);
            let reply = self.client.send(target, &self.headers, Bytes::from(body), &sent).await?;
            let wait =
                reply.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let said = Said { status: reply.status.as_u16(), wait_s: wait };
            // To its end, so that the connection can be used again.
            reply.whole(ANSWER_BYTES).await.map(|_| said)
        };
        match self.runtime.block_on(async { tokio::time::timeout(patience, asked).await }) {
            Ok(said) => said.map_err(|broken| broken.problem),
            Err(_) => Err("it did not answer in time".into()),
        }
    }
}
