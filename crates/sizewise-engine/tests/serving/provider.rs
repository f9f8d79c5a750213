//! What does a provider do in a test? What its script says, one line a call.

use sizewise_models::remote::{Provider, ProviderSettings};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What is done with one call.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// Answers with these labels, and says that it took a hundred tokens to read and ten to write.
    Says(&'static str),
    /// Answers with a status, headers and a body.
    Status(u16, &'static str, &'static str),
    /// Closes the connection without a word.
    Hangs,
    /// Says nothing until the caller leaves.
    Silent,
    /// Begins a reply and breaks off.
    Cuts,
}

/// A provider that plays a script; the last line is played for ever.
pub(crate) struct Scripted {
    pub(crate) provider: Arc<Provider>,
    /// The bodies of all calls.
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
    /// Callers that left before they had an answer.
    pub(crate) left: Arc<Mutex<usize>>,
}

impl Scripted {
    /// A provider of this machine.
    pub(crate) async fn plays(script: &[Does]) -> Self {
        Self::with(script, "").await
    }

    /// A provider with more in its settings.
    pub(crate) async fn with(script: &[Does], more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (heard, left) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
        let (script, kept, gone) = (script.to_vec(), Arc::clone(&heard), Arc::clone(&left));
        tokio::spawn(async move {
            let calls = Arc::new(Mutex::new(0usize));
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (script, kept, gone) = (script.clone(), Arc::clone(&kept), Arc::clone(&gone));
                let calls = Arc::clone(&calls);
                tokio::spawn(async move {
                    while let Some(body) = request(&mut stream).await {
                        kept.lock().unwrap().push(body);
                        let call = {
                            let mut calls = calls.lock().unwrap();
                            *calls += 1;
                            *calls - 1
                        };
                        let does = script.get(call).or(script.last()).cloned().unwrap();
                        if !play(&mut stream, does, &gone).await {
                            return;
                        }
                    }
                });
            }
        });
        let settings = format!("url = \"{url}\"\nmodel = \"m-1\"\nprice_in = 1\nprice_out = 2\n{more}");
        let settings: ProviderSettings = toml::from_str(&settings).unwrap();
        Self { provider: Arc::new(Provider::new("primary", &settings, Some("s3cret")).unwrap()), heard, left }
    }

    pub(crate) fn calls(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

/// Reads one request and returns its body; none when the caller has left.
async fn request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4_096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() >= length.parse().ok()? {
                assert!(head.contains("Bearer s3cret"), "{head}");
                return Some(body.to_owned());
            }
        }
    }
}

/// Whether the connection goes on.
async fn play(stream: &mut tokio::net::TcpStream, does: Does, left: &Mutex<usize>) -> bool {
    let reply = |status: u16, headers: &str, body: &str| {
        format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    let text = match does {
        Does::Says(labels) => {
            let content = serde_json::Value::from(labels);
            let body = format!(
                r#"{{"id":"c1","model":"m-1-0613","choices":[{{"message":{{"content":{content}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":100,"completion_tokens":10}}}}"#
            );
            reply(200, "", &body)
        }
        Does::Status(status, headers, body) => reply(status, headers, body),
        Does::Hangs => return false,
        Does::Silent => {
            let gone = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0])).await;
            *left.lock().unwrap() += usize::from(matches!(gone, Ok(Ok(0) | Err(_))));
            return false;
        }
        Does::Cuts => "HTTP/1.1 200 x\r\ncontent-length: 900\r\n\r\n{\"choices\"".to_owned(),
    };
    stream.write_all(text.as_bytes()).await.is_ok() && !matches!(does, Does::Cuts)
}
