//! Where is a secret that the settings name?
//!
//! A secret is named, never written: `env:NAME` or `file:PATH`.

use crate::error::{Error, Result};
use sizewise_contract::Code;
use std::{io::Read, path::Path};

/// Longest file with a key, in bytes.
const KEY_FILE_BYTES: u64 = 8_192;

/// Reads the key that a reference names. No message shows what was found, nor what was written in place of a reference.
pub(crate) fn key(named: &str, base: &Path) -> Result<String> {
    let none = |problem: String, hint: &str| Error::Policy {
        message: problem,
        code: Code::KeyMissing,
        hint: hint.into(),
    };
    let found = if let Some(name) = named.strip_prefix("env:") {
        std::env::var(name).map_err(|_| {
            none(format!("the environment has no {name}"), "set it, or name another place: --key file:PATH")
        })?
    } else if let Some(path) = named.strip_prefix("file:") {
        let path = base.join(path);
        let mut text = String::new();
        let file = std::fs::File::open(&path).map_err(|cause| Error::file(&path, cause))?;
        file.take(KEY_FILE_BYTES).read_to_string(&mut text).map_err(|cause| Error::file(&path, cause))?;
        text
    } else {
        return Err(Error::usage(
            "a key is named, never written: --key env:NAME or --key file:PATH (a key that was typed is in the shell's history now)",
        ));
    };
    match found.trim() {
        "" => Err(none(
            format!("{named} is empty"),
            "put the key there, or leave --key out where none is needed",
        )),
        key => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn a_key_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cret\n").unwrap();
        assert_eq!(key("file:key", folder.path()).unwrap(), "s3cret");
        for written in ["s3cret", "env:SIZEWISE_NO_SUCH_KEY", "file:none"] {
            let error = key(written, folder.path()).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
