//! Who may call?
//!
//! A key is `sw_ID_SECRET`. The ID is public and stands in records and logs; of the secret only a keyed hash is stored,
//! and it is compared in constant time. The secret has 160 random bits, so no slow hash is needed. What a key may do, and how much
//! of it, are its [`Rights`].

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
};
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use sizewise_contract::{task::Budget, units::UnixMillis};
use std::{
    collections::HashMap,
    io::Write,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};
use subtle::ConstantTimeEq;

const SECRET_FILE: &str = "secret";
const ID_DIGITS: usize = 10;
const SECRET_DIGITS: usize = 32;

/// What whoever holds a key is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A program that asks tasks and models.
    #[default]
    Caller,
    /// A program that reads the metrics, and nothing else.
    Monitor,
    /// A person who answers what waits for people, and nothing else.
    Reviewer,
    /// Whoever runs the server: everything.
    Operator,
}

/// What a key may do; what is not set does not bind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    /// What its holder is there for.
    pub role: Role,
    /// The only tasks that it may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
    /// The only providers that it may call by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The team whose limits it shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Most requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute that larger models read and write for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// What larger models may cost for it.
    #[serde(skip_serializing_if = "Budget::is_unset")]
    pub budget: Budget,
}

impl Rights {
    /// Whether it may ask a task.
    #[must_use]
    pub fn allow_task(&self, name: &str) -> bool {
        self.tasks.as_ref().is_none_or(|allowed| allowed.iter().any(|known| known == name))
    }

    /// Whether it may call a provider by name.
    #[must_use]
    pub fn allow_model(&self, name: &str) -> bool {
        self.models.as_ref().is_none_or(|allowed| allowed.iter().any(|known| known == name))
    }
}

/// Whoever presents a key that is known and not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The public id of the key.
    pub id: String,
    /// What it may do.
    pub rights: Rights,
}

/// A key that was just made. This is the only time its secret is known.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its public id.
    pub id: String,
    /// The whole key, as callers send it.
    pub key: String,
}

/// A key, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its public id.
    pub id: String,
    /// Who or what it is for.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// The keys that may call, in memory.
#[derive(Debug)]
pub struct KeyRing {
    secret: [u8; 32],
    keys: RwLock<Arc<Known>>,
}

/// Digest and holder of each key, by public id.
type Known = HashMap<String, ([u8; 32], Arc<Holder>)>;

impl KeyRing {
    /// Whether any key may call.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Who presents a key, if it is one and is not revoked.
    #[must_use]
    pub fn verify(&self, key: &str) -> Option<Arc<Holder>> {
        let (id, secret) = key.strip_prefix("sw_")?.split_once('_')?;
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        // An unknown id costs as much as a known one.
        let expected = known.as_ref().map_or([0; 32], |(digest, _)| *digest);
        let same = digest(&self.secret, id, secret).ct_eq(&expected);
        known.filter(|_| bool::from(same)).map(|(_, holder)| holder)
    }

    /// Who holds the key of a public id, if it is not revoked: for what was opened with the key and outlives that request.
    #[must_use]
    pub fn holder(&self, id: &str) -> Option<Arc<Holder>> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map(|(_, holder)| Arc::clone(holder))
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// Fails when the database cannot be read; the keys stay as they were.
    pub fn reload(&self, store: &Store) -> Result<()> {
        let keys = Arc::new(store.known_keys()?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

impl Store {
    /// Makes a key.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn create_key(&self, name: &str, rights: &Rights) -> Result<NewKey> {
        let secret = secret(self.folder())?;
        let id = ids::random_digits(ID_DIGITS)?;
        let own = ids::random_digits(SECRET_DIGITS)?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        transaction.execute(
            "INSERT INTO keys (id, name, digest, created_at, rights) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, name, digest(&secret, &id, &own), ids::now().0, written(rights)?],
        )?;
        // Its name may be a person's, and stands in the list of keys.
        audit::append(&transaction, &self.actor, Act::new("key.made", &id, json!(rights)))?;
        transaction.commit()?;
        Ok(NewKey { key: format!("sw_{id}_{own}"), id })
    }

    /// Gives a key other rights; servers notice within a second.
    ///
    /// # Errors
    /// Fails when there is no such key, or it is revoked.
    pub fn change_key(&self, id: &str, rights: &Rights) -> Result<()> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let changed = transaction.execute(
            "UPDATE keys SET rights = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            params![id, written(rights)?],
        )?;
        if changed == 0 {
            return Err(Error::UnknownKey { id: id.to_owned() });
        }
        audit::append(&transaction, &self.actor, Act::new("key.changed", id, json!(rights)))?;
        Ok(transaction.commit()?)
    }

    /// The keys, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT id, name, created_at, revoked_at, rights FROM keys ORDER BY created_at, id")?;
        let rows = statement.query_map([], |row| {
            let info = KeyInfo {
                id: row.get(0)?,
                name: row.get(1)?,
                rights: Rights::default(),
                created_at: UnixMillis(row.get(2)?),
                revoked_at: row.get::<_, Option<i64>>(3)?.map(UnixMillis),
            };
            Ok((info, row.get::<_, String>(4)?))
        })?;
        let whole = |row: rusqlite::Result<(KeyInfo, String)>| {
            let (info, rights) = row?;
            Ok(KeyInfo { rights: read(&rights)?, ..info })
        };
        rows.map(whole).collect()
    }

