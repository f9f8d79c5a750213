//! May these texts be sent to that server?
//!
//! Two people have to agree before anything leaves: whoever wrote the contract, with `may_leave`, and whoever calls the command,
//! with the provider's terms. Both are asked before the first connection.

use crate::{
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{Code, Task, task::MayLeave};
use sizewise_engine::{can_redact, redact};
use sizewise_models::remote::Chat;
use std::io::Write;

/// Name of the file that remembers whose terms were accepted, in the project's store.
const TERMS_FILE: &str = "teacher-terms.jsonl";

#[derive(Serialize, Deserialize)]
struct Accepted {
    provider: String,
    accepted: String,
}

/// What leaves of a text.
pub(in crate::commands) type Sent = fn(&str) -> String;

/// What the contract lets go.
pub(in crate::commands) fn permitted(task: &Task, chat: &Chat) -> Result<Sent> {
    match task.privacy.may_leave {
        _ if chat.is_local() => Ok(str::to_owned),
        MayLeave::Yes => Ok(str::to_owned),
        MayLeave::Redacted if can_redact() => Ok(redact),
        MayLeave::Redacted | MayLeave::Never => Err(Error::Policy {
            message: format!("the texts of `{}` may not leave for {}", task.name, chat.host()),
            code: Code::MayNotLeave,
            hint: format!(
                "a server on this machine may have them; else set may_leave = \"redacted\" or \"yes\" under [privacy] in tasks/{}/task.toml",
                task.name
            ),
        }),
    }
}

/// Makes sure that the provider's terms were accepted, now or earlier; says what they are about once.
pub(in crate::commands) fn terms(
    project: &Project,
    chat: &Chat,
    accept: bool,
    screen: &Screen,
) -> Result<()> {
    let path = project.store_folder().join(TERMS_FILE);
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let earlier = known.lines().filter_map(|line| serde_json::from_str::<Accepted>(line).ok());
    if earlier.into_iter().any(|accepted| accepted.provider == chat.host()) {
        return Ok(());
    }
    if !accept {
        return Err(Error::Policy {
            message: format!(
                "the terms of {} were not accepted yet, so nothing was sent. Many providers, and licences of many models, restrict training other models on what theirs say",
                chat.host()
            ),
            code: Code::MayNotLeave,
            hint: "read them; where they allow it, call again with --accept-terms (asked once for each provider)".into(),
        });
    }
    let accepted = Accepted {
        provider: chat.host().to_owned(),
        accepted: clock::date(u64::try_from(clock::now().0 / 1_000).unwrap_or(0)),
    };
    let folder = project.store_folder();
    std::fs::create_dir_all(&folder).map_err(|cause| Error::file(&folder, cause))?;
    let line = serde_json::to_string(&accepted).map_err(|error| Error::file(&path, error.into()))?;
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|cause| Error::file(&path, cause))?;
    writeln!(file, "{line}").and_then(|()| file.sync_all()).map_err(|cause| Error::file(&path, cause))?;
    screen.remark(&format!("noted in {}: the terms of {} are accepted", path.display(), chat.host()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_leaves_that_the_contract_keeps() {
        let task = |rule: &str| {
            Task::parse(&format!("schema = 1\nname = \"t\"\n[[question]]\nname = \"q\"\ntype = \"predicate\"\n[privacy]\nmay_leave = \"{rule}\"\n")).unwrap()
        };
        let far = Chat::new("https://host.example/v1", None, Duration::from_secs(1)).unwrap();
        let near = Chat::new("http://127.0.0.1:9/v1", None, Duration::from_secs(1)).unwrap();
        let text = "call 0301234567";
        assert!(permitted(&task("never"), &far).is_err());
        assert_eq!(permitted(&task("never"), &near).unwrap()(text), text);
        assert_eq!(permitted(&task("redacted"), &far).unwrap()(text), "call <NUMBER_1>");
        assert_eq!(permitted(&task("yes"), &far).unwrap()(text), text);
    }

    #[test]
    fn terms_are_accepted_once_for_each_provider() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::find(Some(folder.path())).unwrap();
        let chat =
            |host: &str| Chat::new(&format!("https://{host}/v1"), None, Duration::from_secs(1)).unwrap();
        let asked = |host: &str, accept| terms(&project, &chat(host), accept, &Screen::silent());
        assert!(asked("one.example", false).unwrap_err().to_string().contains("one.example"));
        asked("one.example", true).unwrap();
        asked("one.example", false).unwrap();
        assert!(asked("two.example", false).is_err());
    }
}
