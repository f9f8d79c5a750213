//! `sizewise redact`: what of a text would leave, and how does what comes back get its names again?

use super::DONE;
use crate::{
    cli::Redact,
    error::{Error, Result},
    screen::Screen,
};
use serde::Serialize;
use sizewise_engine::{FoundBy, Redacted, find_personal_data, redacted};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{Read, Write},
    path::Path,
};

/// Largest text. `bytes`
const MOST: u64 = 16 << 20;

#[derive(Serialize)]
struct RedactResult {
    text: String,
    /// How often each kind was found, by rules and by the tagger.
    found: BTreeMap<&'static str, Counts>,
}

#[derive(Default, Serialize)]
struct Counts {
    by_rules: usize,
    by_tagger: usize,
}

pub(super) fn run(arguments: &Redact, screen: &Screen) -> Result<u8> {
    let text = read(&arguments.file)?;
    let result = match (&arguments.map, arguments.restore) {
        (Some(map), true) => restored(text, map)?,
        (map, _) => taken_out(&text, map.as_deref())?,
    };
    screen.result("redact", &result, || result.text.clone());
    let told: Vec<String> = result
        .found
        .iter()
        .map(|(kind, counts)| format!("{} {kind}", counts.by_rules + counts.by_tagger))
        .collect();
    if !told.is_empty() && !screen.is_json() {
        screen.remark(&format!("taken out: {}", told.join(", ")));
    }
    Ok(DONE)
}

fn taken_out(text: &str, map: Option<&Path>) -> Result<RedactResult> {
    let cannot = || sizewise_engine::Error::Internal("texts can be searched for personal data");
    let mut found: BTreeMap<&'static str, Counts> = BTreeMap::new();
    for finding in find_personal_data(text).ok_or_else(cannot)? {
        let counts = found.entry(finding.kind.name()).or_default();
        match finding.by {
            FoundBy::Rule => counts.by_rules += 1,
            FoundBy::Tagger => counts.by_tagger += 1,
        }
    }
    let redacted = redacted(text).ok_or_else(cannot)?;
    if let Some(map) = map {
        keep(map, redacted.values())?;
    }
    Ok(RedactResult { text: redacted.into_text(), found })
}

/// Writes what was taken out where nobody else may read it, and never over something that is there.
fn keep(map: &Path, values: &BTreeMap<String, String>) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let json = serde_json::to_vec_pretty(values)
        .map_err(|_| sizewise_engine::Error::Internal("texts have a JSON form"))?;
    let written = options.open(map).and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()));
    written.map_err(|cause| Error::file(map, cause))
}

fn restored(text: String, map: &Path) -> Result<RedactResult> {
    let bytes = read_file(map)?;
    let values: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::usage(format!("{} is no map of `redact`: {error}", map.display())))?;
    let whole = Redacted::from_parts(text, values);
    Ok(RedactResult { text: whole.restore(whole.text()), found: BTreeMap::new() })
}

fn read(file: &Path) -> Result<String> {
    let bytes = match file == Path::new("-") {
        true => bounded(std::io::stdin(), Path::new("standard input"))?,
        false => read_file(file)?,
    };
    String::from_utf8(bytes)
        .map_err(|error| Error::usage(format!("what is read is not text in UTF-8: {error}")))
}

fn read_file(file: &Path) -> Result<Vec<u8>> {
    let opened = std::fs::File::open(file).map_err(|cause| Error::file(file, cause))?;
    bounded(opened, file)
}

fn bounded(source: impl Read, name: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST + 1).read_to_end(&mut bytes).map_err(|cause| Error::file(name, cause))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::usage(format!("{} is longer than {} MiB: split it", name.display(), MOST >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn what_is_taken_out_comes_back_with_its_map_and_only_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("map.json");
        let text = "Please call Maria Schmidt on +49 30 901820 or write to maria.schmidt@example.org.\n";
        let result = taken_out(text, Some(&map)).unwrap();
        assert!(!result.text.contains("maria") && !result.text.contains("901820"), "{}", result.text);
        assert!(result.found.contains_key("EMAIL_ADDRESS"));
        let answer = format!("We will answer: {}", result.text);
        assert_eq!(restored(answer, &map).unwrap().text, format!("We will answer: {text}"));
        assert!(taken_out(text, Some(&map)).is_err(), "a map that is there is not written over");
        #[cfg(unix)]
        {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&map).unwrap().permissions());
            assert_eq!(mode & 0o077, 0);
        }
    }
}
