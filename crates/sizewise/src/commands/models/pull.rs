//! `sizewise models pull`: how does a model come into the project?
//!
//! From a folder, an archive or a hub, always the same way: only the files that an encoder needs, and what says who made
//! it, are read; their number and size are bounded together; and a model that this build cannot run is refused before
//! anything of it is kept.

use super::shelf::assembled;
use crate::{
    cli::Pull,
    clock,
    commands::{DONE, trained::store},
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use flate2::read::GzDecoder;
use serde::Serialize;
use sizewise_contract::{Code, ContentHash, limits};
use sizewise_models::{
    builtin,
    encoder::Encoder,
    remote::{Hub, HubFile},
};
use sizewise_store::Model;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Most files that are taken of one source.
const MOST_FILES: usize = 200;
/// Most entries of an archive that are looked at.
const MOST_ENTRIES: usize = 100_000;
/// Most bytes that are unpacked of an archive, wanted or not.
const MOST_UNPACKED: u64 = 4 * limits::MODEL_FILE_BYTES;
/// Lines of a model card that are searched for its licence.
const CARD_LINES: usize = 60;

/// Where a model comes from.
enum Source {
    Folder(PathBuf),
    Archive(PathBuf),
    /// A repository and a revision.
    Hub(String, String),
}

#[derive(Serialize)]
struct Pulled<'a> {
    model: &'a Model,
    dimensions: usize,
    bytes: u64,
}

pub(super) fn run(project: &Project, arguments: &Pull, screen: &Screen) -> Result<u8> {
    let source = Source::of(&arguments.source)?;
    let name = arguments.name.clone().unwrap_or_else(|| source.name());
    check_name(&name)?;
    let store = store(project)?;
    if store.model(&name)?.is_some() && !arguments.force {
        return Err(Error::Policy {
            message: format!("there is a model `{name}` already"),
            code: Code::FileSystem,
            hint: "give this one another --name, or replace that one with --force".into(),
        });
    }
    let (gathered, revision, licence) = match &source {
        Source::Folder(folder) => (from_folder(folder)?, None, None),
        Source::Archive(path) => (from_archive(path)?, None, None),
        Source::Hub(repository, revision) => from_hub(project, (repository, revision), arguments, screen)?,
    };
    let Gathered { files, .. } = gathered;
    if files.is_empty() {
        return Err(Error::Policy {
            message: format!("{} holds none of an encoder's files", arguments.source),
            code: Code::ModelUnsupported,
            hint: "an encoder is config.json, tokenizer.json and *.safetensors".into(),
        });
    }
    let encoder = assembled(&name, files.keys().map(String::as_str), |path| Ok(files.get(path).cloned()))?;
    let encoder = Encoder::from_files(&encoder.as_ref())?;
    let own = |name: &str| files.get(name).map(Vec::as_slice);
    let licence = licence.map(|stated| printable(&stated));
    let licence = licence.or_else(|| licence_of_files(own("README.md"), own("NOTICE")));
    let kept = files.iter().map(|(path, bytes)| Ok(store.keep_file(path, bytes)?));
    let files = kept.collect::<Result<Vec<_>>>()?;
    let model = Model { name, source: source.told(), revision, licence, at: clock::now(), files };
    store.add_model(&model)?;
    let pulled = Pulled { dimensions: encoder.dimensions(), bytes: model.bytes(), model: &model };
    screen.result("models pull", &pulled, || {
        format!(
            "{}: {} files, {:.1} MB, from {}\n  licence: {}\n  next: sizewise train TASK --encoder {}\n",
            model.name,
            model.files.len(),
            pulled.bytes as f64 / 1e6,
            model.source,
            model.licence.as_deref().unwrap_or("none stated; ask whoever made it"),
            model.name
        )
    });
    Ok(DONE)
}

impl Source {
    fn of(written: &str) -> Result<Self> {
        let path = Path::new(written);
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if path.is_file() {
            return Ok(Self::Archive(path.to_owned()));
        }
        let (repository, revision) = written.split_once('@').unwrap_or((written, "main"));
        let looks_like_path = written.starts_with(['.', '/', '~']) || repository.matches('/').count() != 1;
        if looks_like_path {
            return Err(Error::file(path, std::io::Error::from(std::io::ErrorKind::NotFound)));
        }
        Ok(Self::Hub(repository.to_owned(), revision.to_owned()))
    }

    /// A name for the model, when the user gives none.
    fn name(&self) -> String {
        let last = match self {
            Self::Folder(path) => {
                path.canonicalize().unwrap_or_else(|_| path.clone()).file_name().map(ToOwned::to_owned)
            }
            Self::Archive(path) => path.file_name().map(ToOwned::to_owned),
            Self::Hub(repository, _) => repository.split('/').next_back().map(Into::into),
        };
        let last = last.map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let last = [".tar.gz", ".tgz", ".tar"].iter().find_map(|end| last.strip_suffix(end)).unwrap_or(&last);
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
    }

