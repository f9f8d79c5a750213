//! Which versions of a task exist, and which one is in force?
//!
//! A release is immutable: its name is the hash of its manifest, which names every part by hash. Certificates are
//! attached to it later. Which release is in force is one row in the database, so switching is one transaction.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids, trials,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sizewise_contract::{
    Certificate, ContentHash, Gate, GateResult, Task, certificate::Override, units::UnixMillis,
};

/// Version of the manifest.
const SCHEMA: u32 = 1;

/// What a release is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; now 1.
    pub schema: u32,
    /// The task's name.
    pub task: String,
    /// Hash of the contract.
    pub contract: ContentHash,
    /// The task file as it was when the release was made.
    pub task_file: String,
    /// Hash of the rows that the models were fitted and calibrated on.
    pub training_rows: ContentHash,
    /// Hash of the locked rows as they were then; whoever changes them trains again.
    pub locked_rows: ContentHash,
    /// The parts, by name.
    pub parts: Vec<Part>,
    /// When it was made.
    pub made_at: UnixMillis,
    /// The program that made it.
    pub made_by: String,
}

/// One part of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name within the release.
    pub name: String,
    /// Hash of its bytes.
    pub hash: ContentHash,
    /// Its size. `bytes`
    pub size: u64,
}

/// What a new release is made of.
#[derive(Debug, Clone, Copy)]
pub struct NewRelease<'a> {
    /// The task's file.
    pub task_file: &'a str,
    /// The task, as the file says.
    pub task: &'a Task,
    /// Hash of the rows that the models were fitted and calibrated on.
    pub training_rows: ContentHash,
    /// Hash of the locked rows, which nobody has looked at.
    pub locked_rows: ContentHash,
    /// The parts: names and bytes.
    pub parts: &'a [(String, Vec<u8>)],
    /// The program and its version.
    pub made_by: &'a str,
}

/// A release with what was proven about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its name: the hash of its manifest.
    pub id: ContentHash,
    /// What it is made of.
    pub manifest: Manifest,
    /// Its certificates, one per question that was put to the test.
    pub certificates: Vec<Certificate>,
}

/// One time at which a release was put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// The release.
    pub release: ContentHash,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: String,
}

impl Release {
    /// The certificate of a question under which answers may be given: proven, and refused by no gate that nobody overrode.
    #[must_use]
    pub fn certificate(&self, question: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|c| c.question == question && c.may_answer())
    }

    /// Hash of the models and their calibration.
    #[must_use]
    pub fn models(&self) -> ContentHash {
        models_hash(&self.manifest.parts)
    }
}

/// Hash of the parts of a release by name and content.
fn models_hash(parts: &[Part]) -> ContentHash {
    let mut builder = ContentHash::builder();
    for part in parts {
        builder.field(part.name.as_bytes());
        builder.field(part.hash.as_bytes());
    }
    builder.finish()
}

