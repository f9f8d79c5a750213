//! `sizewise erase` and `retain`: what is no longer kept, of whom and of when?

use super::{
    DONE,
    audit::kept,
    privacy::{Expired, expire},
};
use crate::{
    cli::Erase,
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use sizewise_store::{Erased, Whose};

/// Said where a server keeps the write-ahead log open for longer than the store waits.
const LATER: &str =
    "The write-ahead log is still being read; run `sizewise retain` in a minute to empty it.\n";

pub(super) fn run(project: &Project, arguments: &Erase, screen: &Screen) -> Result<u8> {
    let whose = match (&arguments.subject, &arguments.decision, &arguments.holding) {
        (Some(id), ..) => Whose::Subject(id.trim()),
        (_, Some(id), _) => Whose::Decision(id.trim()),
        (.., Some(text)) => Whose::Holding(text),
        _ => return Err(Error::usage("say whose: --subject, --decision or --holding")),
    };
    if matches!(whose, Whose::Subject("") | Whose::Decision("") | Whose::Holding("")) {
        return Err(Error::usage("what is empty names nobody"));
    }
    let erased = kept(project)?.erase(whose)?;
    screen.result("erase", &erased, || told(&erased));
    Ok(DONE)
}

fn told(erased: &Erased) -> String {
    let later = if erased.log_emptied { "" } else { LATER };
    let noted =
        format!("Entry {} of the audit log tells of it: note that number with the request.", erased.entry);
    if erased.records + erased.queued + erased.relayed + erased.entries_blanked == 0 {
        return format!("Nothing of that was kept. {noted}\n{later}");
    }
    let gold = match erased.gold {
        0 => String::new(),
        some => format!(", {some} of them answered by people"),
    };
    format!(
        "Erased, in every byte of the store: {} records, {} questions of the queue{gold}, {} relayed calls. {} entries of the audit log lost what they \
         said of the person.\n{noted} Tables that you made yourself (under tasks/, exports, answers of `batch`) and models that were \
         fitted on them are not touched.\n{later}",
        erased.records, erased.queued, erased.relayed, erased.entries_blanked
    )
}

/// Erases what tasks keep no longer.
pub(super) fn retain(project: &Project, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Retained {
        expired: Vec<Expired>,
        /// Whether no byte of them is left.
        clean: bool,
    }
    let store = kept(project)?;
    let expired = expire(project, &store)?;
    let retained = Retained { clean: store.clean(true)?, expired };
    screen.result("retain", &retained, || {
        let mut out: String = retained
            .expired
            .iter()
            .map(|one| format!("{}: {} rows older than {} days are erased\n", one.task, one.rows, one.days))
            .collect();
        if out.is_empty() {
            out = "Nothing is kept of any input.\n".into();
        }
        out + if retained.clean { "" } else { LATER }
    });
    Ok(DONE)
}