    fn told(&self) -> String {
        match self {
            Self::Folder(path) | Self::Archive(path) => path.display().to_string(),
            Self::Hub(repository, _) => repository.clone(),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    match !name.is_empty()
        && name.len() <= limits::NAME_BYTES
        && !name.starts_with('.')
        && name.chars().all(fits)
    {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "`{name}` cannot name a model; choose --name of a-z, 0-9, -, _ and ., as in e5-small"
        ))),
    }
}

/// Whether a part of a path is an ordinary, visible name.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether a file of a source is kept: what an encoder is made of, and what says whose it is.
fn is_wanted(path: &str) -> bool {
    if !path.split('/').all(is_plain) {
        return false;
    }
    let known = [
        "config.json",
        "tokenizer.json",
        "config_sentence_transformers.json",
        "modules.json",
        "1_Pooling/config.json",
        "README.md",
    ];
    let upper = path.to_ascii_uppercase();
    known.contains(&path)
        || (!path.contains('/') && path.ends_with(".safetensors"))
        || (!path.contains('/') && (upper.starts_with("LICENSE") || upper.starts_with("NOTICE")))
}

/// The files of a source, by path, and the room that is left for more.
struct Gathered {
    files: BTreeMap<String, Vec<u8>>,
    room: u64,
}

impl Gathered {
    fn new() -> Self {
        Self { files: BTreeMap::new(), room: limits::MODEL_FILE_BYTES }
    }

    /// Reads one more file, as long as there is room.
    fn add(&mut self, path: &str, reader: impl Read) -> Result<()> {
        let mut bytes = Vec::new();
        let failed = |cause| Error::file(Path::new(path), cause);
        reader.take(self.room + 1).read_to_end(&mut bytes).map_err(failed)?;
        let left = self.room.checked_sub(bytes.len() as u64);
        let (Some(left), true) = (left, self.files.len() < MOST_FILES) else {
            return Err(Error::usage(format!(
                "the model is larger than {MOST_FILES} files and {} bytes together",
                limits::MODEL_FILE_BYTES
            )));
        };
        self.room = left;
        match self.files.insert(path.to_owned(), bytes) {
            None => Ok(()),
            Some(_) => Err(Error::usage(format!("{path} is there twice"))),
        }
    }
}

fn from_folder(folder: &Path) -> Result<Gathered> {
    let mut gathered = Gathered::new();
    for (prefix, folder) in [("", folder.to_owned()), ("1_Pooling/", folder.join("1_Pooling"))] {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|cause| Error::file(&folder, cause))?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            if entry.path().is_file() && is_wanted(&path) {
                let file = File::open(entry.path()).map_err(|cause| Error::file(&entry.path(), cause))?;
                gathered.add(&path, file)?;
            }
        }
    }
    Ok(gathered)
}

fn from_archive(path: &Path) -> Result<Gathered> {
    let file = File::open(path).map_err(|cause| Error::file(path, cause))?;
    let name = path.to_string_lossy().to_lowercase();
    let reader: Box<dyn Read> = match name {
        name if name.ends_with(".tar") => Box::new(file),
        name if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Box::new(GzDecoder::new(file)),
        _ => {
            return Err(Error::usage(format!(
                "{} is neither a folder nor a .tar, .tar.gz or .tgz archive",
                path.display()
            )));
        }
    };
    let failed = |cause| Error::file(path, cause);
    // What is not wanted must be unpacked too to be passed over: a small archive may hold an endless one.
    let mut archive = tar::Archive::new(reader.take(MOST_UNPACKED));
    let mut gathered = Gathered::new();
    // The folder that all files lie in, where there is one.
    let mut root: Option<String> = None;
    for (number, entry) in archive.entries().map_err(failed)?.enumerate() {
        if number > MOST_ENTRIES {
            return Err(Error::usage(format!("{} has more than {MOST_ENTRIES} entries", path.display())));
        }
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let written = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        let written = written.strip_prefix("./").unwrap_or(&written);
        let inner = match written.split_once('/') {
            Some((folder, inner))
                if is_plain(folder)
                    && !is_wanted(written)
                    && root.as_ref().is_none_or(|root| root == folder) =>
            {
                root = Some(folder.to_owned());
                inner
            }
            _ => written,
        };
        if is_wanted(inner) {
            gathered.add(inner, entry)?;
        }
    }
    Ok(gathered)
}

