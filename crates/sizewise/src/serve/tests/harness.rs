//! How do the tests run a server and talk to it?

use super::super::*;
use crate::wire::testing::{escalated, support_decision, support_task};
use crate::{console::Console, project::Project};
use sizewise_contract::{ContentHash, did_you_mean};
use sizewise_store::{Holder, Rights, Role};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// How the engine of a test behaves.
#[derive(Clone)]
pub(super) enum Behaviour {
    Answers,
    Escalates,
    Fails,
    /// Says that it was asked, and answers once it is told to.
    Waits {
        asked: Arc<Notify>,
        go: Arc<Notify>,
    },
}

/// An engine with one task and a fixed decision.
pub(super) struct Fake {
    behaviour: Behaviour,
    info: TaskInfo,
}

impl Fake {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let info = TaskInfo {
            task: Arc::new(support_task()),
            release: ContentHash::of(b"release"),
            certificates: Arc::new([]),
            certified: true,
        };
        Self { behaviour, info }
    }
}

impl Decider for Fake {
    async fn decide(
        &self,
        request: sizewise_engine::Request,
    ) -> Result<Vec<Decision>, sizewise_engine::Error> {
        let mut decision = match &self.behaviour {
            Behaviour::Answers => support_decision(),
            Behaviour::Escalates => escalated(0),
            Behaviour::Fails => return Err(sizewise_engine::Error::Internal("secret path")),
            Behaviour::Waits { asked, go } => {
                asked.notify_one();
                go.notified().await;
                support_decision()
            }
        };
        if let Some(questions) = &request.questions {
            let all = decision.answers.clone();
            decision.answers = questions.iter().map(|question| all[question.0].clone()).collect();
        }
        let fails =
            |input: &sizewise_engine::InputValue| *input == sizewise_engine::InputValue::Text("fails".into());
        if let Some(position) = request.inputs.iter().position(fails) {
            return Err(sizewise_engine::Error::Input { position, problem: "unreadable".into() });
        }
        Ok(vec![decision; request.inputs.len()])
    }

    fn task(&self, name: &str) -> Result<TaskInfo, sizewise_engine::Error> {
        if name == self.info.task.name {
            return Ok(self.info.clone());
        }
        let meant = did_you_mean(name, [self.info.task.name.as_str()]).map(str::to_owned);
        Err(sizewise_engine::Error::UnknownTask { name: name.to_owned(), meant })
    }

    fn tasks(&self) -> Vec<TaskInfo> {
        vec![self.info.clone()]
    }
}

/// The keys of a test: none, or `right`, which may do everything, and some that may do less.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    None,
    One,
}

impl KeyCheck for Keys {
    fn any(&self) -> bool {
        matches!(self, Self::One)
    }

    fn verify(&self, key: &str) -> Option<Arc<Member>> {
        let none = || Some(Vec::new());
        let rights = match key {
            "right" => Rights { role: Role::Operator, ..Rights::default() },
            "caller" => Rights::default(),
            "monitor" => Rights { role: Role::Monitor, ..Rights::default() },
            "reviewer" => Rights { role: Role::Reviewer, ..Rights::default() },
            "stranger" => Rights { tasks: none(), models: none(), ..Rights::default() },
            _ => return None,
        };
        let holder = Arc::new(Holder { id: format!("key-of-{key}"), rights });
        Some(Arc::new(Member { holder, quotas: Vec::new() }))
    }

    fn by_id(&self, id: &str) -> Option<Arc<Member>> {
        self.verify(id.strip_prefix("key-of-")?)
    }

    fn member(&self, holder: Arc<Holder>) -> Option<Arc<Member>> {
        Some(Arc::new(Member { holder, quotas: Vec::new() }))
    }
}

/// The console of a project with the task of the tests, whose store is empty.
fn console() -> (tempfile::TempDir, Arc<Console>) {
    let folder = tempfile::tempdir().expect("a folder");
    let task = folder.path().join("tasks/support");
    std::fs::create_dir_all(&task).expect("a folder");
    std::fs::write(task.join("task.toml"), TASK).expect("a task");
    let project = Project::find(Some(folder.path())).expect("a project");
    let console = Console::open(&project).expect("a console");
    (folder, Arc::new(console))
}

const TASK: &str = "schema = 1\nname = \"support\"\n[[question]]\nname = \"urgent\"\ntype = \"predicate\"\n";

/// A server that runs until it is dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    _project: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Drained>>,
}

impl Running {
    /// Tells the server to stop, without waiting for it.
    pub(super) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits for the end of a server that was told to stop.
    pub(super) fn end(mut self) -> Drained {
        self.stop();
        self.thread.take().expect("runs once").join().expect("ends in order")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn start(settings: Settings, keys: Keys, behaviour: Behaviour) -> Running {
    let workers = std::num::NonZeroUsize::MIN;
    let (project, console) = console();
    let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), workers, console: Some(console), ..settings };
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, address) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let tell = |address| ready.send(address).expect("somebody waits");
        let shutdown = async {
            let _ = stopped.await;
        };
        run(settings, Arc::new(keys), Arc::new(Fake::new(behaviour)), tell, shutdown).expect("serves")
    });
    Running {
        address: address.recv().expect("ready"),
        _project: project,
        stop: Some(stop),
        thread: Some(thread),
    }
}

/// A reply as it came over the socket.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(super) fn error_code(&self) -> String {
        let error = &self.json()["error"];
        // In Gemini's shape `code` is the status.
        let name = error["code"].as_str().or(error["details"][0]["reason"].as_str());
        name.unwrap_or_default().to_owned()
    }
}

pub(super) fn get(server: &Running, path: &str) -> Reply {
    call(server, "GET", path, "", "")
}

pub(super) fn post(server: &Running, path: &str, body: &str) -> Reply {
    call(server, "POST", path, "content-type: application/json\r\n", body)
}

pub(super) fn call(server: &Running, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    raw(server, request.as_bytes())
}

/// The path of a route of which every name is one that is there, or the one given.
pub(super) fn path_of(route: &routes::Route, name: &str) -> String {
    let asset = if name == "support" { "console.css" } else { name };
    let names = [("{task}", name), ("{model}", name), ("{key}", name), ("{asset}", asset)];
    names.iter().fold(route.path.to_owned(), |path, (hole, name)| path.replace(hole, name))
}

/// The cookie of a session that a key opens.
pub(super) fn session(server: &Running, key: &str) -> String {
    let body = format!("{{\"key\":\"{key}\"}}");
    let reply = post(server, "/console/api/login", &body);
    let cookie = reply.header("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
    format!("cookie: {cookie}\r\n")
}

/// Sends bytes and reads one reply to the end of the connection.
pub(super) fn raw(server: &Running, request: &[u8]) -> Reply {
    let mut stream = connect(server);
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(request);
    read_reply(&mut stream)
}

pub(super) fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("connects");
    // Only so that a broken server fails the test instead of hanging it.
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Reads one reply, up to the length that it names.
pub(super) fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if length.is_some_and(|length| body.len() >= length) {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                return Reply { status, head: head.to_owned(), body: body.to_owned() };
            }
        }
        let read = stream.read(&mut chunk).expect("the server replies");
        assert!(read > 0, "the connection ended after `{text}`");
        bytes.extend_from_slice(&chunk[..read]);
    }
}
