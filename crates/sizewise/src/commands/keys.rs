//! `sizewise keys`: who may call the server, and for what?

use super::{DONE, trained::store};
use crate::{
    cli::{KeyRights, KeyRole, Keys},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, shortened},
};
use serde::Serialize;
use sizewise_contract::{Code, did_you_mean, units::Dollars};
use sizewise_store::{KeyInfo, Rights, Role};

pub(super) fn run(project: &Project, what: &Keys, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    match what {
        Keys::Create { name, rights } => {
            #[derive(Serialize)]
            struct Created {
                id: String,
                name: String,
                rights: Rights,
                key: String,
            }
            let rights = changed(Rights::default(), rights, project)?;
            let key = store.create_key(name, &rights)?;
            let created = Created { id: key.id, name: name.clone(), rights, key: key.key };
            screen.result("keys create", &created, || {
                format!(
                    "{}\n\nThis is the only time it is shown. From now on every caller needs a key.\n",
                    created.key
                )
            });
        }
        Keys::Change { id, rights } => {
            #[derive(Serialize)]
            struct Changed<'a> {
                id: &'a str,
                rights: Rights,
            }
            let keys = store.keys()?;
            let before = keys.into_iter().find(|key| key.id == *id && key.revoked_at.is_none());
            let before = before.ok_or_else(|| sizewise_store::Error::UnknownKey { id: id.clone() })?;
            let rights = changed(before.rights, rights, project)?;
            store.change_key(id, &rights)?;
            let changed = Changed { id, rights };
            screen.result("keys change", &changed, || {
                format!(
                    "Key {id} may: {}; running servers notice within a second.\n",
                    may(&changed.rights).join("; ")
                )
            });
        }
        Keys::List => {
            #[derive(Serialize)]
            struct Listed {
                keys: Vec<KeyInfo>,
            }
            let listed = Listed { keys: store.keys()? };
            screen.result("keys list", &listed, || text(&listed.keys));
        }
        Keys::Revoke { id } => {
            #[derive(Serialize)]
            struct Revoked<'a> {
                revoked: &'a str,
            }
            store.revoke_key(id)?;
            screen.result("keys revoke", &Revoked { revoked: id }, || {
                format!("Key {id} is revoked; running servers notice within a second.\n")
            });
        }
    }
    Ok(DONE)
}

/// Rights with what the command line changes in them. Names that nobody has are most likely slips of the pen.
fn changed(mut rights: Rights, given: &KeyRights, project: &Project) -> Result<Rights> {
    let settings = project.settings();
    if let Some(role) = given.role {
        rights.role = match role {
            KeyRole::Caller => Role::Caller,
            KeyRole::Monitor => Role::Monitor,
            KeyRole::Reviewer => Role::Reviewer,
            KeyRole::Operator => Role::Operator,
        };
    }
    if let Some(names) = &given.tasks {
        rights.tasks = listed(names, "task", &project.task_names()?)?;
    }
    if let Some(names) = &given.models {
        rights.models = listed(names, "provider under [relay]", &settings.relay.providers)?;
    }
    if let Some(team) = &given.team {
        let known: Vec<String> = settings.team.keys().cloned().collect();
        rights.team = match team.as_str() {
            "none" => None,
            name => Some(find(name, "team", &known)?.to_owned()),
        };
    }
    let rate = |given: Option<u32>, before: Option<u32>| match given {
        Some(0) => None,
        given => given.or(before),
    };
    rights.requests_per_minute = rate(given.requests_per_minute, rights.requests_per_minute);
    rights.tokens_per_minute = rate(given.tokens_per_minute, rights.tokens_per_minute);
    let budget = &mut rights.budget;
    for (limit, given) in [
        (&mut budget.usd_per_day, given.usd_per_day),
        (&mut budget.usd_per_month, given.usd_per_month),
        (&mut budget.usd_total, given.usd_total),
    ] {
        *limit = given.map_or(*limit, |given| given.0);
    }
    Ok(rights)
}

/// The only names that are allowed; none where all are.
fn listed(names: &[String], what: &str, known: &[String]) -> Result<Option<Vec<String>>> {
    match names {
        [all] if all == "all" => Ok(None),
        [none] if none == "none" => Ok(Some(Vec::new())),
        names => names
            .iter()
            .map(|name| find(name, what, known).map(str::to_owned))
            .collect::<Result<_>>()
            .map(Some),
    }
}

fn find<'a>(name: &'a str, what: &str, known: &[String]) -> Result<&'a str> {
    if known.iter().any(|known| known == name) {
        return Ok(name);
    }
    let hint = match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "there is none yet".into(),
        None => format!("there are: {}", known.join(", ")),
    };
    Err(Error::Policy { message: format!("no {what} is called `{name}`"), code: Code::RequestInvalid, hint })
}

fn text(keys: &[KeyInfo]) -> String {
    if keys.is_empty() {
        return "No keys. A server on this machine's own address needs none; any other does.\n".into();
    }
    let mut table = Table::new(&[
        ("id", Align::Left),
        ("for", Align::Left),
        ("may", Align::Left),
        ("made", Align::Left),
        ("revoked", Align::Left),
    ]);
    for key in keys {
        let revoked = key.revoked_at.map_or(String::new(), clock::minute);
        let may = may(&key.rights).join("; ");
        table.row([key.id.clone(), shortened(&key.name, 40), may, clock::minute(key.created_at), revoked]);
    }
    table.render()
}

/// What a key may do, in words.
fn may(rights: &Rights) -> Vec<String> {
    let among = |names: &Option<Vec<String>>, what: &str| match names.as_deref() {
        None => format!("every {what}"),
        Some([]) => format!("no {what}"),
        Some(names) => names.join(", "),
    };
    let mut may = match rights.role {
        Role::Monitor => return vec!["read the metrics".into()],
        Role::Reviewer => return vec![format!("answer what waits of {}", among(&rights.tasks, "task"))],
        Role::Caller => {
            vec![format!("ask {} and {}", among(&rights.tasks, "task"), among(&rights.models, "provider"))]
        }
        Role::Operator => vec![format!(
            "ask {} and {}, read the metrics",
            among(&rights.tasks, "task"),
            among(&rights.models, "provider")
        )],
    };
    may.extend(rights.team.as_ref().map(|team| format!("in team {team}")));
    may.extend(rights.requests_per_minute.map(|most| format!("{most} requests a minute")));
    may.extend(rights.tokens_per_minute.map(|most| format!("{most} tokens a minute")));
    let dollars = |most: Option<Dollars>, period: &str| most.map(|most| format!("{} {period}", most.0));
    may.extend(dollars(rights.budget.usd_per_day, "a day"));
    may.extend(dollars(rights.budget.usd_per_month, "a month"));
    may.extend(dollars(rights.budget.usd_total, "in all"));
    may
}
