//! How is the real program run, so that every byte that it writes can be read afterwards?

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// The settings of a run: a project, and where everything that is said goes.
pub(crate) struct Place {
    /// Everything that the program may write into: the project, its temporary files, what it says.
    pub(crate) root: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    /// A copy of a trained project.
    pub(crate) fn new(trained: &Path, environment: Vec<(&'static str, String)>) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["tmp", "home", "said"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        copy(trained, &root.path().join("project"));
        Self { root, environment }
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    fn command(&self, arguments: &[&str], said: &str) -> Command {
        let said = |name: &str| {
            let path = self.root.path().join("said").join(format!("{said}.{name}"));
            File::options().create(true).append(true).open(path).unwrap()
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_sizewise"));
        command
            .args(arguments)
            .current_dir(self.project())
            .env_remove("SIZEWISE_PROJECT")
            .env("TMPDIR", self.root.path().join("tmp"))
            .env("HOME", self.root.path().join("home"))
            .envs(self.environment.iter().cloned())
            .stdout(said("out"))
            .stderr(said("err"));
        command
    }

    /// Runs a command to its end; what it says is kept among what was said.
    pub(crate) fn run(&self, arguments: &[&str], code: i32) {
        let status = self.command(arguments, "commands").status().unwrap();
        let said = fs::read_to_string(self.root.path().join("said/commands.err")).unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?} {said}");
    }

    /// Runs a command whose answer is not for the log, and returns it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output =
            self.command(arguments, "commands").stdout(std::process::Stdio::piped()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn serve(&self, flags: &[&str]) -> Server {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = free.to_string();
        let arguments = [&["serve", "--access-log", "--bind", &address][..], flags].concat();
        let mut child = self.command(&arguments, "server").spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Server { child, address }
    }
}

/// `sizewise serve`.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Sends a request, head and body as they are, and returns the status and every byte of the reply.
    pub(crate) fn send(&self, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let rest = format!("host: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        // A server that has heard enough hangs up.
        let _ = stream.write_all(body);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let status = reply.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        (status.unwrap_or(0), reply)
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        assert!(
            Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap().success()
        );
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends the server at once, whatever it is doing.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
