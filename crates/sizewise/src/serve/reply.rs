//! What goes back over the wire?

use super::status;
use crate::wire::{Protocol, WireError, headers};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame, SizeHint},
    header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use sizewise_contract::{Code, Decision, Diagnose};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// The name of a request, in its head and in that of its reply.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Longest name of a request.
const REQUEST_ID_BYTES: usize = 128;

/// Whether a request can be called so: what it is called stands in logs and traces.
pub(super) fn is_request_id(name: &HeaderValue) -> bool {
    let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    !name.is_empty() && name.len() <= REQUEST_ID_BYTES && name.as_bytes().iter().all(sign)
}

/// The body of a reply.
#[derive(Debug)]
pub(crate) enum Body {
    /// Whole before its first byte is sent.
    Whole(Full<Bytes>),
    /// Sent as it comes; dropped when the caller has left.
    Stream(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Stream(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|p| Ok(Frame::data(p)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Events,
    Text,
    Html,
    Style,
    Script,
    Image,
}

/// A reply before it is one of HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response<Body>,
}

impl Reply {
    /// A body with status 200.
    pub(super) fn new(kind: Kind, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Body::Whole(Full::new(body.into())));
        let name = match kind {
            Kind::Json => "application/json",
            Kind::Events => "text/event-stream; charset=utf-8",
            Kind::Text => "text/plain; version=0.0.4; charset=utf-8",
            Kind::Html => "text/html; charset=utf-8",
            Kind::Style => "text/css; charset=utf-8",
            Kind::Script => "text/javascript; charset=utf-8",
            Kind::Image => "image/svg+xml",
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(name));
        Self { response }
    }

    /// The same reply with another status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        *self.response.status_mut() = status;
        self
    }

    /// The same reply with headers that are known beforehand.
    pub(super) fn with_headers(mut self, headers: &[(HeaderName, &'static str)]) -> Self {
        for (name, value) in headers {
            self.response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        self
    }

    /// The same reply with a header of visible ASCII.
    pub(super) fn with_value(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().insert(name, value);
        }
        self
    }

    /// The same reply with one more header of a name that it may have already.
    pub(super) fn with_another(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().append(name, value);
        }
        self
    }

    /// The same reply with the headers that say how its decisions were made.
    pub(super) fn with_decisions(mut self, decisions: &[Decision]) -> Self {
        let map = self.response.headers_mut();
        map.reserve(12);
        for (name, value) in headers::of(decisions) {
            // Names of tasks, tiers and reasons, digits and hashes are all visible ASCII.
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                map.insert(HeaderName::from_static(name), value);
            }
        }
        if let [only] = decisions
            && let Ok(id) = HeaderValue::from_str(&only.id)
        {
            // Both clients show the id that they find under their own name.
            map.insert(REQUEST_ID, id.clone());
            map.insert("x-typesafe-request-id", id);
        }
        self
    }

    /// A reply of somebody else's, with its status and what it says of itself.
    pub(super) fn relayed(status: StatusCode, body: Body, headers: HeaderMap) -> Self {
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Self { response }
    }

    /// What is wrong, in the shape of the protocol.
    pub(super) fn error(error: &WireError, protocol: Protocol, allowed: Option<&'static str>) -> Self {
        let status = status::of(error.code());
        let mut reply = Self::new(Kind::Json, error.body(protocol, status.as_u16())).with_status(status);
        let headers = reply.response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // Everything that could be tried was tried here: the clients of both protocols heed this.
            _ if matches!(error.code(), Code::SourceUnavailable | Code::BudgetSpent) => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let seconds = error.wait().map_or(1, |wait| wait.as_secs() + 1);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        if let Some(method) = allowed {
            headers.insert(ALLOW, HeaderValue::from_static(method));
        }
        reply
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Names the reply, as the caller does, or as it is called already, or anew; says how.
    pub(super) fn named(&mut self, callers: Option<&HeaderValue>) -> String {
        let headers = self.response.headers_mut();
        match (callers, headers.get(REQUEST_ID)) {
            (Some(callers), _) => drop(headers.insert(REQUEST_ID, callers.clone())),
            (None, Some(known)) if is_request_id(known) => {}
            (None, _) => {
                let name = format!("r_{:016x}", sizewise_models::remote::random());
                // Letters and digits are always the value of a header.
                if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(name)) {
                    headers.insert(REQUEST_ID, value);
                }
            }
        }
        headers.get(REQUEST_ID).and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The reply as one of HTTP.
    pub(super) fn into_response(self) -> Response<Body> {
        self.response
    }
}
