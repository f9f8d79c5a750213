//! How is a small document fetched that is needed beside models?
//!
//! By whoever may wait: one request, one deadline, no redirects, and the same rules for addresses as for providers.

use super::{client::Client, reach::Reach};
use bytes::Bytes;
use std::{sync::atomic::AtomicBool, time::Duration};

/// What stands at an address, of at most so many bytes and within a time; `private` lets its name lead to a private network.
///
/// # Errors
/// Says why it cannot be had.
pub fn fetch(address: &str, private: bool, (most, patience): (usize, Duration)) -> Result<Vec<u8>, String> {
    let begins = address.find("://").map_or(0, |at| at + 3);
    let path = address.get(begins..).and_then(|rest| rest.find('/')).map_or(address.len(), |at| begins + at);
    let (server, path) = address.split_at(path);
    let failed = |problem: String| format!("{address}: {problem}");
    let client =
        Client::new(server, private.then_some(Reach::Private)).map_err(|told| failed(told.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let sent = AtomicBool::new(false);
    let path = if path.is_empty() { "/" } else { path };
    let asked = async {
        let reply = client.send((hyper::Method::GET, path), &[], Bytes::new(), &sent).await?;
        let status = reply.status;
        reply.whole(most).await.map(|body| (status, body))
    };
    match runtime.block_on(async { tokio::time::timeout(patience, asked).await }) {
        Ok(Ok((status, body))) if status.is_success() => Ok(body),
        Ok(Ok((status, _))) => Err(failed(format!("it answered with status {}", status.as_u16()))),
        Ok(Err(broken)) => Err(failed(broken.problem)),
        Err(_) => Err(failed("it did not answer in time".into())),
    }
}
