//! How is the program driven as a user drives it, and what must every refusal say?

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

/// The task of the shared project.
pub(crate) const TASK: &str = "desk";
/// A text that the shared project takes for `ship`.
pub(crate) const TEXT: &str = "where is my parcel, the courier is late";
/// Words of the three labels.
const WORDS: [(&str, [&str; 6]); 3] = [
    ("bill", ["invoice", "refund", "charge", "payment", "credit", "amount"]),
    ("ship", ["parcel", "courier", "delivery", "tracking", "address", "late"]),
    ("tech", ["crash", "login", "error", "screen", "update", "button"]),
];
/// Words that all labels share.
const FILLER: [&str; 7] = ["please", "help", "with", "today", "again", "about", "your"];

/// How a call of the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The call did what it was asked.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    /// The call was refused with this exit code, in words that name all of `parts`.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, parts: &[&str]) -> Self {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{said}");
        assert!(self.err.contains("error: "), "{said}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {said}");
        }
        self
    }
}

/// A call of the program in a project.
pub(crate) fn command(project: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sizewise"));
    command.env_remove("SIZEWISE_PROJECT").current_dir(project).args(arguments).stdin(Stdio::null());
    command.arg("--project").arg(project);
    command
}

/// Calls the program and waits for its end, which is never a panic or a signal.
#[track_caller]
pub(crate) fn run(project: &Path, arguments: &[&str]) -> Ended {
    let output = command(project, arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    no_panic(&err);
    let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {err}"));
    Ended { code, out, err }
}

#[track_caller]
fn no_panic(err: &str) {
    assert!(!err.contains("panicked at") && !err.contains("stack backtrace"), "{err}");
}

/// Rows whose label is easy to tell, without a header.
pub(crate) fn rows(count: usize) -> Vec<String> {
    let row = |i: usize| {
        let (label, words) = &WORDS[i % 3];
        let word = |step: usize| words[(i / 3 + step) % words.len()];
        let filler = |step: usize| FILLER[(i / 5 + step) % FILLER.len()];
        let text = [word(0), filler(0), word(1 + i % 2), filler(2), word(4), filler(4)].join(" ");
        format!("{text} n{i},{label}\n")
    };
    (0..count).map(row).collect()
}

/// Rows with their header.
pub(crate) fn table(rows: &[String]) -> String {
    format!("text,label\n{}", rows.concat())
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files below a folder, as paths from it.
pub(crate) fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut open) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

/// The largest object of a project's store.
pub(crate) fn largest_object(project: &Path) -> PathBuf {
    let objects = project.join(".sizewise/objects");
    let found = files(&objects).into_iter().map(|path| objects.join(path));
    found.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// A copy of the shared project whose locked rows are closed.
pub(crate) fn trained() -> tempfile::TempDir {
    copy_of("trained")
}

/// A copy of the shared project with its certificate.
pub(crate) fn certified() -> tempfile::TempDir {
    copy_of("certified")
}

fn copy_of(state: &str) -> tempfile::TempDir {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    let folder = tempfile::tempdir().unwrap();
    copy(&SHARED.get_or_init(make).join(state), folder.path());
    folder
}

/// Makes the project once a run, and takes away what runs of other hours left.
fn make() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(place).unwrap().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with("bad-input-");
        let old = entry.metadata().and_then(|facts| facts.modified()).unwrap_or(SystemTime::now());
        if ours && old.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = place.join(format!("bad-input-{}", std::process::id()));
    let project = folder.join("certified");
    fs::create_dir_all(&project).unwrap();
    fs::write(folder.join("rows.csv"), table(&rows(300))).unwrap();
    run(&project, &["init", TASK, "--from", "../rows.csv", "--max-served-error", "0.2"]).done();
    run(&project, &["train", TASK]).done();
    copy(&project, &folder.join("trained"));
    run(&project, &["certify", TASK]).done();
    folder
}

/// A server; it ends with the value.
pub(crate) struct Server {
    child: Child,
    said: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(project: &Path) -> Self {
        let mut serve = command(project, &["serve", "--bind", "127.0.0.1:0"]);
        let mut child = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the server ended");
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split([',', ' ']).next().unwrap().parse().unwrap();
            }
        };
        Self { child, said, address }
    }

    /// Sends a request with a body and gives status and reply.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, serde_json::Value) {
        self.send(method, path, &format!("Content-Length: {}\r\n", body.len()), body)
    }

    /// Sends a request with headers of its own and gives status and reply.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = String::from_utf8(reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Ends the server, which has not panicked.
    pub(crate) fn end(mut self) {
        self.child.kill().unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        no_panic(&said);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