impl Store {
    /// Keeps a release. It is put in force at once unless one with a certificate is, and is whole: that one stays until the
    /// new one is certified too.
    ///
    /// # Errors
    /// Fails when it cannot be written; nothing of it is then in force.
    pub fn publish(&self, new: NewRelease<'_>) -> Result<Release> {
        let mut parts = Vec::with_capacity(new.parts.len());
        for (name, bytes) in new.parts {
            let hash = self.objects.put(bytes)?;
            parts.push(Part { name: name.clone(), hash, size: bytes.len() as u64 });
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            schema: SCHEMA,
            task: new.task.name.clone(),
            contract: new.task.contract_hash(),
            task_file: new.task_file.to_owned(),
            training_rows: new.training_rows,
            locked_rows: new.locked_rows,
            parts,
            made_at: ids::now(),
            made_by: new.made_by.to_owned(),
        };
        let text =
            serde_json::to_string(&manifest).map_err(|_| Error::Internal("a manifest has a JSON form"))?;
        let id = ContentHash::of(text.as_bytes());
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let new = transaction.execute(
            "INSERT INTO releases (id, task, manifest, stored_at, number) VALUES (?1, ?2, ?3, ?4,
             (SELECT coalesce(max(number), 0) + 1 FROM releases WHERE task = ?2))
             ON CONFLICT (id) DO NOTHING",
            params![id.to_string(), manifest.task, text, manifest.made_at.0],
        )?;
        if new > 0 {
            let detail = json!({
                "task": manifest.task, "contract": manifest.contract, "training_rows": manifest.training_rows,
                "locked_rows": manifest.locked_rows, "made_by": manifest.made_by,
            });
            let named = id.to_string();
            audit::append(&transaction, &self.actor, Act::new("release.made", &named, detail))?;
        }
        let in_force = current(&transaction, &manifest.task)?;
        let stays = match &in_force {
            Some(release) => {
                certificates(&transaction, release)?.iter().any(|c| c.may_answer())
                    && self.is_whole(&transaction, release)
            }
            None => false,
        };
        if !stays {
            switch(&transaction, &self.actor, (&manifest.task, &id), "trained")?;
        }
        transaction.commit()?;
        Ok(Release { id, manifest, certificates: Vec::new() })
    }

    fn is_whole(&self, connection: &rusqlite::Connection, id: &ContentHash) -> bool {
        let Ok(Some(release)) = load(connection, id) else { return false };
        release.manifest.parts.iter().all(|part| self.objects.get(&part.hash).is_ok())
    }

    /// The release of a task that is in force.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn in_force(&self, task: &str) -> Result<Option<Release>> {
        let connection = self.connection();
        match current(&connection, task)? {
            Some(id) => load(&connection, &id),
            None => Ok(None),
        }
    }

    /// The release of a task that was made last, in force or not.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn latest(&self, task: &str) -> Result<Option<Release>> {
        let connection = self.connection();
        let id = connection
            .query_row(
                "SELECT id FROM releases WHERE task = ?1 ORDER BY number DESC LIMIT 1",
                [task],
                hash_of,
            )
            .optional()?;
        id.map_or(Ok(None), |id| load(&connection, &id))
    }

    /// The tasks that have a release in force, by name.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn tasks(&self) -> Result<Vec<String>> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT DISTINCT task FROM switches ORDER BY task")?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(names)
    }

    pub(crate) fn all_releases(&self) -> Result<Vec<Release>> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT id FROM releases ORDER BY task, number")?;
        let ids = statement.query_map([], hash_of)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let releases = ids.iter().map(|id| load(&connection, id)).collect::<Result<Vec<_>>>()?;
        Ok(releases.into_iter().flatten().collect())
    }

    /// The releases of a task, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn releases(&self, task: &str) -> Result<Vec<Release>> {
        Ok(self.all_releases()?.into_iter().filter(|release| release.manifest.task == task).collect())
    }

    /// The release of a task whose name begins with `prefix`, four letters at least.
    ///
    /// # Errors
    /// Fails when there is none or more than one, or the database cannot be read.
    pub fn release(&self, task: &str, prefix: &str) -> Result<Release> {
        let named = |release: &Release| release.id.to_string().starts_with(prefix);
        let mut matching = self.releases(task)?.into_iter().filter(named);
        match (matching.next(), matching.next()) {
            (Some(only), None) if prefix.len() >= 4 => Ok(only),
            _ => Err(Error::UnknownRelease { task: task.to_owned(), name: prefix.to_owned() }),
        }
    }

    /// Which releases of a task were in force, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn history(&self, task: &str) -> Result<Vec<Switch>> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT release, at, reason FROM switches WHERE task = ?1 ORDER BY number")?;
        let switches = statement.query_map([task], |row| {
            Ok(Switch { release: hash_of(row)?, at: UnixMillis(row.get(1)?), reason: row.get(2)? })
        })?;
        Ok(switches.collect::<rusqlite::Result<_>>()?)
    }

    /// Puts an earlier release back in force: the one whose name begins with `to`, or the one before.
    ///
    /// # Errors
    /// Fails when there is no such release, or its parts are damaged; nothing is then changed.
    pub fn rollback(&self, task: &str, to: Option<&str>) -> Result<Release> {
        let wanted = match to {
            Some(prefix) => self.release(task, prefix)?,
            None => {
                let history = self.history(task)?;
                let now = history.last().map(|switch| switch.release);
                let earlier = history.iter().rev().find(|switch| Some(switch.release) != now);
                let earlier = earlier.ok_or_else(|| Error::NothingEarlier { task: task.to_owned() })?.release;
                load(&self.connection(), &earlier)?
                    .ok_or(Error::Internal("a release that was in force exists"))?
            }
        };
        self.check_parts(&wanted)?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        switch(&transaction, &self.actor, (task, &wanted.id), "rolled back")?;
        transaction.commit()?;
        Ok(wanted)
    }

    /// Puts a certified release in force, whatever is. With a reason, what its gates refuse is overridden, which is an act of its own in the
    /// audit log.
    ///
    /// # Errors
    /// Fails when nothing of it is certified, when a gate refuses and no reason is given, or when its parts are damaged; nothing is
    /// then changed.
    pub fn promote(&self, task: &str, name: &str, reason: Option<&str>) -> Result<Release> {
        let mut wanted = self.release(task, name)?;
        self.check_parts(&wanted)?;
        let no = |problem| Error::NotPromoted { release: wanted.id, problem };
        if !wanted.certificates.iter().any(|certificate| certificate.verdict.is_certified()) {
            return Err(no("none of its questions is certified"));
        }
        let refused = |c: &Certificate| c.verdict.is_certified() && !c.may_answer();
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_none() && wanted.certificates.iter().any(refused) {
            return Err(no("a gate refuses it, and no reason to override it was given"));
        }
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let named = wanted.id.to_string();
        let mut gates = Vec::new();
        for certificate in wanted.certificates.iter_mut().filter(|certificate| refused(certificate)) {
            let Some(reason) = reason else { continue };
            let refusing = certificate.gates.iter().filter(|gate| gate.result == GateResult::Refuse);
            gates.extend(refusing.map(|gate| json!({ "question": certificate.question, "gate": gate.name })));
            certificate.overridden =
                Some(Override { reason: reason.to_owned(), actor: self.actor.clone(), at: ids::now() });
            let text = serde_json::to_string(certificate)
                .map_err(|_| Error::Internal("a certificate has a JSON form"))?;
            transaction.execute(
                "UPDATE certificates SET certificate = ?3 WHERE release = ?1 AND question = ?2",
                params![named, certificate.question, text],
            )?;
        }
        if !gates.is_empty() {
            let detail = json!({ "task": task, "reason": reason, "gates": gates });
            audit::append(&transaction, &self.actor, Act::new("gate.overridden", &named, detail))?;
        }
        switch(&transaction, &self.actor, (task, &wanted.id), "promoted")?;
        transaction.commit()?;
        Ok(wanted)
    }

    /// Writes down what gates found when a release was looked at again: of every certified question those of the same name are replaced, others
    /// added. An override covers what was refused when it was given, so it falls where something else refuses now. Nothing is written of a
    /// release that answers callers and would stop: a look ends no service. Hands out the release as it was found.
    ///
    /// # Errors
    /// Fails when the database cannot be written; nothing is then changed.
    pub fn look_again(&self, release: &Release, found: &[(String, Vec<Gate>)]) -> Result<Release> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let mut now =
            Release { certificates: certificates(&transaction, &release.id)?, ..Release::clone(release) };
        let (mut changed, mut stops) = (Vec::new(), false);
        for certificate in now.certificates.iter_mut().filter(|one| one.verdict.is_certified()) {
            let Some((_, gates)) = found.iter().find(|(question, _)| *question == certificate.question)
            else {
                continue;
            };
            let before = certificate.clone();
            look_at(certificate, gates);
            stops |= before.may_answer() && !certificate.may_answer();
            if before != *certificate {
                changed.push((before, certificate.clone()));
            }
        }
        let named = release.id.to_string();
        let answers = current(&transaction, &release.manifest.task)? == Some(release.id)
            || trials::is_tried(&transaction, &release.manifest.task, &release.id)?;
        if changed.is_empty() || (answers && stops) {
            return Ok(now);
        }
        let mut told = Vec::new();
        for (before, certificate) in &changed {
            let text = serde_json::to_string(certificate)
                .map_err(|_| Error::Internal("a certificate has a JSON form"))?;
            transaction.execute(
                "UPDATE certificates SET certificate = ?3 WHERE release = ?1 AND question = ?2",
                params![named, certificate.question, text],
            )?;
            let result = |of: &Certificate, name| {
                of.gates.iter().find(|gate| gate.name == name).map(|gate| gate.result)
            };
            for gate in &certificate.gates {
                let earlier = result(before, gate.name);
                if earlier != Some(gate.result) {
                    told.push(json!({
                        "question": certificate.question, "gate": gate.name, "result": gate.result, "before": earlier,
                    }));
                }
            }
        }
        if !told.is_empty() {
            let detail = json!({ "task": release.manifest.task, "gates": told });
            audit::append(&transaction, &self.actor, Act::new("gate.looked_again", &named, detail))?;
        }
        transaction.commit()?;
        Ok(now)
    }

    /// Reads every part of a release.
    ///
    /// # Errors
    /// Fails when a part is missing or its bytes are not those that the manifest names.
    pub fn check_parts(&self, release: &Release) -> Result<()> {
        release.manifest.parts.iter().try_for_each(|part| self.objects.get(&part.hash).map(drop))
    }

    /// The bytes of a part of a release.
    ///
    /// # Errors
    /// Fails when the release has no such part, or its bytes are not those it is named after.
    pub fn part(&self, release: &Release, name: &str) -> Result<Vec<u8>> {
        let part = release.manifest.parts.iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| Error::Object {
            hash: release.id,
            problem: format!("the release has no part {name}"),
        })?;
        self.objects.get(&part.hash)
    }
}

