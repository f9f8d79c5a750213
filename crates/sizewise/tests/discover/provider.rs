//! What does the larger model answer? What the words of a ticket say.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

/// Sentences with their team.
pub(crate) const TICKETS: [(&str, &str); 6] = [
    ("the invoice shows the wrong amount", "billing"),
    ("I was charged twice for it", "billing"),
    ("the parcel has not come", "delivery"),
    ("the courier left it with a stranger", "delivery"),
    ("the tent is torn and I want to send it back", "returns"),
    ("the shoes are too small, how do I return them", "returns"),
];

/// The team of a text that holds one of the sentences.
pub(crate) fn team_of(text: &str) -> &'static str {
    TICKETS.iter().find(|(sentence, _)| text.contains(sentence)).map_or("none", |(_, team)| team)
}

/// A provider that speaks all three protocols.
pub(crate) struct Provider(String);

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || while call(&stream).is_some() {});
            }
        });
        Self(address)
    }

    pub(crate) fn settings(&self) -> String {
        let one = |name: &str, more: &str| {
            format!(
                "[provider.{name}]\nurl = \"http://{}/v1\"\nmodel = \"m\"\nprice_in = 1\nprice_out = 2\n{more}",
                self.0
            )
        };
        one("primary", "") + &one("letters", "dialect = \"anthropic\"\n")
    }
}

/// Answers one call; none where the connection ends.
fn call(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        head += &line;
        line.clear();
    }
    let path = head.split(' ').nth(1)?.to_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let asked: Value = serde_json::from_slice(&body).ok()?;
    let (status, answer) = answer(&path, &asked);
    let text = match answer {
        Told::Whole(value) => {
            let body = value.to_string();
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        Told::Stream(events) => {
            let chunk = |event: &String| format!("{:x}\r\n{event}\r\n", event.len());
            let chunks: String = events.iter().map(chunk).collect();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            )
        }
    };
    stream.write_all(text.as_bytes()).ok()
}

enum Told {
    Whole(Value),
    Stream(Vec<String>),
}

fn answer(path: &str, asked: &Value) -> (&'static str, Told) {
    let usage =
        json!({"prompt_tokens": 50, "completion_tokens": 10, "input_tokens": 50, "output_tokens": 10});
    let stream = asked["stream"] == true;
    let event = |value: Value| format!("data: {value}\n\n");
    if path.ends_with("/embeddings") {
        return ("200 OK", Told::Whole(json!({"data": [], "usage": usage})));
    }
    if path.ends_with("/responses") {
        let text = asked["input"].as_str().unwrap_or_default();
        let said =
            json!({"urgent": text.len().is_multiple_of(3), "why": format!("it says {text}")}).to_string();
        let part = json!({"type": "output_text", "text": said});
        let output = json!([{"type": "message", "content": [part]}]);
        return (
            "200 OK",
            Told::Whole(
                json!({"id": "r", "model": "m-1", "status": "completed", "output": output, "usage": usage}),
            ),
        );
    }
    if path.ends_with("/messages") {
        let level = 1 + asked["messages"][0]["content"].as_str().unwrap_or_default().len() % 3;
        let message = json!({"id": "m", "type": "message", "model": "m-2", "content": [], "stop_reason": null, "usage": usage});
        let part = json!({"type": "text", "text": format!("{level}")});
        return (
            "200 OK",
            match stream {
                false => {
                    let mut whole = message;
                    (whole["content"], whole["stop_reason"]) = (json!([part]), json!("end_turn"));
                    Told::Whole(whole)
                }
                true => Told::Stream(vec![
                    event(json!({"type": "message_start", "message": message})),
                    event(
                        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                    ),
                    event(
                        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": format!("{level}")}}),
                    ),
                    event(
                        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}}),
                    ),
                    event(json!({"type": "message_stop"})),
                ]),
            },
        );
    }
    let text = asked["messages"][0]["content"].as_str().unwrap_or_default();
    if text.starts_with("refuse") {
        return ("400 Bad", Told::Whole(json!({"error": {"message": "filtered", "code": "content_filter"}})));
    }
    let said = if text.starts_with("Sum up") {
        format!("In short: {}.", &text[8..])
    } else {
        team_of(text).to_owned()
    };
    if !stream {
        let choice =
            json!({"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"});
        return (
            "200 OK",
            Told::Whole(json!({"id": "c", "model": "m-1", "choices": [choice], "usage": usage})),
        );
    }
    let mut events = vec![event(
        json!({"id": "c", "model": "m-1", "choices": [{"index": 0, "delta": {"content": said}}]}),
    )];
    if !text.starts_with("break") {
        events.push(event(
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}),
        ));
        events.push("data: [DONE]\n\n".into());
    }
    ("200 OK", Told::Stream(events))
}
