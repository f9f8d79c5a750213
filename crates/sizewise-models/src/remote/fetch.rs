//! How is a small document fetched, or a form sent, that is needed beside models?
//!
//! By whoever may wait: one request, one deadline, no redirects, and the same rules for addresses as for providers.

use super::{client::Client, reach::Reach};
use bytes::Bytes;
use hyper::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use std::{sync::atomic::AtomicBool, time::Duration};

/// What stands at an address, of at most so many bytes and within a time; `private` lets its name lead to a private network.
///
/// # Errors
/// Says why it cannot be had.
pub fn fetch(address: &str, private: bool, (most, patience): (usize, Duration)) -> Result<Vec<u8>, String> {
    let (client, path) = split(address, private)?;
    match ask((&client, Method::GET, path), &[], Bytes::new(), (most, patience)) {
        Ok((200..=299, body)) => Ok(body),
        Ok((status, _)) => Err(format!("{address}: it answered with status {status}")),
        Err(problem) => Err(format!("{address}: {problem}")),
    }
}

/// A form that is sent.
#[derive(Clone, Copy)]
pub struct Form<'f> {
    /// Names and values, as `application/x-www-form-urlencoded` has them.
    pub body: &'f str,
    /// The value of the header that says who sends it.
    pub authorization: Option<&'f str>,
}

/// Sends a form to an address, and returns the status and what came back, of at most so many bytes and within a time. What a form holds
/// may be secret: it goes by https, to this machine, or where `private` says that the network on the way is one's own.
///
/// # Errors
/// Says why nothing came back. No message shows what was sent.
pub fn send_form(
    address: &str,
    private: bool,
    form: Form<'_>,
    bounds: (usize, Duration),
) -> Result<(u16, Vec<u8>), String> {
    let failed = |problem: &str| format!("{address}: {problem}");
    let (client, path) = split(address, private)?;
    if !client.is_https() && !private && !super::chat::is_this_machine(client.host()) {
        return Err(failed(
            "what is sent there would cross the network unprotected: it must begin with https://",
        ));
    }
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ];
    if let Some(value) = form.authorization {
        let value =
            HeaderValue::from_str(value).map_err(|_| failed("its sender cannot stand in a header"))?;
        headers.push((AUTHORIZATION, value));
    }
    let body = Bytes::copy_from_slice(form.body.as_bytes());
    ask((&client, Method::POST, path), &headers, body, bounds).map_err(|problem| failed(&problem))
}

/// The server of an address, and the path there.
fn split(address: &str, private: bool) -> Result<(Client, &str), String> {
    let begins = address.find("://").map_or(0, |at| at + 3);
    let path = address.get(begins..).and_then(|rest| rest.find('/')).map_or(address.len(), |at| begins + at);
    let (server, path) = address.split_at(path);
    let client = Client::new(server, private.then_some(Reach::Private))
        .map_err(|told| format!("{address}: {told}"))?;
    Ok((client, if path.is_empty() { "/" } else { path }))
}

fn ask(
    (client, method, path): (&Client, Method, &str),
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
    (most, patience): (usize, Duration),
) -> Result<(u16, Vec<u8>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let sent = AtomicBool::new(false);
    let asked = async {
        let reply = client.send((method, path), headers, body, &sent).await?;
        let status = reply.status.as_u16();
        reply.whole(most).await.map(|body| (status, body))
    };
    match runtime.block_on(async { tokio::time::timeout(patience, asked).await }) {
        Ok(answered) => answered.map_err(|broken| broken.problem),
        Err(_) => Err("it did not answer in time".into()),
    }
}
