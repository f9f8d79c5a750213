//! What does the provider do with a call? What the scenario in its path says.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Default)]
struct Log {
    calls: HashMap<String, usize>,
    bodies: HashMap<String, String>,
    heads: HashMap<String, String>,
    left: HashMap<String, usize>,
}

/// A server that plays every scenario, for the first provider and for the one that stands in.
pub(crate) struct Provider {
    address: String,
    log: Arc<Mutex<Log>>,
}

const GOOD: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"from WHO"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}"#;

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::<Mutex<Log>>::default();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || while call(&stream, &kept) {});
            }
        });
        Self { address, log }
    }

    /// The settings of a scenario's providers.
    pub(crate) fn settings(&self, name: &str, stands_in: bool) -> String {
        let one = |name: &str, who: &str, more: &str| {
            format!(
                "[provider.{name}]\nurl = \"http://{}/{name}/{who}/v1\"\nmodel = \"m\"\nprice_in = 1\nprice_out = 2\ntimeout_s = 2\n{more}",
                self.address
            )
        };
        match stands_in {
            true => {
                one(name, "first", &format!("fallback = \"{name}-second\"\n"))
                    + &one(&format!("{name}-second"), "second", "")
            }
            false => one(name, "first", ""),
        }
    }

    /// Calls to the first and to the second provider of a scenario.
    pub(crate) fn calls(&self, name: &str) -> (usize, usize) {
        let log = self.log.lock().unwrap();
        let of = |key: String| log.calls.get(&key).copied().unwrap_or(0);
        (of(format!("/{name}/first")), of(format!("/{name}-second/second")))
    }

    pub(crate) fn last_body(&self, name: &str) -> String {
        self.log.lock().unwrap().bodies.get(&format!("/{name}/first")).cloned().unwrap_or_default()
    }

    /// A header of the last call to the second provider of a scenario.
    pub(crate) fn last_header(&self, name: &str, header: &str) -> Option<String> {
        let log = self.log.lock().unwrap();
        let head = log.heads.get(&format!("/{name}-second/second"))?;
        head.lines().find_map(|line| line.strip_prefix(&format!("{header}: "))).map(str::to_owned)
    }

    pub(crate) fn left(&self, name: &str) -> usize {
        self.log.lock().unwrap().left.get(name).copied().unwrap_or(0)
    }
}

/// Answers one call; whether the connection goes on.
fn call(mut stream: &TcpStream, log: &Mutex<Log>) -> bool {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        head += &line;
        line.clear();
    }
    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    if reader.read_exact(&mut body).is_err() {
        return false;
    }
    let key = path.split("/v1").next().unwrap().to_owned();
    let number = {
        let mut log = log.lock().unwrap();
        log.bodies.insert(key.clone(), String::from_utf8(body).unwrap());
        log.heads.insert(key.clone(), head);
        let calls = log.calls.entry(key.clone()).or_default();
        *calls += 1;
        *calls
    };
    let mut parts = key.trim_start_matches('/').split('/');
    let (name, who) = (parts.next().unwrap(), parts.next().unwrap());
    let good = GOOD.replace("WHO", who);
    let reply = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let scenario = name.trim_end_matches("-second");
    let text = match (scenario, who, number) {
        ("429-retry-after", _, 1) => reply("429 Busy", "retry-after: 1\r\n", "{}"),
        ("429-lasting", "first", _) => reply("429 Busy", "", "{}"),
        ("500-once", _, 1) => reply("500 Oops", "", "<html>"),
        ("503-lasting" | "fallback-rejects", "first", _) => reply("503 No", "", "{}"),
        ("fallback-rejects", _, _) => reply("400 Bad", "", r#"{"error":{"message":"unknown field"}}"#),
        ("reset", "first", _) => return false,
        ("silence" | "hedged", "first", _) | ("silent-once", "first", 1) => {
            std::thread::sleep(Duration::from_secs(20));
            return false;
        }
        ("context-length", "first", _) => reply(
            "400 Bad",
            "",
            r#"{"error":{"message":"This model's maximum context length is 8","code":"context_length_exceeded"}}"#,
        ),
        ("content-filter", "first", _) => {
            reply("400 Bad", "", r#"{"error":{"message":"filtered","code":"content_filter"}}"#)
        }
        // Every other call fails, then a few in a row.
        ("flapping", "first", number) if number % 2 == 1 || number % 10 < 4 => reply("502 Bad", "", ""),
        ("accounting", "first", _) => reply("504 Late", "", ""),
        (
            "slow-first-token" | "cut-stream" | "stalled-stream" | "malformed-chunk" | "missing-end-mark"
            | "endless" | "hedged-stream",
            _,
            _,
        ) => {
            streamed(stream, (scenario, who), log);
            return false;
        }
        _ => reply("200 OK", "", &good),
    };
    stream.write_all(text.as_bytes()).is_ok()
}

fn streamed(mut stream: &TcpStream, (scenario, who): (&str, &str), log: &Mutex<Log>) {
    let chunk = |text: &str| {
        let event =
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text} \"}}}}]}}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    let raw = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
    let mut send = |text: String| stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok();
    send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".into());
    if matches!((scenario, who), ("slow-first-token" | "hedged-stream", "first")) {
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    send(chunk(who));
    match (scenario, who) {
        ("cut-stream", "first") => return,
        ("stalled-stream", "first") => {
            std::thread::sleep(Duration::from_secs(20));
            return;
        }
        ("malformed-chunk", "first") => {
            send(raw("data: {oops\n\n"));
            std::thread::sleep(Duration::from_millis(200));
            return;
        }
        ("missing-end-mark", "first") => {
            send("0\r\n\r\n".into());
            return;
        }
        ("endless", _) => {
            // Reads until the caller leaves.
            let gone = stream.set_read_timeout(Some(Duration::from_secs(20))).and_then(|()| {
                let mut end = stream;
                end.read(&mut [0])
            });
            let left =
                matches!(gone, Ok(0)) || gone.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
            *log.lock().unwrap().left.entry("endless".into()).or_default() += usize::from(left);
            return;
        }
        _ => {}
    }
    send(raw("data: [DONE]\n\n") + "0\r\n\r\n");
}
