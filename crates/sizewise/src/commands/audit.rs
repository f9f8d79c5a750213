//! `sizewise audit`: what was done here, and is the log of it the one that was written?

use super::{DONE, trained::store};
use crate::{
    cli::{Audit, Verify},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, shortened},
};
use serde::Serialize;
use sizewise_contract::Code;
use sizewise_store::{AuditEntry, AuditReport, Finding, Head, InclusionProof, Store};
use std::{fmt::Write, path::Path};

/// Findings that are told one by one; a log that was written anew has as many as entries.
const TOLD: usize = 20;

pub(super) fn run(project: &Project, what: &Audit, screen: &Screen) -> Result<u8> {
    if !matches!(what, Audit::Export { .. } | Audit::Prove { .. }) {
        screen.without_file()?;
    }
    match what {
        Audit::List { limit } => list(&kept(project)?.audit()?, *limit, screen),
        Audit::Head => head(&kept(project)?.audit_head()?, screen),
        Audit::Verify(arguments) => verify(project, arguments, screen),
        Audit::Prove { entry } => prove(&kept(project)?, *entry, screen),
        Audit::Export { force } => export(&kept(project)?.audit()?, *force, screen),
    }
}

/// What is wrong with the log of a store, as far as it can be seen without a head of before.
pub(super) fn findings(store: &Store) -> Result<Vec<Finding>> {
    Ok([AuditReport::of(&store.audit()?, None, None).findings, guards(store)?].concat())
}

pub(crate) fn guards(store: &Store) -> Result<Vec<Finding>> {
    let gone = |guard: &str| Finding::GuardGone { guard: guard.to_owned() };
    Ok(store.missing_guards()?.into_iter().map(gone).collect())
}

/// The project's store, which looking must not make.
pub(super) fn kept(project: &Project) -> Result<Store> {
    if !Store::exists(&project.store_folder()) {
        return Err(Error::usage(format!("nothing was done yet in {}", project.root().display())));
    }
    store(project)
}

fn list(entries: &[AuditEntry], limit: usize, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Listed<'a> {
        size: usize,
        entries: &'a [AuditEntry],
    }
    let latest = entries.get(entries.len().saturating_sub(limit)..).unwrap_or_default();
    let listed = Listed { size: entries.len(), entries: latest };
    screen.result("audit list", &listed, || {
        let mut table = Table::new(&[
            ("entry", Align::Right),
            ("when", Align::Left),
            ("who", Align::Left),
            ("did", Align::Left),
            ("to", Align::Left),
            ("more", Align::Left),
        ]);
        for entry in latest {
            let erased = entry.commitment.is_some() && entry.personal.is_none();
            let more = match &entry.personal {
                Some(said) => format!("{} {said}", entry.detail),
                None if erased => format!("{} (erased)", entry.detail),
                None => entry.detail.to_string(),
            };
            table.row([
                entry.sequence.to_string(),
                clock::minute(entry.at),
                entry.actor.clone(),
                entry.action.clone(),
                shortened(&entry.object, 14),
                shortened(&more, 100),
            ]);
        }
        format!("{}\n{} of {} entries\n", table.render(), latest.len(), entries.len())
    });
    Ok(DONE)
}

fn head(head: &Head, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Told<'a> {
        head: String,
        #[serde(flatten)]
        parts: &'a Head,
    }
    screen.result("audit head", &Told { head: head.to_string(), parts: head }, || format!("{head}\n"));
    Ok(DONE)
}

fn verify(project: &Project, arguments: &Verify, screen: &Screen) -> Result<u8> {
    let entries = match &arguments.file {
        Some(file) => match read(file)? {
            Read::Log(entries) => entries,
            Read::Proof(proof) => return verify_proof(&proof, arguments, screen),
        },
        None => kept(project)?.audit()?,
    };
    let earlier = match arguments.earlier.as_deref().map(read).transpose()? {
        Some(Read::Proof(_)) => {
            return Err(Error::usage("--earlier takes an export, not a proof of one entry"));
        }
        Some(Read::Log(entries)) => Some(entries),
        None => None,
    };
    let mut report = AuditReport::of(&entries, arguments.head.as_ref(), earlier.as_deref());
    if arguments.file.is_none() {
        report.findings.extend(guards(&kept(project)?)?);
    }
    screen.result("audit verify", &report, || told(&report, screen));
    Ok(if report.findings.is_empty() { DONE } else { 1 })
}

fn told(report: &AuditReport, screen: &Screen) -> String {
    let mut out = String::new();
    for finding in report.findings.iter().take(TOLD) {
        let _ = writeln!(out, "{}  {finding}", screen.bad("wrong"));
    }
    if report.findings.len() > TOLD {
        let _ = writeln!(out, "… and {} more", report.findings.len() - TOLD);
    }
    let erased = match report.erased {
        0 => String::new(),
        some => format!(", {some} without what they said of a person, which was erased"),
    };
    let verdict = match (report.findings.is_empty(), report.anchored) {
        (false, _) => "this is not the log that was written",
        (true, true) => "every entry is the one that was written",
        (true, false) => {
            "every entry is whole; whether all of it was written anew, or its end cut off, says a head of before (--head) or an earlier export (--earlier)"
        }
    };
    let _ = writeln!(out, "{} entries{erased}: {verdict}\nhead {}", report.head.size, report.head);
    out
}

