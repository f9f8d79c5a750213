//! How are model files fetched from a hub, so that a stop loses nothing and nothing false is kept?
//!
//! Any server with the two paths of the Hugging Face Hub will do: `GET /api/models/{repository}/revision/{revision}?blobs=true`
//! lists the files of a version, `GET /{repository}/resolve/{revision}/{file}` gives one. A file goes to a part file, which a
//! later call continues with a range request, and counts only when size and, where the list has it, SHA-256 are right.

use crate::error::{Error, Result};
use serde::Deserialize;
use sizewise_contract::{ContentHash, limits};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Largest list of files that is read.
const LIST_BYTES: u64 = 8 << 20;
/// Most files of a repository that are looked at.
const LISTED_FILES: usize = 100_000;
/// A server that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are written between two looks at the stop flag.
const CHUNK: usize = 1 << 20;

/// A server with models.
#[derive(Debug)]
pub struct Hub {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// A version of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// The exact version: what the name of a branch stood for.
    pub revision: String,
    /// The licence that the repository states.
    pub licence: Option<String>,
    /// All its files.
    pub files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Its path, with `/` between the parts.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The hash of its bytes, which hubs state for large files.
    pub hash: Option<ContentHash>,
}

#[derive(Deserialize)]
struct ListJson {
    sha: String,
    #[serde(default)]
    siblings: Vec<SiblingJson>,
    #[serde(rename = "cardData", default)]
    card: Option<CardJson>,
}

#[derive(Deserialize)]
struct SiblingJson {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LfsJson>,
}

#[derive(Deserialize)]
struct LfsJson {
    sha256: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct CardJson {
    license: Option<serde_json::Value>,
}

impl Hub {
    /// A hub by the beginning of its addresses. `token` is sent to it, and to no other host that it points to.
    ///
    /// # Errors
    /// Fails when the address is neither `https://…` nor `http://…`.
    pub fn new(base: &str, token: Option<String>) -> Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("https://") && !base.starts_with("http://") {
            return Err(Error::Remote {
                address: base,
                problem: "it begins with neither https:// nor http://".into(),
            });
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("sizewise/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { base, token, agent })
    }

    /// What a revision (a branch, a tag or a commit) of a repository holds.
    ///
    /// # Errors
    /// Fails when the repository has no name of the form `owner/name`, is not there, or the server does not answer as a hub.
    pub fn find(&self, repository: &str, revision: &str) -> Result<HubModel> {
        let fits = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let named = repository.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name));
        let versioned = revision.split('/').all(fits);
        if !named || !versioned {
            return Err(Error::Remote {
                address: format!("{repository}@{revision}"),
                problem: "a repository is named owner/name, or owner/name@revision".into(),
            });
        }
        let address = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", self.base);
        let mut reply = self.get(&address, 0)?;
        let bytes = reply
            .body_mut()
            .with_config()
            .limit(LIST_BYTES)
            .read_to_vec()
            .map_err(|error| remote(&address, error))?;
        let list: ListJson = serde_json::from_slice(&bytes)
            .map_err(|error| remote(&address, format!("the reply is no list of files: {error}")))?;
        if list.siblings.len() > LISTED_FILES || !fits(&list.sha) {
            return Err(remote(&address, "the reply is no list of files"));
        }
        let files = list.siblings.into_iter().map(|file| {
            let lfs = file.lfs.as_ref();
            HubFile {
                bytes: lfs.and_then(|lfs| lfs.size).or(file.size).unwrap_or(0),
                hash: lfs.and_then(|lfs| ContentHash::parse(lfs.sha256.as_deref()?)),
                path: file.rfilename,
            }
        });
        let licence = list.card.and_then(|card| card.license).map(|licence| match licence {
            serde_json::Value::String(name) => name,
            other => other.to_string(),
        });
        Ok(HubModel { revision: list.sha, licence, files: files.collect() })
    }

