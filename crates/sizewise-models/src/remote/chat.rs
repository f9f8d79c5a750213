//! How is a language model behind somebody's protocol asked, so that every way of failing has a name?
//!
//! Any server with `POST …/chat/completions` of the OpenAI shape will do. A call is one attempt: whether to try again, and what
//! it may cost, is the caller's business. A key goes to the server that was named and nowhere else: redirects are not followed,
//! and no message shows it.

use super::dialect::{Ask, Dialect, Heard, Reply, Then, Trouble};
use crate::error::{Error, Result};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// Largest reply that is read.
const REPLY_BYTES: u64 = 1 << 20;
/// Longest key, in bytes.
const KEY_BYTES: usize = 4_096;
/// Tokens of a request that are not in its bytes, at most: what separates its messages.
const FRAME_TOKENS: u64 = 64;
/// A server with language models.
pub struct Chat {
    address: String,
    key: Option<String>,
    agent: ureq::Agent,
    dialect: AtomicU8,
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Trouble {
    /// The failure as an error of this server.
    #[must_use]
    pub fn into_error(self, chat: &Chat) -> Error {
        let way_out = match self.then {
            Then::Never { way_out } => way_out,
            _ => "run the command again later: it goes on where it stopped".into(),
        };
        Error::Refused { address: chat.address.clone(), problem: self.problem, way_out }
    }
}

impl Chat {
    /// A server by its address: all before `/chat/completions`, as `https://HOST/v1`.
    ///
    /// # Errors
    /// Fails when the address is neither `https://…` nor `http://…`, when it holds a password, when a key would cross the
    /// network unprotected, and when the key can be none.
    pub fn new(base: &str, key: Option<String>, patience: Duration) -> Result<Self> {
        let base = base.trim().trim_end_matches('/');
        let base = base.strip_suffix("/chat/completions").unwrap_or(base);
        let refused = |problem: &str, way_out: &str| {
            let shown = base.split(['?', '#']).next().unwrap_or_default();
            let address = shown.split_once('@').map_or(shown, |(_, rest)| rest).to_owned();
            Err(Error::Refused { address, problem: problem.into(), way_out: way_out.into() })
        };
        let Some(host) = host(base) else {
            return refused("it begins with neither https:// nor http://", "write it as https://HOST/v1");
        };
        if base.contains(['@', '?', '#']) || base.chars().any(|c| c.is_control() || c == ' ') {
            return refused("an address holds no password and no query", "give the key with --key env:NAME");
        }
        if let Some(key) = &key {
            if key.is_empty() || key.len() > KEY_BYTES || !key.bytes().all(|b| (0x21..0x7f).contains(&b)) {
                return refused("the key is empty, or holds what no key does", "look at what --key names");
            }
            if base.starts_with("http://") && !is_this_machine(host) {
                return refused(
                    "a key would cross the network unprotected",
                    "use https://, or leave --key out",
                );
            }
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(15).min(patience)))
            .timeout_global(Some(patience))
            .user_agent(concat!("sizewise/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { address: format!("{base}/chat/completions"), key, agent, dialect: AtomicU8::new(0) })
    }

    /// The host that is asked.
    #[must_use]
    pub fn host(&self) -> &str {
        host(&self.address).unwrap_or_default()
    }

    /// Whether the server runs on this machine, so that nothing leaves it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_this_machine(self.host())
    }

    /// Most tokens that a request can count for: no token is shorter than a byte.
    #[must_use]
    pub fn most_read(&self, ask: &Ask<'_>) -> u64 {
        self.body(ask).to_string().len() as u64 + FRAME_TOKENS * (ask.messages.len() as u64 + 1)
    }

    /// Asks once.
    ///
    /// # Errors
    /// Whatever stands in the way; see [`Then`].
    pub fn send(&self, ask: &Ask<'_>) -> std::result::Result<Reply, Trouble> {
        let dialect = self.dialect.load(Ordering::Relaxed);
        let mut request = self.agent.post(&self.address).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut reply = request.send(self.body(ask).to_string()).map_err(|error| broken(&error))?;
        let status = reply.status().as_u16();
        let header =
            |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (request, retry_after) = (header("x-request-id"), header("retry-after"));
        let bytes = reply.body_mut().with_config().limit(REPLY_BYTES).read_to_vec();
        let heard = Heard {
            status,
            request: request.as_deref(),
            retry_after: retry_after.as_deref(),
            body: bytes.as_deref().ok(),
        };
        Dialect::OpenAi.read(heard, &[]).map_err(|(mut trouble, learnt)| {
            if trouble.then == Then::AtOnce && learnt & !dialect == 0 {
                trouble.then = Then::NotThis;
            }
            self.dialect.fetch_or(learnt, Ordering::Relaxed);
            trouble
        })
    }

    fn body(&self, ask: &Ask<'_>) -> Value {
        Dialect::OpenAi.body(ask, self.dialect.load(Ordering::Relaxed))
    }
}

/// A call that got no answer.
fn broken(error: &ureq::Error) -> Trouble {
    let never = |problem: &str, way_out: &str| Trouble {
        problem: problem.into(),
        may_cost: false,
        then: Then::Never { way_out: way_out.into() },
    };
    match error {
        ureq::Error::HostNotFound => never("no such host", "check the name in --url, and the network"),
        ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            never("nobody listens there", "start the server, or name another one with --url")
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            never("it has no certificate that can be trusted", "check --url, or use http:// on this machine")
        }
        error => Trouble { problem: error.to_string(), may_cost: true, then: Then::Later(None) },
    }
}