    /// Revokes a key, for good. Revoking it again changes nothing.
    ///
    /// # Errors
    /// Fails when there is no such key.
    pub fn revoke_key(&self, id: &str) -> Result<()> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let known = transaction.query_row("SELECT 1 FROM keys WHERE id = ?1", [id], |_| Ok(())).optional()?;
        known.ok_or_else(|| Error::UnknownKey { id: id.to_owned() })?;
        let revoked = transaction.execute(
            "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            params![id, ids::now().0],
        )?;
        if revoked > 0 {
            audit::append(&transaction, &self.actor, Act::new("key.revoked", id, json!({})))?;
        }
        Ok(transaction.commit()?)
    }

    /// The keys that may call, for a server.
    ///
    /// # Errors
    /// Fails when the database or the secret cannot be read.
    pub fn key_ring(&self) -> Result<KeyRing> {
        Ok(KeyRing { secret: secret(self.folder())?, keys: RwLock::new(Arc::new(self.known_keys()?)) })
    }

    fn known_keys(&self) -> Result<Known> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT id, digest, rights FROM keys WHERE revoked_at IS NULL")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, String>(2)?))
        })?;
        let known = |row: rusqlite::Result<(String, [u8; 32], String)>| {
            let (id, digest, rights) = row?;
            let rights = read(&rights)?;
            Ok((id.clone(), (digest, Arc::new(Holder { id, rights }))))
        };
        rows.map(known).collect()
    }
}

/// The secret of the store in a folder, made the first time it is needed.
pub(crate) fn secret(folder: &Path) -> Result<[u8; 32]> {
    let path = folder.join(SECRET_FILE);
    let failed = |cause| Error::file(&path, cause);
    if !path.exists() {
        let mut fresh = [0; 32];
        ids::fill(&mut fresh)?;
        let aside = folder.join(format!("{SECRET_FILE}.{}", ids::random_digits(8)?));
        let mut file = private_file(&aside).map_err(failed)?;
        file.write_all(&fresh).and_then(|()| file.sync_all()).map_err(failed)?;
        // Whoever links first wins; the others read that one.
        let linked = std::fs::hard_link(&aside, &path);
        std::fs::remove_file(&aside).map_err(failed)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    }
    let bytes = std::fs::read(&path).map_err(failed)?;
    bytes.try_into().map_err(|_| Error::Damaged {
        path: path.clone(),
        problem: "it does not hold the 32 bytes that it was made with".into(),
    })
}

/// What stands in the database for whom an input is about: nobody without the secret can tell who it is, nor try names.
pub(crate) fn subject(secret: &[u8; 32], id: &str) -> [u8; 32] {
    // No key's id has a colon.
    digest(secret, "subject:", id)
}

fn written(rights: &Rights) -> Result<String> {
    serde_json::to_string(rights).map_err(|_| Error::Internal("the rights of a key have a JSON form"))
}

fn read(text: &str) -> Result<Rights> {
    serde_json::from_str(text).map_err(|_| Error::Internal("the rights of a key can be read"))
}

fn digest(secret: &[u8; 32], id: &str, own: &str) -> [u8; 32] {
    // Any length of key is taken, so this cannot fail; a zero digest would match nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    mac.update(id.as_bytes());
    mac.update(b"_");
    mac.update(own.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(unix)]
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::create_new(path)
}
