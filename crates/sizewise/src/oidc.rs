//! Does a token of somebody's identity provider let its bearer in, and for what?
//!
//! Tokens are JWTs (RFC 7519) of OpenID Connect, signed with RS256, ES256 or EdDSA. What algorithm counts is the key's business, never
//! the token's alone: `none` and shared secrets are not taken. Issuer, audience, subject and an end are asked of every token. The keys
//! come from the issuer, at the start, every ten minutes, and soon after a token names one that is not known. People may also sign in to the
//! console at the issuer ([`sign_in`]).

pub mod sign_in;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
pub use sign_in::SignInSettings;
use sizewise_contract::ContentHash;
use sizewise_models::remote::fetch;
use sizewise_store::{Holder, Rights};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Largest token. `bytes`
const TOKEN_BYTES: usize = 16 << 10;
/// Largest document of an issuer. `bytes`
const DOCUMENT_BYTES: usize = 1 << 20;
/// How long an issuer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// By how much clocks may differ. `seconds`
const LEEWAY: i64 = 60;
/// Between two looks at the issuer's keys.
const LOOK: Duration = Duration::from_secs(600);
/// The same where a token named a key that is not known.
const LOOK_SOON: Duration = Duration::from_secs(30);
/// Tokens that are remembered as good.
const REMEMBERED: usize = 10_000;

/// Whose tokens are taken, and what they are good for.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// The identity provider, as its tokens name it (`iss`).
    pub issuer: String,
    /// For whom the tokens must be made out (`aud`).
    pub audience: String,
    /// Where its keys are; by default where its `.well-known/openid-configuration` says.
    #[serde(default)]
    pub jwks: Option<String>,
    /// Whether its name may lead to a private network.
    #[serde(default)]
    pub private: bool,
    /// What every good token may do, unless groups say.
    #[serde(default)]
    pub rights: Rights,
    /// The claim that names groups: a text or a list of them.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// What the members of a group may do. Where any group is named, whoever is in none of them is not let in.
    #[serde(default)]
    pub group: BTreeMap<String, Rights>,
    /// How people sign in to the console; by a key or a token alone unless said.
    #[serde(default)]
    pub sign_in: Option<SignInSettings>,
}

fn groups() -> String {
    "groups".into()
}

/// An issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Oidc {
    settings: OidcSettings,
    keys: RwLock<Vec<Jwk>>,
    /// Where people sign in, or why that is not known.
    places: RwLock<Result<Arc<Places>, String>>,
    /// Good tokens by their hash, with their end.
    good: Mutex<HashMap<ContentHash, (i64, Arc<Holder>)>>,
    /// Whether a token named a key that is not known.
    missed: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

/// Where people sign in, as the issuer's configuration says.
#[derive(Debug)]
struct Places {
    /// Where a browser is sent.
    authorization: String,
    /// Where a code is exchanged.
    token: String,
    /// Whether the client's secret goes in a header there, not in the form.
    basic: bool,
    /// Where a browser is sent that the issuer shall forget too; none where it has no such place.
    end: Option<String>,
    /// Whether the issuer names itself in what a browser brings back.
    says_iss: bool,
}

/// What is wrong with a token of somebody who signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// None of the issuer's keys has signed it.
    Key,
    /// What it says is not so.
    Claims(&'static str),
    /// It is good, and its bearer may do nothing here.
    Rights,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "the token that came for a code is not signed by a key of the issuer",
            Self::Claims(wrong) => wrong,
            Self::Rights => "the token's bearer is in none of the groups that are let in",
        })
    }
}