    /// Fetches a file into `part`, going on where an earlier call stopped, and checks it. `progress` hears the bytes that
    /// are there.
    ///
    /// # Errors
    /// Fails when the file is larger than a model's may be, when the server or the disk fails (what came is kept), when
    /// `stop` is set, and when size or hash are not those of the list (what came is then thrown away).
    pub fn fetch(
        &self,
        (repository, revision): (&str, &str),
        file: &HubFile,
        part: &Path,
        (progress, stop): (&dyn Fn(u64), &AtomicBool),
    ) -> Result<()> {
        let address = format!("{}/{repository}/resolve/{revision}/{}", self.base, file.path);
        if file.bytes > limits::MODEL_FILE_BYTES {
            let problem = format!("{} bytes; at most {} are read", file.bytes, limits::MODEL_FILE_BYTES);
            return Err(Error::File { file: file.path.clone(), problem });
        }
        let disk = |cause| Error::FileSystem { path: part.to_owned(), cause };
        let mut target =
            File::options().create(true).truncate(false).read(true).write(true).open(part).map_err(disk)?;
        let mut have = target.metadata().map_err(disk)?.len();
        if have > file.bytes {
            target.set_len(0).map_err(disk)?;
            have = 0;
        }
        if have < file.bytes {
            let mut reply = self.get(&address, have)?;
            if reply.status().as_u16() != 206 {
                // The server sends all of it again.
                target.set_len(0).map_err(disk)?;
                have = 0;
            }
            target.seek(SeekFrom::Start(have)).map_err(disk)?;
            let mut body = reply.body_mut().with_config().limit(u64::MAX).reader();
            let mut chunk = vec![0; CHUNK];
            while have < file.bytes {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                let read = body.read(&mut chunk).map_err(|error| remote(&address, error))?;
                let room = usize::try_from(file.bytes - have).unwrap_or(usize::MAX);
                match chunk.get(..read.min(room)) {
                    Some(bytes) if read > 0 => target.write_all(bytes).map_err(disk)?,
                    _ => {
                        return Err(remote(
                            &address,
                            format!("it ended after {have} of {} bytes", file.bytes),
                        ));
                    }
                }
                have += read.min(room) as u64;
                progress(have);
            }
            target.sync_all().map_err(disk)?;
        }
        let Some(expected) = file.hash else { return Ok(()) };
        target.rewind().map_err(disk)?;
        let (mut builder, mut chunk) = (ContentHash::builder(), vec![0; CHUNK]);
        loop {
            let read = target.read(&mut chunk).map_err(disk)?;
            if read == 0 {
                break;
            }
            builder.update(chunk.get(..read).unwrap_or_default());
        }
        if builder.finish() == expected {
            return Ok(());
        }
        target.set_len(0).map_err(disk)?;
        Err(remote(&address, "its bytes do not have the hash that the hub states; they were thrown away"))
    }

    /// Asks for the bytes from `first` on.
    fn get(&self, address: &str, first: u64) -> Result<ureq::http::Response<ureq::Body>> {
        let mut request = self.agent.get(address);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if first > 0 {
            request = request.header("range", format!("bytes={first}-"));
        }
        let reply = request.call().map_err(|error| remote(address, error))?;
        match reply.status().as_u16() {
            200 | 206 => Ok(reply),
            401 | 403 => {
                Err(remote(address, "it needs a token, or another one (HF_TOKEN), or its terms accepted"))
            }
            404 => Err(remote(address, "it is not there")),
            status => Err(remote(address, format!("the server answered with status {status}"))),
        }
    }
}