pub(super) fn host(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty()).then_some(host)
}

pub(super) fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::{super::dialect::Usage, *};
    use serde_json::json;
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
        sync::mpsc,
    };

    const GOOD: &str = r#"{"id":"c1","model":"m-1","choices":[{"message":{"content":"{}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;

    /// A server that plays these replies, one a connection, and hands on what it was asked.
    fn server(replies: Vec<String>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for (reply, stream) in replies.into_iter().zip(listener.incoming()) {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap() > 2 {}
                let lower = head.to_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let mut body = vec![0; length.trim().parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                sender.send(format!("{head}{}", String::from_utf8(body).unwrap())).unwrap();
                if reply == "slow" {
                    // Says nothing until the caller hangs up.
                    let _ = reader.read(&mut [0]);
                    continue;
                }
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        (address, receiver)
    }

    fn http(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn asked(chat: &Chat) -> std::result::Result<Reply, Trouble> {
        let messages = [("user", "where is my parcel".to_owned())];
        chat.send(&Ask {
            model: "m",
            messages: &messages,
            schema: &json!({"type": "object"}),
            typed: &[],
            most_tokens: 9,
        })
    }

    #[test]
    fn a_reply_comes_with_its_usage_and_the_key_goes_along_unseen() {
        let (address, heard) = server(vec![http("200 OK", "x-request-id: r1\r\n", GOOD)]);
        let chat = Chat::new(&address, Some("s3cret".into()), Duration::from_secs(5)).unwrap();
        let reply = asked(&chat).unwrap();
        assert_eq!(reply.usage, Some(Usage { read: 7, written: 3 }));
        assert_eq!((reply.request.as_deref(), reply.model.as_deref()), (Some("r1"), Some("m-1")));
        let heard = heard.recv().unwrap();
        assert!(heard.starts_with("POST /v1/chat/completions") && heard.contains("Bearer s3cret"), "{heard}");
        assert!(heard.contains(r#""strict":true"#) && heard.contains(r#""max_tokens":9"#), "{heard}");
        assert!(!format!("{chat:?}").contains("s3cret"));
        assert!(chat.is_local());
    }

    #[test]
    fn every_way_of_failing_says_what_can_be_done() {
        let error = r#"{"error":{"message":"no such model"}}"#;
        let (address, _heard) = server(vec![
            http("429 Too Many", "retry-after: 7\r\n", ""),
            http("500 Oops", "", "<html>"),
            http("401 No", "", error),
            http("404 None", "", error),
            http("307 Go", "location: http://127.0.0.1:1/\r\n", ""),
            http("400 Bad", "", error),
            http("200 OK", "", "no json"),
            "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".into(),
            "slow".into(),
        ]);
        let chat = Chat::new(&address, None, Duration::from_millis(700)).unwrap();
        let next = || asked(&chat).unwrap_err();
        assert_eq!(next().then, Then::Later(Some(Duration::from_secs(7))));
        assert_eq!(next().then, Then::Later(None));
        for (status, way_out) in [("401", "--key"), ("404", "--model"), ("307", "--url")] {
            let trouble = next();
            assert!(trouble.problem.contains(status) && !trouble.may_cost, "{trouble:?}");
            let error = trouble.into_error(&chat);
            let hint = sizewise_contract::Diagnose::hint(&error).unwrap();
            assert!(hint.contains(way_out), "{hint}");
        }
        assert_eq!(next().then, Then::NotThis);
        for _ in ["no json", "cut", "slow"] {
            let trouble = next();
            assert!(trouble.may_cost && trouble.then == Then::Later(None), "{trouble:?}");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let chat = Chat::new(&format!("http://{nobody}"), None, Duration::from_secs(5)).unwrap();
        let Err(Trouble { problem, then: Then::Never { way_out }, .. }) = asked(&chat) else {
            unreachable!()
        };
        assert!(problem.contains("nobody listens") && way_out.contains("--url"), "{problem} {way_out}");
    }

    #[test]
    fn words_that_a_server_does_not_take_are_put_otherwise() {
        let refuse = |what: &str| http("400 Bad", "", &format!(r#"{{"error":{{"message":"use {what}"}}}}"#));
        let (address, heard) =
            server(vec![refuse("max_completion_tokens"), refuse("no temperature"), http("200 OK", "", GOOD)]);
        let chat = Chat::new(&address, None, Duration::from_secs(5)).unwrap();
        assert_eq!(asked(&chat).unwrap_err().then, Then::AtOnce);
        assert_eq!(asked(&chat).unwrap_err().then, Then::AtOnce);
        asked(&chat).unwrap();
        let last = heard.iter().nth(2).unwrap();
        assert!(last.contains(r#""max_completion_tokens":9"#) && !last.contains("temperature"), "{last}");
    }

    #[test]
    fn a_key_never_leaves_unprotected_and_is_never_shown() {
        for (address, key) in [
            ("ftp://host/v1", None),
            ("https://user:s3cret@host/v1", None),
            ("https://host/v1?key=s3cret", None),
            ("http://host.example/v1", Some("s3cret")),
            ("https://host/v1", Some("s3cret\n")),
            ("https://", None),
        ] {
            let error = Chat::new(address, key.map(str::to_owned), Duration::from_secs(1)).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(!Chat::new("https://host.example/v1/", None, Duration::from_secs(1)).unwrap().is_local());
        assert!(
            Chat::new("http://[::1]:8000/v1", Some("k".into()), Duration::from_secs(1)).unwrap().is_local()
        );
    }
}
