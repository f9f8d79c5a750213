//! `sizewise keys`: who may call the server?

use super::{DONE, trained::store};
use crate::{
    cli::Keys,
    clock,
    error::Result,
    project::Project,
    screen::Screen,
    table::{Align, Table, shortened},
};
use serde::Serialize;
use sizewise_store::KeyInfo;

pub(super) fn run(project: &Project, what: &Keys, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    match what {
        Keys::Create { name } => {
            #[derive(Serialize)]
            struct Created {
                id: String,
                name: String,
                key: String,
            }
            let key = store.create_key(name)?;
            let created = Created { id: key.id, name: name.clone(), key: key.key };
            screen.result("keys create", &created, || {
                format!(
                    "{}\n\nThis is the only time it is shown. From now on every caller needs a key.\n",
                    created.key
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

fn text(keys: &[KeyInfo]) -> String {
    if keys.is_empty() {
        return "No keys. A server on this machine's own address needs none; any other does.\n".into();
    }
    let mut table = Table::new(&[
        ("id", Align::Left),
        ("for", Align::Left),
        ("made", Align::Left),
        ("revoked", Align::Left),
    ]);
    for key in keys {
        let revoked = key.revoked_at.map_or(String::new(), clock::minute);
        table.row([key.id.clone(), shortened(&key.name, 40), clock::minute(key.created_at), revoked]);
    }
    table.render()
}
