//! What does a provider say that takes no time at all? Answers every call with the same chat completion, whole or streamed.
//!
//! `cargo run --release --example instant_upstream -- 127.0.0.1:9099` serves until it is stopped; `scripts/measure-relay` puts our server
//! before it.

use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

const WHOLE: &str = r#"{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"An answer of about twenty words, as models give them to short questions, when they are asked to be brief."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":22,"total_tokens":42}}"#;

const CHUNK: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}"#;

/// Pieces that are sent one after the other, without a pause.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match (self.0.len(), self.0.front()) {
            (1, Some(only)) => SizeHint::with_exact(only.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let streams = body.windows(13).any(|window| window == b"\"stream\":true");
    let (kind, pieces) = match streams {
        true => {
            let chunk = Bytes::from(format!("{CHUNK}\n\n"));
            let mut pieces = VecDeque::from(vec![chunk; 20]);
            pieces.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
            ("text/event-stream", pieces)
        }
        false => ("application/json", VecDeque::from([Bytes::from_static(WHOLE.as_bytes())])),
    };
    let mut response = Response::new(Pieces(pieces));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9099".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}
