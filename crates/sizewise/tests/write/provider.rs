//! Who writes the texts? A server that knows the bundled example, and errs in every way that a model does.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What the server knows and what it was asked.
#[derive(Default)]
pub(crate) struct Desk {
    /// The team of every message.
    pub(crate) teams: HashMap<String, String>,
    /// Messages that it has not written yet, by team.
    pub(crate) stock: Mutex<BTreeMap<String, Vec<String>>>,
    /// Gold rows, one of which it writes down with every call.
    pub(crate) gold: Mutex<Vec<String>>,
    /// Bodies of all requests.
    pub(crate) asked: Mutex<Vec<String>>,
    /// How often it was asked for the label of each message.
    pub(crate) labelled: Mutex<HashMap<String, usize>>,
    /// After so many more calls it says nothing until there are more.
    pub(crate) patience: AtomicUsize,
    /// What was asked before it was raised is never answered.
    pub(crate) generation: AtomicUsize,
    /// Tokens that it read and wrote.
    pub(crate) tokens: Mutex<(u64, u64)>,
}

impl Desk {
    /// Listens; the address of its protocol.
    pub(crate) fn listen(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let desk = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Arc::clone(&desk);
                std::thread::spawn(move || while desk.call(&stream).is_some() {});
            }
        });
        address
    }

    /// Answers one call; none where the connection ends.
    fn call(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            head += &line.to_lowercase();
            line.clear();
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let generation = self.generation.load(Ordering::Relaxed);
        let answer =
            || self.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        while answer().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if generation != self.generation.load(Ordering::Relaxed) {
            return None;
        }
        let asked: Value = serde_json::from_str(&body).ok()?;
        let said = self.said(&asked);
        let tokens = (body.len() as u64 / 4, said.len() as u64 / 4);
        {
            let mut all = self.tokens.lock().unwrap();
            *all = (all.0 + tokens.0, all.1 + tokens.1);
        }
        self.asked.lock().unwrap().push(body);
        let reply = json!({
            "id": "r", "model": "writer-1",
            "choices": [{ "message": { "content": said }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": tokens.0, "completion_tokens": tokens.1 },
        })
        .to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", reply.len());
        stream.write_all((head + &reply).as_bytes()).ok()
    }

    fn said(&self, asked: &Value) -> String {
        let user = asked["messages"][1]["content"].as_str().unwrap();
        let properties = &asked["response_format"]["json_schema"]["schema"]["properties"];
        if properties["texts"].is_null() {
            *self.labelled.lock().unwrap().entry(user.to_owned()).or_default() += 1;
            let team = self.teams.get(user).map_or("billing_question", String::as_str);
            return json!({ "team": team }).to_string();
        }
        let system = asked["messages"][0]["content"].as_str().unwrap();
        let team = system.split("must get: \"").nth(1).unwrap().split('"').next().unwrap();
        let wanted: usize = user.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        let mut texts: Vec<String> = Vec::new();
        // What it was shown, as some models do.
        let shown = user.split("\n- ").nth(1).unwrap().lines().next().unwrap();
        texts.push(serde_json::from_str(shown).unwrap());
        texts.extend(self.gold.lock().unwrap().pop().map(|text| format!("Hi, {}", text.to_uppercase())));
        texts.push("Dear team, <NAME_1> still waits for an answer to the last letter".into());
        let mut stock = self.stock.lock().unwrap();
        let other = stock.iter_mut().find(|(of, left)| *of != team && !left.is_empty());
        texts.extend(other.and_then(|(_, left)| left.pop()));
        let own = stock.get_mut(team).unwrap();
        while texts.len() < wanted {
            texts.extend(own.pop().or_else(|| texts.first().cloned()));
        }
        texts.truncate(wanted);
        json!({ "texts": texts }).to_string()
    }
}
