//! How is the body of a request read, so that no caller can fill the memory or wait for ever?
//!
//! Bodies are plain or zstd: the System One client compresses with it wherever its runtime can. Both the bytes that come
//! in and the bytes that they unfold to count against the limit of one body and against the budget of all.

use super::Serving;
use crate::wire::WireError;
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Bytes, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap},
};
use sizewise_contract::Code;
use std::{
    io::Read,
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Largest window of a compressed body: what zstd itself guarantees every decoder to support (RFC 8878, 3.1.1.1.2).
const WINDOW_LOG: u32 = 23;
/// How much is unfolded at a time.
const STEP_BYTES: usize = 64 << 10;

/// A body in memory; gives its bytes back to the budget when dropped.
pub(super) struct ReadBody<'s> {
    bytes: Bytes,
    _held: Held<'s>,
}

impl Deref for ReadBody<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body to its end.
///
/// # Errors
/// Fails when it is too large, too slow, broken off, or of a kind that is not read.
pub(super) async fn read<'s, D>(
    body: Incoming,
    headers: &HeaderMap,
    serving: &'s Serving<D>,
) -> Result<ReadBody<'s>, WireError> {
    let mut held = Held { free: &serving.free_body_bytes, bytes: 0 };
    if body.is_end_stream() {
        return Ok(ReadBody { bytes: Bytes::new(), _held: held });
    }
    let limit = serving.settings.body_bytes;
    let compressed = encoding(headers)?;
    // A caller that says how much it sends is refused before it sends it.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let collected = collect(body, limit, &mut held);
    let bytes = match tokio::time::timeout(serving.settings.body_timeout, collected).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(WireError::new(Code::BodyTooSlow, None, "the body did not arrive in time")),
    };
    let bytes = if compressed { unfold(&bytes, limit, &mut held)? } else { bytes };
    Ok(ReadBody { bytes, _held: held })
}

/// Whether the body is compressed.
fn encoding(headers: &HeaderMap) -> Result<bool, WireError> {
    let unsupported = |message: &str, hint: &str| {
        Err(WireError::new(Code::MediaUnsupported, None, message).with_hint(hint))
    };
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.starts_with("multipart/") {
        return unsupported("bodies in several parts carry images, which no task reads", "send JSON");
    }
    // `curl -d` calls every body a form, and scripts call it text.
    let may_be_json = kind.is_empty()
        || kind.ends_with("json")
        || kind.starts_with("text/")
        || kind == "application/x-www-form-urlencoded";
    if !may_be_json {
        return unsupported("the body is not JSON", "send JSON, as `content-type: application/json`");
    }
    match headers.get(CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes()) {
        b"identity" => Ok(false),
        b"zstd" => Ok(true),
        _ => unsupported("the body is compressed in a way that is not read", "send it plain or as zstd"),
    }
}

async fn collect(mut body: Incoming, limit: usize, held: &mut Held<'_>) -> Result<Bytes, WireError> {
    let mut parts: Vec<Bytes> = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            WireError::request(None, format!("the body broke off or is not framed as HTTP asks: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total > limit {
            return Err(too_large(limit));
        }
        held.take(data.len())?;
        parts.push(data);
    }
    // Nearly every body comes in one piece, which is then not copied.
    match parts.len() {
        0 | 1 => Ok(parts.pop().unwrap_or_default()),
        _ => Ok(Bytes::from(parts.concat())),
    }
}

fn unfold(compressed: &[u8], limit: usize, held: &mut Held<'_>) -> Result<Bytes, WireError> {
    let broken = |error: std::io::Error| {
        WireError::new(Code::MediaUnsupported, None, format!("the body is not sound zstd: {error}"))
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(broken)?;
    decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let step = decoder.by_ref().take(STEP_BYTES as u64).read_to_end(&mut bytes).map_err(broken)?;
        if step == 0 {
            return Ok(Bytes::from(bytes));
        }
        if before + step > limit {
            return Err(too_large(limit));
        }
        held.take(step)?;
    }
}

fn too_large(limit: usize) -> WireError {
    WireError::new(Code::BodyTooLarge, None, format!("the body is larger than {limit} bytes"))
        .with_hint("send fewer inputs at once")
}

/// Bytes taken from the budget of all bodies.
struct Held<'s> {
    free: &'s AtomicUsize,
    bytes: usize,
}

impl Held<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), WireError> {
        let taken =
            self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes));
        if taken.is_err() {
            return Err(WireError::new(
                Code::Overloaded,
                None,
                "the bodies of other requests fill the memory",
            ));
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::Diagnose;

    #[test]
    fn a_compressed_body_unfolds_up_to_the_limit() {
        let free = AtomicUsize::new(10_000_000);
        let mut held = Held { free: &free, bytes: 0 };
        let body = vec![b'a'; 1_000_000];
        let compressed = zstd::stream::encode_all(&body[..], 3).expect("compresses");
        assert_eq!(unfold(&compressed, 1_000_000, &mut held).expect("fits"), body);
        assert_eq!(held.bytes, 1_000_000);
        let error = unfold(&compressed, 999_999, &mut held).expect_err("too large");
        assert_eq!(error.code(), Code::BodyTooLarge);
        drop(held);
        assert_eq!(free.into_inner(), 10_000_000, "all bytes are given back");
    }

    #[test]
    fn a_compressed_body_counts_against_the_budget_of_all() {
        let free = AtomicUsize::new(500_000);
        let mut held = Held { free: &free, bytes: 0 };
        let compressed = zstd::stream::encode_all(&vec![b'a'; 1_000_000][..], 3).expect("compresses");
        let error = unfold(&compressed, 8_000_000, &mut held).expect_err("no memory left");
        assert_eq!(error.code(), Code::Overloaded);
    }

    #[test]
    fn what_is_not_zstd_is_refused() {
        let free = AtomicUsize::new(500_000);
        let mut held = Held { free: &free, bytes: 0 };
        let error = unfold(b"{\"model\":1}", 1_000, &mut held).expect_err("not zstd");
        assert_eq!(error.code(), Code::MediaUnsupported);
    }
}
