//! What is kept, and who may touch it?
//!
//! ```text
//!   .sizewise/
//!     store.db        releases, which one is in force and which one is tried, openings of locked rows, certificates,
//!                     records, review queue, probes, keys, models, money spent, bills, relayed calls, renewals, the audit log
//!                     (SQLite, write-ahead log, synced at every commit)
//!     ….entries       records that come into the database in a moment
//!     objects/ab/…    the parts of releases and models, each named by the hash of its bytes
//!     secret          keys the hashes of API keys and of persons
//! ```
//!
//! Whatever a call acknowledged is on disk: a process killed at any moment loses nothing that was acknowledged and leaves
//! no release half put in force. Only this crate writes SQL.

mod audit;
mod bills;
mod compact;
mod database;
mod erasure;
mod error;
mod ids;
mod journal;
mod keys;
mod kinds;
mod labels;
mod mixes;
mod models;
mod objects;
mod openings;
mod probes;
mod queue;
mod records;
mod releases;
mod renewals;
mod sites;
mod spending;
mod trials;

pub use audit::{AuditEntry, AuditReport, Finding, Head, InclusionProof};
pub use bills::Billed;
pub use erasure::{Erased, Whose};
pub use error::{Error, Result};
pub use ids::{new_id, random_bits};
pub use keys::{Holder, KeyInfo, KeyRing, NewKey, Rights, Role};
pub use kinds::{KeptKind, Middle};
pub use labels::{Became, PersonLabel, Place, Said, Stage};
pub use models::{Model, ModelFile};
pub use openings::{Opening, OpeningInfo};
pub use probes::ProbeCounts;
pub use queue::{Fed, GoldAnswer, QueueDepth};
pub use records::{Entry, Recorder};
pub use releases::{Manifest, NewRelease, Part, Release, Switch};
pub use renewals::{RENEWAL_STEPS, RenewalInfo, RunningRenewal};
pub use sites::{ObservedBounds, ObservedCall, ObservedPlace, SiteWriter};
pub use spending::{Limit, Period, Settled, Spent};
pub use trials::DIFFERENCES_KEPT;

use objects::Objects;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Everything at rest of one project.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    connection: Arc<Mutex<Connection>>,
    objects: Objects,
    /// Who calls this program: whose acts the audit log says they are.
    actor: String,
}

impl Store {
    /// Opens the store in a folder, making it when there is none.
    ///
    /// # Errors
    /// Fails when the folder cannot be written, or its database is damaged or of a newer version.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|cause| Error::file(folder, cause))?;
        let connection = database::open(&folder.join(database::FILE))?;
        let objects = Objects::open(&folder.join("objects"))?;
        Ok(Self {
            folder: folder.to_owned(),
            connection: Arc::new(Mutex::new(connection)),
            objects,
            actor: audit::actor(),
        })
    }

    /// Whether a folder holds a store; opening one would make it.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        folder.join(database::FILE).exists()
    }

    /// The same store for somebody who acts through this program: the audit log names them and not whoever runs it.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self {
            folder: self.folder.clone(),
            connection: Arc::clone(&self.connection),
            objects: self.objects.clone(),
            actor: actor.to_owned(),
        }
    }

    /// Who acts through it.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The folder of the store.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the whole database and every object, and lists what is damaged.
    ///
    /// # Errors
    /// Fails when the database cannot be read at all.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut problems = database::check(&self.connection())?;
        let connection = self.with_records()?;
        problems.extend(records::unreadable(&connection)?);
        drop(connection);
        for release in self.all_releases()? {
            for part in &release.manifest.parts {
                if let Err(error) = self.objects.get(&part.hash) {
                    problems.push(format!("release {}, part {}: {error}", release.id.short(), part.name));
                }
            }
        }
        for model in self.models()? {
            for file in &model.files {
                if let Err(error) = self.objects.get(&file.hash) {
                    problems.push(format!("model {}, file {}: {error}", model.name, file.path));
                }
            }
        }
        Ok(problems)
    }

    /// A mark that changes whenever releases, certificates or keys do, somebody was erased (the fifth of it), the truth of a probe became
    /// known, a trial began or ended, or something became of a new kind of input: what a server watches.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn mark(&self) -> Result<[i64; 9]> {
        let query =
            "SELECT (SELECT coalesce(max(number), 0) FROM switches), (SELECT count(*) FROM certificates),
                            (SELECT count(*) FROM keys), (SELECT count(revoked_at) FROM keys),
                            (SELECT coalesce(max(sequence), 0) FROM audit WHERE action = 'erased'),
                            (SELECT coalesce(max(sequence), 0) FROM audit WHERE action = 'key.changed'),
                            (SELECT coalesce(max(told), 0) FROM probes),
                            (SELECT count(*) + count(ended_at) FROM trials), (SELECT coalesce(max(changed), 0) FROM kinds)";
        let connection = self.connection();
        let mark = |row: &rusqlite::Row<'_>| {
            let mut marks = [0; 9];
            for (place, mark) in marks.iter_mut().enumerate() {
                *mark = row.get(place)?;
            }
            Ok(marks)
        };
        Ok(connection.query_row(query, [], mark)?)
    }

    /// The database with every record that somebody was told of.
    fn with_records(&self) -> Result<MutexGuard<'_, Connection>> {
        let left = journal::settled(&self.folder)?;
        let mut connection = self.connection();
        for journal in left {
            journal.take_over(&mut connection)?;
        }
        Ok(connection)
    }

    /// The database, in which the latest records may be missing.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