fn from_hub(
    project: &Project,
    (repository, revision): (&str, &str),
    arguments: &Pull,
    screen: &Screen,
) -> Result<(Gathered, Option<String>, Option<String>)> {
    let base = arguments.hub.clone().or_else(|| project.settings().models.hub.clone()).ok_or_else(|| Error::Policy {
        message: format!("`{repository}` is no folder or archive here, and no hub is set"),
        code: Code::SourceUnavailable,
        hint: "nothing is fetched from outside until you say where from: --hub https://HOST, HF_ENDPOINT, or hub = \"https://HOST\" under [models] in sizewise.toml".into(),
    })?;
    let hub = Hub::new(&base, std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()))?;
    let found = hub.find(repository, revision)?;
    if !screen.is_json() {
        let licence = printable(found.licence.as_deref().unwrap_or("none stated"));
        screen.remark(&format!("{repository} at {}: licence {licence}", shortened(&found.revision)));
    }
    let wanted: Vec<&HubFile> = found.files.iter().filter(|file| is_wanted(&file.path)).collect();
    let bytes = wanted.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    if wanted.len() > MOST_FILES || bytes > limits::MODEL_FILE_BYTES {
        return Err(Error::usage(format!(
            "{repository} has {} files of {bytes} bytes; at most {MOST_FILES} of {} bytes are fetched",
            wanted.len(),
            limits::MODEL_FILE_BYTES
        )));
    }
    let (progress, stop) = (screen.progress(), screen.stop());
    let downloads = project.store_folder().join("downloads");
    std::fs::create_dir_all(&downloads).map_err(|cause| Error::file(&downloads, cause))?;
    let (mut gathered, mut parts) = (Gathered::new(), Vec::new());
    for file in wanted {
        // One part file for one file of one version, so that nothing is ever continued with other bytes.
        let key = ContentHash::of(format!("{base} {repository} {} {}", found.revision, file.path).as_bytes());
        let part = downloads.join(key.to_string());
        let total = (file.bytes / 1_000).max(1) as usize;
        let heard = |bytes: u64| progress.at(&format!("{} (kB)", file.path), (bytes / 1_000) as usize, total);
        hub.fetch((repository, &found.revision), file, &part, (&heard, &stop))?;
        gathered.add(&file.path, File::open(&part).map_err(|cause| Error::file(&part, cause))?)?;
        parts.push(part);
    }
    progress.end();
    for part in parts {
        std::fs::remove_file(&part).map_err(|cause| Error::file(&part, cause))?;
    }
    Ok((gathered, Some(found.revision), found.licence))
}

fn shortened(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

/// The licence that a model's card or its NOTICE names.
pub(in crate::commands) fn licence_of_files(card: Option<&[u8]>, notice: Option<&[u8]>) -> Option<String> {
    let of_notice = || Some(builtin::licence_in(std::str::from_utf8(notice?).ok()?)?.to_owned());
    card.and_then(licence_of).or_else(of_notice).map(|stated| printable(&stated))
}

/// The licence that a model card states in its first lines, as `license: NAME`.
fn licence_of(card: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(card);
    let stated = text.lines().take(CARD_LINES).find_map(|line| line.strip_prefix("license:"));
    stated.map(|licence| licence.trim().to_owned())
}

/// What a stranger wrote, short and without what would steer a terminal.
fn printable(written: &str) -> String {
    written.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_room_for_one_model() {
        let mut gathered = Gathered { room: 10, ..Gathered::new() };
        gathered.add("a", &[0u8; 6][..]).unwrap();
        assert!(gathered.add("a", &[][..]).is_err(), "twice");
        assert!(gathered.add("b", &[0u8; 5][..]).is_err(), "five bytes into a room of four");
        let mut gathered = Gathered::new();
        (0..MOST_FILES).for_each(|i| gathered.add(&i.to_string(), &[][..]).unwrap());
        assert!(gathered.add("one more", &[][..]).is_err());
        assert_eq!(printable("mit\u{1b}[2J"), "mit[2J");
    }

    #[test]
    fn a_licence_stands_in_the_card_or_else_in_the_notice() {
        let card = b"---\nlicense: mit\n---\n".as_slice();
        let notice = b"Derived from `x`.\nLicence of the original: apache-2.0.\n".as_slice();
        assert_eq!(licence_of_files(Some(card), Some(notice)).as_deref(), Some("mit"));
        assert_eq!(licence_of_files(Some(b"no word"), Some(notice)).as_deref(), Some("apache-2.0"));
        assert_eq!(licence_of_files(None, Some(b"\xff")), None);
    }

    #[test]
    fn only_an_encoders_files_are_wanted() {
        for path in [
            "config.json",
            "model-00001-of-00002.safetensors",
            "1_Pooling/config.json",
            "LICENSE.txt",
            "NOTICE",
        ] {
            assert!(is_wanted(path), "{path}");
        }
        for path in [
            "pytorch_model.bin",
            "onnx/model.safetensors",
            "../config.json",
            "a/../config.json",
            ".config.json",
            "/config.json",
            "x y.safetensors",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }
}