/// A key of an issuer (RFC 7517), as far as it can sign.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    azp: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl Oidc {
    /// An issuer whose keys are still to be fetched.
    pub(crate) fn new(settings: &OidcSettings) -> Self {
        Self {
            settings: settings.clone(),
            keys: RwLock::default(),
            places: RwLock::new(Err("what the issuer says of itself is not known yet".into())),
            good: Mutex::default(),
            missed: AtomicBool::new(false),
            looked: Mutex::default(),
        }
    }

    /// Fetches the issuer's keys where it is time to. May wait for the network.
    ///
    /// # Errors
    /// Says why they cannot be had; those that are known stay.
    pub(crate) fn refresh(&self) -> Result<(), String> {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = if self.missed.load(Ordering::Relaxed) { LOOK_SOON } else { LOOK };
            if looked.is_some_and(|at| at.elapsed() < pause) {
                return Ok(());
            }
            *looked = Some(Instant::now());
        }
        let fetched = self.fetch_keys();
        // What could not be had is asked for again soon.
        self.missed.store(fetched.is_err(), Ordering::Relaxed);
        fetched
    }

    fn fetch_keys(&self) -> Result<(), String> {
        let signs_in = self.settings.sign_in.is_some();
        let issuer = self.settings.issuer.trim_end_matches('/');
        let configuration = (signs_in || self.settings.jwks.is_none())
            .then(|| self.document(&format!("{issuer}/.well-known/openid-configuration")));
        let found = match (&configuration, signs_in) {
            (Some(Ok(told)), true) => Some(Places::read(told, &self.settings.issuer)),
            (Some(Err(problem)), true) => Some(Err(problem.clone())),
            _ => None,
        };
        let problem = found.as_ref().and_then(|found| found.as_ref().err().cloned());
        if let Some(found) = found {
            let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
            // Places that are known stay while the issuer is silent.
            if found.is_ok() || places.is_err() {
                *places = found.map(Arc::new);
            }
        }
        let place = match (&self.settings.jwks, configuration) {
            (Some(place), _) => place.clone(),
            (None, Some(told)) => {
                let told = told?;
                let place = told.get("jwks_uri").and_then(Value::as_str);
                place.ok_or("its configuration names no jwks_uri")?.to_owned()
            }
            (None, None) => return Err("its configuration was not asked for".into()),
        };
        let keys = self.document(&place)?.get_mut("keys").map(Value::take).ok_or("it has no list of keys")?;
        let keys: Vec<Value> = serde_json::from_value(keys).map_err(|_| "its keys are no list")?;
        // A kind of key that nobody here knows is no reason to do without the others.
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys = keys.filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig")).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        // Whoever was let in by a key that is gone asks again.
        self.good.lock().unwrap_or_else(PoisonError::into_inner).clear();
        problem.map_or(Ok(()), Err)
    }

    /// Where people sign in. May wait for the network where that is not known yet.
    fn places(&self) -> Result<Arc<Places>, String> {
        let known = || self.places.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known().is_err() {
            self.refresh()?;
        }
        known()
    }

    /// As [`Self::places`], where they are known already.
    fn known_places(&self) -> Option<Arc<Places>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone().ok()
    }

    fn document(&self, place: &str) -> Result<Value, String> {
        let body = fetch(place, self.settings.private, (DOCUMENT_BYTES, PATIENCE))?;
        serde_json::from_slice(&body).map_err(|_| format!("{place} is no JSON"))
    }

    /// Who bears a token, where it is good at a moment (seconds since 1970).
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Arc<Holder>> {
        if token.len() > TOKEN_BYTES {
            return None;
        }
        let hash = ContentHash::of(token.as_bytes());
        {
            let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((end, holder)) = good.get(&hash) {
                return (now < *end).then(|| Arc::clone(holder));
            }
        }
        let claims = self.claims(token)?;
        let end = claims.end();
        self.check(&claims, &self.settings.audience, now).ok()?;
        let holder = Arc::new(self.holder(&claims)?);
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            good.retain(|_, (end, _)| now < *end);
            if good.len() >= REMEMBERED {
                good.clear();
            }
        }
        good.insert(hash, (end, Arc::clone(&holder)));
        Some(holder)
    }

    /// Who signs in with a token, where it was made for `client` and is the answer to a nonce.
    fn signed_in(&self, token: &str, (client, nonce): (&str, &str), now: i64) -> Result<Arc<Holder>, Unfit> {
        let claims =
            Some(token).filter(|token| token.len() <= TOKEN_BYTES).and_then(|token| self.claims(token));
        let claims = claims.ok_or(Unfit::Key)?;
        self.check(&claims, client, now).map_err(Unfit::Claims)?;
        let alone = claims.aud.as_array().is_none_or(|all| all.len() == 1);
        if claims.azp.as_deref().map_or(!alone, |azp| azp != client) {
            return Err(Unfit::Claims("the token was given to another client"));
        }
        if claims.nonce.as_deref() != Some(nonce) {
            return Err(Unfit::Claims("the token is the answer to another sign-in"));
        }
        self.holder(&claims).map(Arc::new).ok_or(Unfit::Rights)
    }

    /// Whether a token is this issuer's, made out for `audience`, somebody's, and good at a moment.
    fn check(&self, claims: &Claims, audience: &str, now: i64) -> Result<(), &'static str> {
        let begins = claims.nbf.map_or(i64::MIN, |from| (from as i64).saturating_sub(LEEWAY));
        let for_us = match &claims.aud {
            Value::String(one) => one == audience,
            Value::Array(all) => all.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        let wrong = [
            (claims.iss != self.settings.issuer, "the token is another issuer's"),
            (!for_us, "the token is made out for somebody else"),
            (claims.sub.is_empty(), "the token names nobody"),
            (now >= claims.end(), "the token has ended"),
            (now < begins, "the token has not begun"),
        ];
        wrong.into_iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, told)| Err(told))
    }

    /// Whose token it is; none where they may do nothing here.
    fn holder(&self, claims: &Claims) -> Option<Holder> {
        // A subject may be a person's address: logs and records hold its hash.
        let whom = ContentHash::of(format!("{}\0{}", claims.iss, claims.sub).as_bytes()).to_string();
        let id = format!("oidc-{}", whom.get(..16).unwrap_or(&whom));
        Some(Holder { id, rights: self.rights(claims)? })
    }

    /// What the bearer may do; none where groups are asked for and the token has none of them.
    fn rights(&self, claims: &Claims) -> Option<Rights> {
        if self.settings.group.is_empty() {
            return Some(self.settings.rights.clone());
        }
        let named: Vec<&str> = match claims.others.get(&self.settings.groups_claim)? {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        named.into_iter().find_map(|name| self.settings.group.get(name)).cloned()
    }

    /// What a token says, where one of the issuer's keys has signed it.
    fn claims(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
        let signature = decoded(signature)?;
        // What must be understood and is not, is a reason to refuse.
        if header.crit.is_some() {
            return None;
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |key: &&Jwk| header.kid.is_none() || key.kid == header.kid;
        let signed_by =
            keys.iter().filter(meant).find(|key| key.signed(&header.alg, signed, &signature).is_some());
        if signed_by.is_none() {
            self.missed.fetch_or(!keys.iter().any(|key| meant(&key)), Ordering::Relaxed);
            return None;
        }
        serde_json::from_slice(&decoded(payload)?).ok()
    }
}

impl Claims {
    /// From when on it is good no more, with the leeway of clocks.
    fn end(&self) -> i64 {
        (self.exp as i64).saturating_add(LEEWAY)
    }
}

impl Places {
    /// What an issuer's configuration says, where it can be used.
    fn read(told: &Value, issuer: &str) -> Result<Self, String> {
        let text = |name: &str| told.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(format!(
                "its configuration is not that of {issuer}: the names must be the same to the letter"
            ));
        }
        // Whoever asks the issuer itself by http has no other way to it.
        let schemes: &[&str] =
            if issuer.starts_with("http://") { &["https://", "http://"] } else { &["https://"] };
        let place = |name: &str| {
            let usable = |place: &&str| {
                schemes.iter().any(|scheme| place.starts_with(scheme))
                    && place.bytes().all(|sign| (0x21..=0x7e).contains(&sign) && !b"\"#\\".contains(&sign))
            };
            let place = text(name).filter(usable).map(str::to_owned);
            place.ok_or_else(|| format!("its configuration names no {name} that can be used"))
        };
        let ways = told.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        Ok(Self {
            authorization: place("authorization_endpoint")?,
            token: place("token_endpoint")?,
            end: place("end_session_endpoint").ok(),
            basic: ways.is_none_or(|ways| ways.iter().any(|way| way == "client_secret_basic")),
            says_iss: told.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}

impl Jwk {
    /// Whether this key has signed a text, by the one algorithm that is this kind of key's.
    fn signed(&self, alg: &str, text: &str, signature: &[u8]) -> Option<()> {
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        match (alg, self.kty.as_str(), self.crv.as_str()) {
            ("RS256", "RSA", _) => {
                let key = RsaPublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? };
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), signature).ok()
            }
            ("ES256", "EC", "P-256") => {
                // A point that is written out (SEC 1, 2.3.3).
                let point = [&[4][..], &part(&self.x)?, &part(&self.y)?].concat();
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(text.as_bytes(), signature).ok()
            }
            ("EdDSA", "OKP", "Ed25519") => {
                let key = UnparsedPublicKey::new(&signature::ED25519, part(&self.x)?);
                key.verify(text.as_bytes(), signature).ok()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
