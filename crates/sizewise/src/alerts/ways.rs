//! On which way does a message get to somebody?

use super::{AlertSettings, Told};
use crate::{
    clock,
    error::{Error, Result},
    secrets,
};
use serde::Deserialize;
use sizewise_models::remote::{Letter, Mail, MailServer, Post, Security};
use std::{path::Path, time::Duration};

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LETTER_PATIENCE: Duration = Duration::from_secs(30);

/// Who gets letters, and through which server.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// The mail server, with a port where it is not 587 (465 with `tls = "tls"`).
    pub server: String,
    /// Who sends.
    pub from: String,
    /// Who gets them.
    pub to: Vec<String>,
    /// The name that the server wants to know.
    pub user: Option<String>,
    /// Where its password is: `env:NAME` or `file:PATH`.
    pub password: Option<String>,
    /// `starttls`, `tls` or `none`.
    #[serde(default)]
    pub tls: Tls,
    /// Whether its name may lead to a private network.
    #[serde(default)]
    pub private: bool,
}

/// How letters are protected on their way to the mail server.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// After a greeting in the open.
    #[default]
    #[serde(rename = "starttls")]
    Upgraded,
    /// From the first byte.
    #[serde(rename = "tls")]
    Always,
    /// Not at all: for servers of this machine and of private networks.
    None,
}

/// One way.
pub(super) enum Way {
    /// A server gets JSON.
    Webhook { post: Post, path: String },
    /// People get letters.
    Email { mail: Mail, from: String, to: Vec<String> },
}

impl Way {
    /// All that the settings name.
    pub(super) fn of(settings: &AlertSettings, root: &Path) -> Result<Vec<Self>> {
        let webhook =
            settings.webhook.as_deref().map(|address| webhook(address, settings, root)).transpose()?;
        let email = settings.email.as_ref().map(|settings| email(settings, root)).transpose()?;
        let ways: Vec<Self> = webhook.into_iter().chain(email).collect();
        match ways.is_empty() {
            true => Err(Error::usage("[alerts]: name a webhook, or a server under [alerts.email]")),
            false => Ok(ways),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "the webhook",
            Self::Email { .. } => "the mail server",
        }
    }

    /// Sends a message once.
    pub(super) fn send(&self, message: &Told) -> std::result::Result<(), String> {
        match self {
            Self::Webhook { post, path } => {
                let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
                match post.send(path, body, PATIENCE)? {
                    said if said.status < 300 => Ok(()),
                    said => Err(format!("it answered with status {}", said.status)),
                }
            }
            Self::Email { mail, from, to } => {
                let (now, subject) = (clock::now(), message.subject());
                let text = format!("{}\n\nsizewise evidence {}\n", message.text(), message.task());
                let id = sizewise_store::new_id("").map_err(|error| error.to_string())?;
                let date = clock::letter_date(now);
                let letter = Letter { from, to, subject: &subject, text: &text, date: &date, id: &id };
                mail.send(&letter, LETTER_PATIENCE)
            }
        }
    }
}

fn webhook(address: &str, settings: &AlertSettings, root: &Path) -> Result<Way> {
    let mut headers = Vec::new();
    for (name, value) in &settings.headers {
        let is_named = value.starts_with("env:") || value.starts_with("file:");
        let value = if is_named { secrets::key(value, root)? } else { value.clone() };
        headers.push((name.clone(), value));
    }
    let begins = address.find("://").map_or(0, |at| at + 3);
    let path = address.get(begins..).and_then(|rest| rest.find('/'));
    let (server, path) = address.split_at(path.map_or(address.len(), |at| begins + at));
    let post = Post::new(server, settings.private, &headers)
        .map_err(|problem| Error::usage(format!("[alerts]: {problem}")))?;
    Ok(Way::Webhook { post, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
}

fn email(settings: &EmailSettings, root: &Path) -> Result<Way> {
    let wrong = |problem: String| Error::usage(format!("[alerts.email]: {problem}"));
    if settings.to.is_empty() {
        return Err(wrong("`to` names nobody".into()));
    }
    for address in settings.to.iter().chain([&settings.from]) {
        Mail::check(address).map_err(wrong)?;
    }
    let security = match settings.tls {
        Tls::Upgraded => Security::StartTls,
        Tls::Always => Security::Tls,
        Tls::None => Security::None,
    };
    let usual = if security == Security::Tls { 465 } else { 587 };
    let (host, port) = match settings.server.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) {
        Some((host, port)) => {
            (host, port.parse().map_err(|_| wrong(format!("`{port}` is no port of `server`")))?)
        }
        None => (settings.server.as_str(), usual),
    };
    let login = match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => Some((user.clone(), secrets::key(password, root)?)),
        (None, None) => None,
        _ => return Err(wrong("`user` and `password` go together".into())),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let mail =
        Mail::new(MailServer { host, port, security, login, private: settings.private }).map_err(wrong)?;
    Ok(Way::Email { mail, from: settings.from.clone(), to: settings.to.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn ways(text: &str) -> Result<Vec<Way>> {
        Way::of(&toml::from_str(text).unwrap(), Path::new("."))
    }

    #[test]
    fn every_way_that_is_named_is_taken() {
        let email = "[email]\nserver = \"localhost:2525\"\nfrom = \"s@example.com\"\nto = [\"ops@example.com\"]\ntls = \"none\"";
        let names = |text: &str| ways(text).unwrap().iter().map(Way::name).collect::<Vec<_>>();
        assert_eq!(names(email), ["the mail server"]);
        let both = format!("webhook = \"http://127.0.0.1:9/alerts\"\n{email}");
        assert_eq!(names(&both), ["the webhook", "the mail server"]);
    }

    #[test]
    fn what_cannot_be_is_refused_at_the_start_with_its_setting() {
        let email = |server: &str, rest: &str| {
            format!("[email]\nserver = \"{server}\"\nfrom = \"s@example.com\"\n{rest}")
        };
        let to = "to = [\"ops@example.com\"]";
        for (text, said) in [
            (String::new(), "[alerts]: name a webhook"),
            (email("mail.example.com", "to = []"), "names nobody"),
            (email("mail.example.com", "to = [\"nobody\"]"), "`nobody` is no mail address"),
            (email("mail.example.com:smtp", to), "`smtp` is no port"),
            (email("mail.example.com", &format!("{to}\nuser = \"me\"")), "go together"),
            (email("mail.example.com", &format!("{to}\ntls = \"none\"")), "unprotected"),
        ] {
            let refused = ways(&text).err().unwrap().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