/// Replaces a certificate's gates by those of the same name, and adds the others.
fn look_at(certificate: &mut Certificate, found: &[Gate]) {
    let mut refuses_anew = false;
    for gate in found {
        match certificate.gates.iter_mut().find(|own| own.name == gate.name) {
            Some(own) => {
                refuses_anew |= own.result != GateResult::Refuse && gate.result == GateResult::Refuse;
                own.clone_from(gate);
            }
            None => {
                refuses_anew |= gate.result == GateResult::Refuse;
                certificate.gates.push(gate.clone());
            }
        }
    }
    if refuses_anew {
        certificate.overridden = None;
    }
}

/// Puts a release in force, and writes it down.
pub(crate) fn switch(
    transaction: &Transaction<'_>,
    actor: &str,
    (task, release): (&str, &ContentHash),
    reason: &str,
) -> Result<()> {
    let before = current(transaction, task)?;
    if before == Some(*release) {
        return Ok(());
    }
    let named = release.to_string();
    transaction.execute(
        "INSERT INTO switches (task, release, at, reason) VALUES (?1, ?2, ?3, ?4)",
        params![task, named, ids::now().0, reason],
    )?;
    let detail = json!({ "task": task, "reason": reason, "before": before });
    audit::append(transaction, actor, Act::new("release.in_force", &named, detail))?;
    trials::follow(transaction, actor, task, release)
}

