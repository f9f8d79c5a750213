//! Whom do we ask, with which key, and what may it cost?
//!
//! The command line goes before `[teacher]` in `sizewise.toml`. A key is named, never written: `env:NAME` or `file:PATH`.

use crate::{
    cli::Teach,
    error::{Error, Result},
    project::Project,
};
use serde::Deserialize;
use sizewise_contract::{Code, units::MicroUsd};
use sizewise_learn::teach::purse::{Prices, dollars};
use sizewise_models::remote::Chat;
use std::{io::Read, path::Path, time::Duration};

/// Longest file with a key, in bytes.
const KEY_FILE_BYTES: u64 = 8_192;
/// A server that has not answered for so long is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The teacher of a project.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherSettings {
    /// The server: all before `/chat/completions`.
    pub url: Option<String>,
    /// The model, as the server calls it.
    pub model: Option<String>,
    /// Where the key is: `env:NAME` or `file:PATH`, from the project's folder.
    pub key: Option<String>,
    /// Dollars for a million tokens that are read.
    pub price_in: Option<Dollars>,
    /// Dollars for a million tokens that are written.
    pub price_out: Option<Dollars>,
    /// Dollars that a task's teacher may cost in all.
    pub budget: Option<Dollars>,
    /// Calls at the same time.
    pub parallel: Option<usize>,
    /// Most tokens of an answer.
    pub max_tokens: Option<u32>,
}

/// An amount in dollars, written as a number or as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dollars(pub MicroUsd);

impl std::str::FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let help = "an amount is written in dollars with at most six decimals, as 0.15";
        dollars(text).map(Self).ok_or_else(|| help.to_owned())
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Whole(number) => number.to_string(),
            // The shortest form that reads back as the same number: what was written.
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The teacher of one call of the command.
pub(super) struct Resolved {
    pub(super) chat: Chat,
    pub(super) model: String,
    pub(super) prices: Prices,
    pub(super) budget: MicroUsd,
    pub(super) parallel: usize,
    pub(super) max_tokens: Option<u32>,
}

pub(super) fn resolve(project: &Project, arguments: &Teach) -> Result<Resolved> {
    let settings = &project.settings().teacher;
    let missing = |what: &str, hint: &str| Error::Policy {
        message: format!("no {what} is set for the teacher"),
        code: Code::RequestInvalid,
        hint: hint.into(),
    };
    let url = arguments.url.clone().or_else(|| settings.url.clone()).ok_or_else(|| {
        missing("server", "nothing is sent until you say where to: --url https://HOST/v1, or url = \"https://HOST/v1\" under [teacher] in sizewise.toml")
    })?;
    let model = arguments.model.clone().or_else(|| settings.model.clone()).ok_or_else(|| {
        missing("model", "name one with --model, or model = \"NAME\" under [teacher] in sizewise.toml")
    })?;
    let key = match (&arguments.key, &settings.key) {
        (Some(named), _) => Some(key(named, Path::new(""))?),
        (None, Some(named)) => Some(key(named, project.root())?),
        (None, None) => None,
    };
    let amount = |own: Option<Dollars>, set: Option<Dollars>| own.or(set).map(|dollars| dollars.0);
    let (read, written) =
        (amount(arguments.price_in, settings.price_in), amount(arguments.price_out, settings.price_out));
    let budget = amount(arguments.budget, settings.budget);
    let prices = Prices { read: read.unwrap_or_default(), written: written.unwrap_or_default() };
    let chat = Chat::new(&url, key, PATIENCE)?;
    if read.is_some() != written.is_some() {
        return Err(Error::usage(
            "--price-in and --price-out go together: dollars for a million tokens read and written",
        ));
    }
    if budget.is_some() && prices.is_free() {
        return Err(Error::usage(
            "a budget needs prices: --price-in and --price-out, in dollars for a million tokens",
        ));
    }
    if budget.is_none() && !prices.is_free() {
        return Err(Error::usage("say what it may cost at most: --budget 5.00"));
    }
    if prices.is_free() && !chat.is_local() && arguments.labels.is_none() {
        return Err(Error::usage(
            "without prices nobody knows what this costs: give --price-in, --price-out and --budget, or a number of --labels",
        ));
    }
    Ok(Resolved {
        chat,
        model,
        prices,
        budget: budget.unwrap_or(MicroUsd(u64::MAX)),
        parallel: arguments.parallel.or(settings.parallel).unwrap_or(4).clamp(1, 64),
        max_tokens: arguments.max_tokens.or(settings.max_tokens),
    })
}

/// Reads the key that a reference names. No message shows what was found, nor what was written in place of a reference.
fn key(named: &str, base: &Path) -> Result<String> {
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
    use super::*;

    #[test]
    fn settings_are_read_to_the_last_micro_dollar() {
        let read: TeacherSettings =
            toml::from_str("price_in = 0.15\nprice_out = \"0.60\"\nbudget = 5\nurl = \"https://host/v1\"\n")
                .unwrap();
        assert_eq!(read.price_in, Some(Dollars(MicroUsd(150_000))));
        assert_eq!(read.price_out, Some(Dollars(MicroUsd(600_000))));
        assert_eq!(read.budget, Some(Dollars(MicroUsd(5_000_000))));
        assert!(toml::from_str::<TeacherSettings>("budget = -1.0").is_err());
        assert!(toml::from_str::<TeacherSettings>("bugdet = 1").is_err());
    }

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
