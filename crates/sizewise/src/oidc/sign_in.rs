//! How does somebody sign in to the console at their identity provider?
//!
//! The authorization-code flow of OpenID Connect with PKCE (RFC 6749, 7636, 9207): the browser is sent to the issuer with a state, a nonce and a
//! challenge, comes back with a code, and the server exchanges that code for a token that says who it is.
//!
//! All three are made of one random value in a cookie and a key that only this process knows: nothing is kept for those who begin and
//! never come back, and a state fits no other browser than the one that began. So nobody is signed in by a link of somebody else's. One
//! beginning is good for ten minutes and one way back.

use super::{DOCUMENT_BYTES, Oidc, PATIENCE, Unfit};
use crate::{
    error::{Error, Result as Told},
    secrets,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest, hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::Value;
use sizewise_models::remote::{Form, send_form};
use sizewise_store::{Holder, Role};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// For how long somebody may be away at the issuer. `seconds`
const AWAY: i64 = 600;
/// Most codes that are exchanged at once.
const AT_ONCE: usize = 8;
/// Ways back that are remembered as used.
const USED: usize = 10_000;
/// Longest query of a way back. `bytes`
const QUERY_BYTES: usize = 8 << 10;
/// Where the issuer sends people back to.
pub(crate) const BACK: &str = "/console/api/signed-in";

/// How people sign in to the console.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SignInSettings {
    /// What the issuer calls this server; its tokens for people are made out for it.
    pub client: String,
    /// Where the client's secret is, as `env:NAME` or `file:PATH`; without one the client is a public one.
    #[serde(default)]
    pub secret: Option<String>,
    /// What the button calls the issuer; its host unless said.
    #[serde(default)]
    pub name: Option<String>,
    /// What is asked of the issuer; `openid` is always one of them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// For how many hours somebody stays signed in; 12 unless said, and no more.
    #[serde(default)]
    pub hours: Option<u32>,
}

/// The way in by an issuer.
pub struct SignIn {
    oidc: Arc<Oidc>,
    settings: SignInSettings,
    secret: Option<String>,
    /// Scheme, host and port under which people reach the server.
    address: String,
    key: hmac::Key,
    /// Ways back that were used, with when their beginning is too old in any case.
    used: Mutex<HashMap<Vec<u8>, i64>>,
    exchanging: AtomicUsize,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Where a browser goes, and what it keeps.
#[derive(Debug)]
pub(crate) struct Begun {
    /// An address of the issuer.
    pub(crate) go: String,
    /// The value of the cookie.
    pub(crate) kept: String,
}

/// Why somebody did not get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It was begun too long ago, in another browser, or came back before.
    Stale,
    /// They, or the issuer, said no.
    Denied,
    /// The issuer cannot be asked, or says something that cannot be used. For whoever runs the server.
    Issuer(String),
    /// The token is not good. For whoever runs the server.
    Token(String),
    /// They are who they say and have no business here.
    Rights,
    /// Too many at once.
    Busy,
}

impl Trouble {
    /// The word by which the page knows it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::Issuer(_) => "issuer",
            Self::Token(_) => "token",
            Self::Rights => "rights",
            Self::Busy => "busy",
        }
    }

    /// What whoever runs the server is told.
    pub(crate) fn told(&self) -> Option<&str> {
        match self {
            Self::Issuer(told) | Self::Token(told) => Some(told),
            _ => None,
        }
    }
}