fn remote(address: &str, problem: impl std::fmt::Display) -> Error {
    Error::Remote { address: address.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use std::{
        io::{BufRead, BufReader},
        net::{TcpListener, TcpStream},
        sync::{Arc, Mutex},
    };

    const WEIGHTS: &[u8] = b"0123456789abcdefghij";

    /// What the test's hub does wrong.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// The first reply with weights ends in the middle.
        Cut,
        /// The weights are other ones than the list says.
        Other,
        /// Ranges are not understood.
        NoRanges,
    }

    /// A hub with one repository, and the heads of the requests that it got.
    fn hub(fault: Fault) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            let mut cut = fault == Fault::Cut;
            for stream in listener.incoming() {
                answer(stream.unwrap(), &kept, fault, &mut cut);
            }
        });
        (address, heads)
    }

    fn answer(mut stream: TcpStream, heads: &Mutex<Vec<String>>, fault: Fault, cut: &mut bool) {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while reader.read_line(&mut head).unwrap() > 2 {}
        let first: usize = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned))
            .and_then(|range| range.trim_end_matches('-').parse().ok())
            .unwrap_or(0);
        heads.lock().unwrap().push(head.clone());
        let hash = ContentHash::of(WEIGHTS);
        let list = format!(
            r#"{{"sha":"abc123","cardData":{{"license":"apache-2.0"}},"siblings":[{{"rfilename":"config.json","size":2}},
            {{"rfilename":"model.safetensors","size":20,"lfs":{{"sha256":"{hash}","size":20}}}}]}}"#
        );
        let other = [b'x'; 20];
        let (status, body, length): (&str, &[u8], usize) = match head.split(' ').nth(1).unwrap() {
            "/api/models/us/small/revision/main?blobs=true" => ("200 OK", list.as_bytes(), list.len()),
            "/us/small/resolve/abc123/model.safetensors" => match fault {
                Fault::Other => ("200 OK", &other, 20),
                Fault::NoRanges => ("200 OK", WEIGHTS, 20),
                _ if first > 0 => ("206 Partial Content", &WEIGHTS[first..], 20 - first),
                _ if std::mem::take(cut) => ("200 OK", &WEIGHTS[..7], 20),
                _ => ("200 OK", WEIGHTS, 20),
            },
            _ => ("404 Not Found", b"", 0),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    }

    fn fetch(fault: Fault, have: &[u8]) -> (Result<()>, Vec<u8>, Vec<String>) {
        let (address, heads) = hub(fault);
        let hub = Hub::new(&address, Some("secret".into())).unwrap();
        let model = hub.find("us/small", "main").unwrap();
        assert_eq!((model.revision.as_str(), model.licence.as_deref()), ("abc123", Some("apache-2.0")));
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("part");
        std::fs::write(&part, have).unwrap();
        let stop = AtomicBool::new(false);
        let call = || hub.fetch(("us/small", "abc123"), &model.files[1], &part, (&|_| {}, &stop));
        let outcome = match call() {
            Err(_) if fault == Fault::Cut => call(),
            outcome => outcome,
        };
        let heads = heads.lock().unwrap().clone();
        (outcome, std::fs::read(&part).unwrap(), heads)
    }

    #[test]
    fn a_file_is_fetched_whole() {
        let (outcome, bytes, heads) = fetch(Fault::None, b"");
        outcome.unwrap();
        assert_eq!(bytes, WEIGHTS);
        assert!(
            heads.iter().all(|head| head.to_lowercase().contains("authorization: bearer secret")),
            "{heads:?}"
        );
    }

    #[test]
    fn a_file_that_was_cut_is_continued() {
        let (outcome, bytes, heads) = fetch(Fault::Cut, b"");
        outcome.unwrap();
        assert_eq!(bytes, WEIGHTS);
        assert!(heads.last().unwrap().to_lowercase().contains("range: bytes=7-"), "{heads:?}");
        let (outcome, bytes, _) = fetch(Fault::NoRanges, &WEIGHTS[..5]);
        outcome.unwrap();
        assert_eq!(bytes, WEIGHTS, "a server without ranges sends all of it again");
    }

    #[test]
    fn bytes_of_another_hash_are_not_kept() {
        for have in [&b""[..], b"0123", b"other bytes altogether", &[b'y'; 20]] {
            let (outcome, bytes, _) = fetch(Fault::Other, have);
            assert!(outcome.unwrap_err().to_string().contains("hash"));
            assert_eq!(bytes, b"");
        }
    }

    #[test]
    fn names_that_are_no_repository_are_refused() {
        let hub = Hub::new("http://127.0.0.1:1", None).unwrap();
        for (repository, revision) in [
            ("small", "main"),
            ("../us/small", "main"),
            ("us/sm?all", "main"),
            ("us/small", "../x"),
            ("us/..", "main"),
        ] {
            let error = hub.find(repository, revision).unwrap_err().to_string();
            assert!(error.contains("owner/name"), "{error}");
        }
        assert!(Hub::new("ftp://hub", None).is_err());
        let (address, _) = self::hub(Fault::None);
        let error = Hub::new(&address, None).unwrap().find("us/other", "main").unwrap_err();
        assert!(error.to_string().contains("it is not there"), "{error}");
    }
}
