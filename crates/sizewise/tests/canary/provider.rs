//! What does a provider do that says back whatever it was told, key included?

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A provider with a loose tongue.
pub(crate) struct Provider {
    pub(crate) address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// Starts one that puts `words` into whatever it answers, and its own key where tasks ask it. Programs that call a provider through the
    /// server get its answers byte for byte; what it says of its own key there is between the two.
    pub(crate) fn start(words: String, key: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, words) = (Arc::clone(&kept), (words.clone(), key.clone()));
                std::thread::spawn(move || while call(&stream, &words, &kept) {});
            }
        });
        Self { address, heard }
    }

    /// Everything that it was told.
    pub(crate) fn heard(&self) -> String {
        self.heard.lock().unwrap().concat()
    }
}

/// The head and the body of the next call of a connection; none at its end.
pub(crate) fn received(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        head += &line;
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Answers one call; whether the connection goes on.
fn call(mut stream: &TcpStream, (words, key): &(String, String), heard: &Mutex<Vec<String>>) -> bool {
    let Some((head, body)) = received(stream) else { return false };
    let body = String::from_utf8(body).unwrap();
    heard.lock().unwrap().push(format!("{head}{body}"));
    let key = if head.starts_with("POST /primary/") { key } else { "" };
    let words = format!("{words} {key}");
    // What it was told last, as the reason why it fails or as its answer; JSON takes it as it is.
    let told: String =
        body.chars().rev().take(1_000).filter(|c| !matches!(c, '"' | '\\' | '{' | '}')).collect();
    let told: String = told.chars().rev().collect();
    let error = format!(r#"{{"error":{{"message":"{words} and {told}","type":"x"}}}}"#);
    let good = format!(
        r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words} and {told}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":9}}}}"#
    );
    let (status, answer) = match &body {
        body if body.contains("please-fail") => ("500 Oops", error),
        body if body.contains("please-refuse") => ("400 Bad", error),
        body if body.contains("\"stream\":true") => {
            let event =
                format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n");
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            // And there it breaks off.
            let _ = write!(stream, "{head}{:x}\r\n{event}\r\n", event.len());
            return false;
        }
        _ => ("200 OK", good),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all(format!("{head}{answer}").as_bytes()).is_ok()
}