fn verify_proof(proof: &InclusionProof, arguments: &Verify, screen: &Screen) -> Result<u8> {
    if arguments.earlier.is_some() {
        return Err(Error::usage("a proof of one entry is compared with a --head, not with an export"));
    }
    #[derive(Serialize)]
    struct Proven<'a> {
        entry: &'a AuditEntry,
        head: String,
        anchored: bool,
        holds: bool,
    }
    let head = arguments.head.unwrap_or(proof.head);
    let anchored = arguments.head.is_some();
    let proven = Proven { entry: &proof.entry, head: head.to_string(), anchored, holds: proof.holds(&head) };
    screen.result("audit verify", &proven, || {
        let verdict = if proven.holds { "is" } else { "is not" };
        let own = match anchored {
            true => "",
            false => " (the proof's own: compare it with one that you wrote down, with --head)",
        };
        format!("Entry {} {verdict} in the log of head {head}{own}\n", proof.entry.sequence)
    });
    Ok(if proven.holds { DONE } else { 1 })
}

fn prove(store: &Store, entry: u64, screen: &Screen) -> Result<u8> {
    let entries = store.audit()?;
    let proof = InclusionProof::of(&entries, entry)
        .ok_or_else(|| Error::usage(format!("the log has {} entries, counted from 0", entries.len())))?;
    if let Some(file) = screen.file() {
        write(&file, &line(&proof)?, false)?;
    }
    screen.result("audit prove", &proof, || {
        let path: Vec<String> = proof.path.iter().map(|hash| format!("  {hash}\n")).collect();
        format!(
            "Entry {} ({}) has the hash {}; with these, the lowest first, it leads to the head {}\n{}",
            entry,
            proof.entry.action,
            proof.entry.leaf,
            proof.head,
            path.concat()
        )
    });
    Ok(DONE)
}

fn export(entries: &[AuditEntry], force: bool, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Exported {
        file: String,
        head: String,
    }
    let file = screen.file().ok_or_else(|| Error::usage("say where to: -o audit.jsonl"))?;
    let lines = entries.iter().map(line).collect::<Result<Vec<_>>>()?;
    write(&file, &lines.concat(), force)?;
    let head = AuditReport::of(entries, None, None).head.to_string();
    let exported = Exported { file: file.display().to_string(), head };
    screen.result("audit export", &exported, || {
        format!("{} entries in {}; their head is {}\n", entries.len(), exported.file, exported.head)
    });
    Ok(DONE)
}

fn line<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n")
        .map_err(|_| sizewise_engine::Error::Internal("an entry has a JSON form").into())
}

fn write(file: &Path, text: &str, force: bool) -> Result<()> {
    if file.exists() && !force {
        let hint = "choose another name, or replace it with --force".into();
        return Err(Error::Exists { path: file.to_owned(), hint });
    }
    std::fs::write(file, text).map_err(|cause| Error::file(file, cause))
}

/// What a file holds.
enum Read {
    Log(Vec<AuditEntry>),
    Proof(Box<InclusionProof>),
}

fn read(file: &Path) -> Result<Read> {
    let text = std::fs::read_to_string(file).map_err(|cause| Error::file(file, cause))?;
    if let Ok(proof) = serde_json::from_str(&text) {
        return Ok(Read::Proof(proof));
    }
    let entry = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::Policy {
            message: format!(
                "{}, line {}: this is no entry of an audit log: {error}",
                file.display(),
                number + 1
            ),
            code: Code::StoreDamaged,
            hint: "it was changed or put in; export the log again and compare".into(),
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(Read::Log(lines.map(entry).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn verified(file: &Path, head: Option<Head>) -> Result<u8> {
        let arguments = Verify { file: Some(file.to_owned()), head, earlier: None };
        verify(&Project::find(Some(file.parent().unwrap())).unwrap(), &arguments, &Screen::silent())
    }

    #[test]
    fn exports_and_proofs_are_verified_without_a_project_and_changed_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("elsewhere")).unwrap();
        let (key, file) = (
            store.create_key("gateway", &sizewise_store::Rights::default()).unwrap(),
            folder.path().join("log.jsonl"),
        );
        store.revoke_key(&key.id).unwrap();
        let head = store.audit_head().unwrap();
        let lines: Vec<String> = store.audit().unwrap().iter().map(|entry| line(entry).unwrap()).collect();
        let outcome = |text: String, head: Option<Head>| {
            write(&file, &text, true).unwrap();
            verified(&file, head)
        };
        assert_eq!(outcome(lines.concat(), Some(head)).unwrap(), DONE);
        assert_eq!(outcome(lines.concat().replace("key.revoked", "key.made"), None).unwrap(), 1);
        assert_eq!(outcome(lines[..2].concat(), None).unwrap(), DONE);
        assert_eq!(outcome(lines[..2].concat(), Some(head)).unwrap(), 1);
        let error = outcome(lines.concat() + "{\"sequence\":3}", None).unwrap_err();
        assert!(error.to_string().contains("line 4"), "{error}");
        let proof = InclusionProof::of(&store.audit().unwrap(), 1).unwrap();
        assert_eq!(outcome(line(&proof).unwrap(), Some(head)).unwrap(), DONE);
        assert_eq!(outcome(line(&proof).unwrap().replace("key.made", "key.revoked"), Some(head)).unwrap(), 1);
        let other = Head { size: 2, root: head.root };
        assert_eq!(outcome(line(&proof).unwrap(), Some(other)).unwrap(), 1);
    }
}
