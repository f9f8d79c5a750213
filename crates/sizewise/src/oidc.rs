//! Does a token of somebody's identity provider let its bearer in, and for what?
//!
//! Tokens are JWTs (RFC 7519) of OpenID Connect, signed with RS256, ES256 or EdDSA. What algorithm counts is the key's business, never
//! the token's alone: `none` and shared secrets are not taken. Issuer, audience, subject and an end are asked of every token. The keys
//! come from the issuer, at the start, every ten minutes, and soon after a token names one that is not known.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
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
}

fn groups() -> String {
    "groups".into()
}

/// An issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Oidc {
    settings: OidcSettings,
    keys: RwLock<Vec<Jwk>>,
    /// Good tokens by their hash, with their end.
    good: Mutex<HashMap<ContentHash, (i64, Arc<Holder>)>>,
    /// Whether a token named a key that is not known.
    missed: AtomicBool,
    looked: Mutex<Option<Instant>>,
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
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl Oidc {
    /// An issuer whose keys are still to be fetched.
    pub(crate) fn new(settings: &OidcSettings) -> Self {
        Self {
            settings: settings.clone(),
            keys: RwLock::default(),
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
        let place = match &self.settings.jwks {
            Some(place) => place.clone(),
            None => {
                let issuer = self.settings.issuer.trim_end_matches('/');
                let told = self.document(&format!("{issuer}/.well-known/openid-configuration"))?;
                let place = told.get("jwks_uri").and_then(Value::as_str);
                place.ok_or("its configuration names no jwks_uri")?.to_owned()
            }
        };
        let keys = self.document(&place)?.get_mut("keys").map(Value::take).ok_or("it has no list of keys")?;
        let keys: Vec<Value> = serde_json::from_value(keys).map_err(|_| "its keys are no list")?;
        // A kind of key that nobody here knows is no reason to do without the others.
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys = keys.filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig")).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        // Whoever was let in by a key that is gone asks again.
        self.good.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
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
        let end = (claims.exp as i64).saturating_add(LEEWAY);
        let begins = claims.nbf.map_or(i64::MIN, |from| (from as i64).saturating_sub(LEEWAY));
        let for_us = match &claims.aud {
            Value::String(one) => *one == self.settings.audience,
            Value::Array(all) => all.iter().any(|one| one.as_str() == Some(&self.settings.audience)),
            _ => false,
        };
        if claims.iss != self.settings.issuer
            || !for_us
            || claims.sub.is_empty()
            || now >= end
            || now < begins
        {
            return None;
        }
        // A subject may be a person's address: logs and records hold its hash.
        let whom = ContentHash::of(format!("{}\0{}", claims.iss, claims.sub).as_bytes()).to_string();
        let id = format!("oidc-{}", whom.get(..16).unwrap_or(&whom));
        let holder = Arc::new(Holder { id, rights: self.rights(&claims)? });
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