impl SignIn {
    /// The way in that settings describe; `address` is where people reach the server.
    ///
    /// # Errors
    /// Says what is wrong with the settings, or that the secret is not where they say.
    pub(crate) fn new(
        oidc: Arc<Oidc>,
        settings: &SignInSettings,
        (address, folder): (Option<&str>, &Path),
    ) -> Told<Self> {
        let address = address.ok_or_else(|| {
            Error::usage(
                "[oidc.sign_in] needs [serve] address = \"https://…\", under which people reach this server: the issuer sends them back there",
            )
        })?;
        if settings.client.trim().is_empty() {
            return Err(Error::usage("[oidc.sign_in] client is what the issuer calls this server"));
        }
        if settings.hours == Some(0) {
            return Err(Error::usage("[oidc.sign_in] hours must be 1 or more"));
        }
        let scope = |scope: &&String| {
            scope.is_empty()
                || scope.bytes().any(|sign| !(0x21..=0x7e).contains(&sign) || b"\"\\".contains(&sign))
        };
        if let Some(wrong) = settings.scopes.iter().find(scope) {
            return Err(Error::usage(format!("[oidc.sign_in] scopes: `{wrong}` is none")));
        }
        let secret = settings.secret.as_ref().map(|named| secrets::key(named, folder)).transpose()?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| sizewise_engine::Error::Internal("the machine gives random numbers"))?;
        Ok(Self {
            oidc,
            settings: settings.clone(),
            secret,
            address: address.to_owned(),
            key,
            used: Mutex::default(),
            exchanging: AtomicUsize::new(0),
        })
    }

    /// What the button calls the issuer.
    pub(crate) fn name(&self) -> &str {
        let issuer = self.oidc.settings.issuer.as_str();
        let host = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
        self.settings.name.as_deref().unwrap_or_else(|| host.split('/').next().unwrap_or(host))
    }

    /// Where people reach the server, and are sent back to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether they reach it by https.
    pub(crate) fn is_https(&self) -> bool {
        self.address.starts_with("https://")
    }

    /// For how long somebody stays signed in, at most.
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.hours.unwrap_or(12)).saturating_mul(3_600))
    }

    /// Where whoever has left the console leaves the issuer too; none where it has no such place. Nothing is sent along that says who it
    /// was: the issuer asks its own cookie.
    pub(crate) fn leave(&self) -> Option<String> {
        let place = self.oidc.known_places()?.end.clone()?;
        let joint = if place.contains('?') { '&' } else { '?' };
        Some(format!("{place}{joint}{}", form(&[("client_id", &self.settings.client)])))
    }

    /// Begins at a moment (seconds since 1970). May wait for the network.
    ///
    /// # Errors
    /// Fails when the issuer does not say where to go.
    pub(crate) fn begin(&self, now: i64) -> Result<Begun, Trouble> {
        let places = self.oidc.places().map_err(Trouble::Issuer)?;
        let mut random = [0; 32];
        let none = |_| Trouble::Issuer("the machine gives no random numbers".into());
        SystemRandom::new().fill(&mut random).map_err(none)?;
        let kept = format!("{now}.{}", URL_SAFE_NO_PAD.encode(random));
        let challenge = digest::digest(&digest::SHA256, self.derived("verifier", &kept).as_bytes());
        let mut scopes = vec!["openid"];
        scopes.extend(self.settings.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.settings.client),
            ("redirect_uri", &self.back()),
            ("scope", &scopes.join(" ")),
            ("state", &self.derived("state", &kept)),
            ("nonce", &self.derived("nonce", &kept)),
            ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge.as_ref())),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if places.authorization.contains('?') { '&' } else { '?' };
        Ok(Begun { go: format!("{}{joint}{query}", places.authorization), kept })
    }

    /// Who came back, with what their browser kept and the query of their address. May wait for the network.
    ///
    /// # Errors
    /// Says why they do not get in.
    pub(crate) fn finish(&self, kept: Option<&str>, query: &str, now: i64) -> Result<Arc<Holder>, Trouble> {
        let told = read(query).ok_or(Trouble::Stale)?;
        let kept = kept.ok_or(Trouble::Stale)?;
        let begun: i64 = kept.split_once('.').and_then(|(at, _)| at.parse().ok()).ok_or(Trouble::Stale)?;
        let state = told.get("state").and_then(|state| URL_SAFE_NO_PAD.decode(state).ok());
        // The state vouches for the whole cookie, its moment included.
        let fits = state
            .is_some_and(|state| hmac::verify(&self.key, named("state", kept).as_bytes(), &state).is_ok());
        if !fits || !(0..AWAY).contains(&now.saturating_sub(begun)) || !self.first(kept, begun + AWAY, now) {
            return Err(Trouble::Stale);
        }
        let places = self.oidc.places().map_err(Trouble::Issuer)?;
        let issuer = &self.oidc.settings.issuer;
        if told.get("iss").map_or(places.says_iss, |iss| iss != issuer) {
            return Err(Trouble::Issuer("the answer that a browser brought is not the issuer's".into()));
        }
        if let Some(error) = told.get("error") {
            return Err(match error.as_str() {
                "access_denied" => Trouble::Denied,
                error => Trouble::Issuer(format!("it says {}", word(error))),
            });
        }
        let code = told.get("code").filter(|code| !code.is_empty()).ok_or(Trouble::Stale)?;
        let token = self.exchange(code, &self.derived("verifier", kept), (&places.token, places.basic))?;
        let expected = (self.settings.client.as_str(), self.derived("nonce", kept));
        let holder = match self.oidc.signed_in(&token, (expected.0, &expected.1), now) {
            // The issuer may have a new key since its keys were fetched.
            Err(Unfit::Key) if self.oidc.refresh().is_ok() => {
                self.oidc.signed_in(&token, (expected.0, &expected.1), now)
            }
            judged => judged,
        };
        let holder = holder.map_err(|unfit| match unfit {
            Unfit::Rights => Trouble::Rights,
            other => Trouble::Token(other.to_string()),
        })?;
        match holder.rights.role {
            Role::Monitor => Err(Trouble::Rights),
            _ => Ok(holder),
        }
    }

    /// Exchanges a code for a token that says who came.
    fn exchange(&self, code: &str, verifier: &str, (place, basic): (&str, bool)) -> Result<String, Trouble> {
        let _place = Place::take(&self.exchanging).ok_or(Trouble::Busy)?;
        let back = self.back();
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", back.as_str()),
            ("code_verifier", verifier),
        ];
        let client = self.settings.client.as_str();
        let mut authorization = None;
        match &self.secret {
            // Both are written as in a form first (RFC 6749, 2.3.1).
            Some(secret) if basic => {
                let pair = format!("{}:{}", escaped(client), escaped(secret));
                authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => fields.extend([("client_id", client), ("client_secret", secret.as_str())]),
            None => fields.push(("client_id", client)),
        }
        let body = form(&fields);
        let sent = Form { body: &body, authorization: authorization.as_deref() };
        let private = self.oidc.settings.private;
        let (status, body) =
            send_form(place, private, sent, (DOCUMENT_BYTES, PATIENCE)).map_err(Trouble::Issuer)?;
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            let error = told.get("error").and_then(Value::as_str).map_or("nothing more", word);
            return Err(match error {
                // The code was used before, or is too old.
                "invalid_grant" => Trouble::Stale,
                error => {
                    Trouble::Issuer(format!("{place}: it answered with status {status} and said {error}"))
                }
            });
        }
        let token = told.get("id_token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Trouble::Issuer(format!("{place}: it sent no id_token")))
    }

    /// Whether a way back is used for the first time; from then on it is used.
    fn first(&self, kept: &str, until: i64, now: i64) -> bool {
        let name = hmac::sign(&self.key, named("used", kept).as_bytes()).as_ref().to_vec();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.contains_key(&name) {
            return false;
        }
        if used.len() >= USED {
            used.retain(|_, until| now < *until);
        }
        if used.len() >= USED {
            // What is the oldest could be used again here; the issuer takes no code twice.
            let oldest = used.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone());
            oldest.and_then(|name| used.remove(&name));
        }
        used.insert(name, until);
        true
    }

    fn back(&self) -> String {
        format!("{}{BACK}", self.address)
    }

    /// What only this process can make of what a browser keeps.
    fn derived(&self, what: &str, kept: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, named(what, kept).as_bytes()))
    }
}

fn named(what: &str, kept: &str) -> String {
    format!("{what}\0{kept}")
}

/// A place among those that exchange a code.
struct Place<'p>(&'p AtomicUsize);

impl<'p> Place<'p> {
    fn take(taken: &'p AtomicUsize) -> Option<Self> {
        let more = |taken: usize| (taken < AT_ONCE).then_some(taken + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A word of an error as the protocol has them; whatever else an issuer writes there is not repeated.
fn word(error: &str) -> &str {
    let plain = error.len() <= 40 && error.bytes().all(|sign| sign.is_ascii_lowercase() || sign == b'_');
    if plain && !error.is_empty() { error } else { "something that is no error's name" }
}

/// Names and values as a form or a query has them.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    pairs.join("&")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => {
                // Writing into a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The names and values of a query; none where it is too long, no text, or says something twice.
fn read(query: &str) -> Option<BTreeMap<String, String>> {
    if query.len() > QUERY_BYTES {
        return None;
    }
    let mut told = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if told.insert(unescaped(name)?, unescaped(value)?).is_some() {
            return None;
        }
    }
    Some(told)
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
pub(crate) mod tests;
