//! How is the real server run and called?

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// `sizewise serve` in a folder of its own.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    child: Child,
    address: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    /// Without what chunks are wrapped in.
    pub(crate) body: String,
    pub(crate) elapsed: Duration,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Server {
    pub(crate) fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sizewise.toml"), settings).unwrap();
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = free.to_string();
        let mut child = command(folder.path()).args(["serve", "--bind", &address]).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { folder, child, address }
    }

    /// Makes a key with these rights; returns its id and the key.
    pub(crate) fn key(&self, rights: &[&str]) -> (String, String) {
        let output = command(self.folder.path())
            .args(["keys", "create", "a program", "-o", "json"])
            .args(rights)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// Gives a key other rights.
    pub(crate) fn change(&self, id: &str, rights: &[&str]) {
        let changed = command(self.folder.path()).args(["keys", "change", id]).args(rights).output().unwrap();
        assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stdout));
    }

    /// A chat with a key.
    pub(crate) fn chat_as(&self, key: &str, model: &str) -> Heard {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":100}}"#
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n",
            body.len()
        );
        self.call(&head, &body)
    }

    pub(crate) fn chat(&self, model: &str, stream: bool) -> Heard {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":100,"stream":{stream}}}"#
        );
        self.post("/v1/chat/completions", &body)
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Heard {
        self.post_with(path, "", body)
    }

    /// With further headers, each with its line end.
    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &str) -> Heard {
        self.call(&format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\n{headers}", body.len()), body)
    }

    pub(crate) fn get(&self, path: &str) -> Heard {
        self.call(&format!("GET {path} HTTP/1.1\r\n"), "")
    }

    fn open(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let rest = "host: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n";
        stream.write_all(format!("{head}{rest}{body}").as_bytes()).unwrap();
        stream
    }

    fn call(&self, head: &str, body: &str) -> Heard {
        let begun = Instant::now();
        let mut bytes = Vec::new();
        self.open(head, body).read_to_end(&mut bytes).unwrap();
        let elapsed = begun.elapsed();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let headers: HashMap<String, String> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = headers.get("transfer-encoding").is_some_and(|kind| kind == "chunked");
        let body = if chunked { unwrapped(body) } else { body.to_owned() };
        Heard { status, headers, body, elapsed }
    }

    /// Reads the beginning of a stream and hangs up.
    pub(crate) fn leave_after_first_piece(&self, model: &str) {
        let body = format!(r#"{{"model":"{model}","messages":[],"stream":true}}"#);
        let mut stream = self.open(
            &format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n", body.len()),
            &body,
        );
        let mut seen = String::new();
        while !seen.contains("first ") {
            let mut part = [0; 1_024];
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "{seen}");
            seen += &String::from_utf8_lossy(&part[..count]);
        }
    }

    /// What was spent on a provider, in millionths of a dollar.
    pub(crate) fn spending(&self) -> impl Fn(&str) -> u64 {
        let told = self.spent();
        move |provider| sum(&told["days"], "provider", provider)
    }

    /// What a key, a team or a provider's own budget has paid.
    pub(crate) fn paid_by(&self, payer: &str) -> u64 {
        sum(&self.spent()["also"], "payer", payer)
    }

    fn spent(&self) -> serde_json::Value {
        let output = command(self.folder.path())
            .args(["spending", "-o", "json"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn sum(days: &serde_json::Value, field: &str, name: &str) -> u64 {
    let days = days.as_array().unwrap();
    days.iter().filter(|day| day[field] == name).filter_map(|day| day["micro_usd"].as_u64()).sum()
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sizewise"));
    command.current_dir(folder).env_remove("SIZEWISE_PROJECT").stderr(Stdio::null());
    command
}

/// A body of chunks as one text.
fn unwrapped(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        whole += chunk;
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