pub(crate) fn current(connection: &rusqlite::Connection, task: &str) -> Result<Option<ContentHash>> {
    let query = "SELECT release FROM switches WHERE task = ?1 ORDER BY number DESC LIMIT 1";
    Ok(connection.query_row(query, [task], hash_of).optional()?)
}

pub(crate) fn certificates(connection: &rusqlite::Connection, id: &ContentHash) -> Result<Vec<Certificate>> {
    let mut statement = connection
        .prepare_cached("SELECT certificate FROM certificates WHERE release = ?1 ORDER BY rowid")?;
    let texts = statement.query_map([id.to_string()], |row| row.get::<_, String>(0))?;
    texts.map(|text| serde_json::from_str(&text?).map_err(|error| unreadable(id, &error))).collect()
}

pub(crate) fn load(connection: &rusqlite::Connection, id: &ContentHash) -> Result<Option<Release>> {
    let text: Option<String> = connection
        .query_row("SELECT manifest FROM releases WHERE id = ?1", [id.to_string()], |row| row.get(0))
        .optional()?;
    let Some(text) = text else { return Ok(None) };
    if ContentHash::of(text.as_bytes()) != *id {
        return Err(Error::Object {
            hash: *id,
            problem: "its manifest is not the one it is named after".into(),
        });
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| unreadable(id, &error))?;
    if manifest.schema != SCHEMA {
        let problem = format!("its manifest has schema {}; this build reads {SCHEMA}", manifest.schema);
        return Err(Error::Object { hash: *id, problem });
    }
    Ok(Some(Release { id: *id, manifest, certificates: certificates(connection, id)? }))
}

fn unreadable(id: &ContentHash, error: &serde_json::Error) -> Error {
    Error::Object { hash: *id, problem: error.to_string() }
}

fn hash_of(row: &Row<'_>) -> rusqlite::Result<ContentHash> {
    hash_in(row, 0)
}

pub(crate) fn hash_in(row: &Row<'_>, column: usize) -> rusqlite::Result<ContentHash> {
    let text: String = row.get(column)?;
    ContentHash::parse(&text).ok_or(rusqlite::Error::InvalidQuery)
}
