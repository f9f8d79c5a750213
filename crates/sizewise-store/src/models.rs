//! Which models were brought into the project, where from, and under which licence?
//!
//! A model is a list of files by hash. The files lie among the objects of releases, so what two models or a model and a
//! release have in common is kept once.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sizewise_contract::{ContentHash, units::UnixMillis};
use std::collections::BTreeSet;

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its path within the model's folder, with `/` between the parts.
    pub path: String,
    /// Hash of its bytes.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What it is called in this project.
    pub name: String,
    /// Where it came from: a folder, an archive, or a repository of a hub.
    pub source: String,
    /// The exact version, where the source has versions.
    pub revision: Option<String>,
    /// What the source says of its licence.
    pub licence: Option<String>,
    /// When it was brought.
    pub at: UnixMillis,
    /// Its files, by path.
    pub files: Vec<ModelFile>,
}

impl Model {
    /// Size of all files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Store {
    /// Keeps the bytes of a model's file. It belongs to no model until [`Self::add_model`].
    ///
    /// # Errors
    /// Fails when the disk does.
    pub fn keep_file(&self, path: &str, bytes: &[u8]) -> Result<ModelFile> {
        let hash = self.objects.put(bytes)?;
        Ok(ModelFile { path: path.to_owned(), hash, bytes: bytes.len() as u64 })
    }

    /// Puts a model on the list, in place of one of the same name.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn add_model(&self, model: &Model) -> Result<()> {
        let text = serde_json::to_string(model).map_err(|_| Error::Internal("a model has a JSON form"))?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        transaction.execute(
            "INSERT INTO models (name, model) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET model = excluded.model",
            params![model.name, text],
        )?;
        let detail = json!({
            "revision": model.revision, "licence": model.licence, "files": model.files.len(),
            "hash": ContentHash::of(text.as_bytes()),
        });
        audit::append(&transaction, &self.actor, Act::new("model.added", &model.name, detail))?;
        Ok(transaction.commit()?)
    }

    /// All models, by name.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn models(&self) -> Result<Vec<Model>> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT model FROM models ORDER BY name")?;
        let texts =
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        texts.iter().map(|text| parse(text)).collect()
    }

    /// The model of that name.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn model(&self, name: &str) -> Result<Option<Model>> {
        let text: Option<String> = self
            .connection()
            .query_row("SELECT model FROM models WHERE name = ?1", [name], |row| row.get(0))
            .optional()?;
        text.map(|text| parse(&text)).transpose()
    }

    /// The bytes of a model's file.
    ///
    /// # Errors
    /// Fails when they are not those that were kept.
    pub fn model_file(&self, file: &ModelFile) -> Result<Vec<u8>> {
        self.objects.get(&file.hash)
    }

    /// Takes a model off the list and gives back the room of the files that nothing else uses: how many bytes. Files that
    /// came within the last hour stay until a later removal, as somebody may be about to use them.
    ///
    /// # Errors
    /// Fails when the database or the disk does.
    pub fn remove_model(&self, model: &Model) -> Result<u64> {
        {
            let mut connection = self.connection();
            let transaction = database::begin(&mut connection)?;
            if transaction.execute("DELETE FROM models WHERE name = ?1", [&model.name])? > 0 {
                audit::append(&transaction, &self.actor, Act::new("model.removed", &model.name, json!({})))?;
            }
            transaction.commit()?;
        }
        let mut used: BTreeSet<ContentHash> = BTreeSet::new();
        for release in self.all_releases()? {
            used.extend(release.manifest.parts.iter().map(|part| part.hash));
        }
        for other in self.models()? {
            used.extend(other.files.iter().map(|file| file.hash));
        }
        let own: BTreeSet<ContentHash> = model.files.iter().map(|file| file.hash).collect();
        let mut freed = 0;
        for hash in own.difference(&used) {
            freed += self.objects.remove_old(hash)?;
        }
        Ok(freed)
    }
}

fn parse(text: &str) -> Result<Model> {
    serde_json::from_str(text).map_err(|_| Error::Internal("a model that was kept can be read"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn model(store: &Store, name: &str, files: &[(&str, &[u8])]) -> Model {
        let files = files.iter().map(|(path, bytes)| store.keep_file(path, bytes).unwrap()).collect();
        let model = Model {
            name: name.into(),
            source: "a folder".into(),
            revision: None,
            licence: Some("apache-2.0".into()),
            at: UnixMillis(1),
            files,
        };
        store.add_model(&model).unwrap();
        model
    }

    #[test]
    fn common_files_are_kept_once_and_removed_with_their_last_user() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let base: &[u8] = b"the weights of a base";
        let first = model(&store, "first", &[("model.safetensors", base), ("adapter", b"1")]);
        let second = model(&store, "second", &[("model.safetensors", base), ("adapter", b"22")]);
        assert_eq!(first.files[0].hash, second.files[0].hash);
        assert_eq!(store.models().unwrap(), [first.clone(), second.clone()]);
        assert_eq!(store.remove_model(&first).unwrap(), 0, "files of the last hour stay");
        store.objects.age(&first.files).unwrap();
        store.objects.age(&second.files).unwrap();
        store.add_model(&first).unwrap();
        assert_eq!(store.remove_model(&first).unwrap(), 1, "the adapter alone");
        assert_eq!(store.model_file(&second.files[0]).unwrap(), base);
        assert_eq!(store.remove_model(&second).unwrap(), base.len() as u64 + 2);
        assert_eq!(store.model("second").unwrap(), None);
    }
}
