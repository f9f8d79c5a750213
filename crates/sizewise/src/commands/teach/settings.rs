//! Whom do we ask, with which key, and what may it cost?
//!
//! The command line goes before `[teacher]` in `sizewise.toml`. A key is named, never written: `env:NAME` or `file:PATH`.

use crate::{
    cli::TeacherCall,
    error::{Error, Result},
    prices,
    project::Project,
    secrets,
};
use serde::Deserialize;
use sizewise_contract::{
    Code,
    units::{Dollars, MicroUsd, Prices},
};
use sizewise_models::remote::Chat;
use std::{path::Path, time::Duration};

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

/// The teacher of one call of the command.
pub(in crate::commands) struct Resolved {
    pub(in crate::commands) chat: Chat,
    pub(in crate::commands) model: String,
    pub(in crate::commands) prices: Prices,
    pub(in crate::commands) budget: MicroUsd,
    pub(in crate::commands) parallel: usize,
    pub(in crate::commands) max_tokens: Option<u32>,
}

/// Finds them; `bounded` says that the number of calls has a bound of its own.
pub(in crate::commands) fn resolve(
    project: &Project,
    arguments: &TeacherCall,
    bounded: bool,
) -> Result<Resolved> {
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
        (Some(named), _) => Some(secrets::key(named, Path::new(""))?),
        (None, Some(named)) => Some(secrets::key(named, project.root())?),
        (None, None) => None,
    };
    let amount = |own: Option<Dollars>, set: Option<Dollars>| own.or(set).map(|dollars| dollars.0);
    let (mut read, mut written) =
        (amount(arguments.price_in, settings.price_in), amount(arguments.price_out, settings.price_out));
    let budget = amount(arguments.budget, settings.budget);
    // Without a budget the number of labels is the bound, and nobody has to say what they cost.
    if budget.is_some()
        && let (None, None, Some(known)) = (read, written, prices::of(&url, &model))
    {
        (read, written) = (Some(known.prices.read), Some(known.prices.written));
    }
    let prices = Prices { read: read.unwrap_or_default(), written: written.unwrap_or_default() };
    let chat = Chat::new(&url, key, PATIENCE)?;
    if read.is_some() != written.is_some() {
        return Err(Error::usage(
            "--price-in and --price-out go together: dollars for a million tokens read and written",
        ));
    }
    if budget.is_some() && prices.is_free() {
        return Err(Error::usage(
            "a budget needs prices: --price-in and --price-out, in dollars for a million tokens (`sizewise prices` names those that are known)",
        ));
    }
    if budget.is_none() && !prices.is_free() {
        return Err(Error::usage("say what it may cost at most: --budget 5.00"));
    }
    if prices.is_free() && !chat.is_local() && !bounded {
        return Err(Error::usage(
            "without prices nobody knows what this costs: give --price-in, --price-out and --budget (or, to `teach`, a number of --labels)",
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
}
