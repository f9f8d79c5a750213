//! Where is everything?
//!
//! A project is a folder with `tasks/NAME/task.toml` and, optionally, `sizewise.toml`. What the program keeps lies in
//! `.sizewise/` beside them.

use crate::{
    alerts::AlertSettings,
    commands::TeacherSettings,
    error::{Error, Result},
    learner::Learn,
    oidc::OidcSettings,
    prices,
    telemetry::TelemetrySettings,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{Task, did_you_mean, task::Budget};
use sizewise_models::remote::ProviderSettings;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Name of the settings file.
pub const SETTINGS_FILE: &str = "sizewise.toml";
/// Largest settings file, in bytes.
const SETTINGS_BYTES: u64 = 1 << 20;

/// A project on disk.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    settings: Settings,
}

/// The settings of a project; the command line goes before them.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How the server runs.
    pub serve: ServeSettings,
    /// Where models come from.
    pub models: ModelSettings,
    /// Which language model gives labels.
    pub teacher: TeacherSettings,
    /// Whose larger models may be asked what no local tier may answer.
    pub provider: BTreeMap<String, ProviderSettings>,
    /// Which providers may be called by name.
    pub relay: RelaySettings,
    /// Whose keys share limits.
    pub team: BTreeMap<String, TeamSettings>,
    /// Whose tokens are taken in place of keys.
    pub oidc: Option<OidcSettings>,
    /// Who is told when a promise changes.
    pub alerts: Option<AlertSettings>,
    /// What a release must keep before it answers, beside its promise.
    pub gates: GateSettings,
    /// When tasks learn again by themselves, by name.
    pub learn: BTreeMap<String, Learn>,
    /// Where traces go.
    pub telemetry: Option<TelemetrySettings>,
}

/// What all keys of a team together may ask for.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TeamSettings {
    /// Most requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute that larger models read and write.
    pub tokens_per_minute: Option<u32>,
    /// What larger models may cost.
    pub budget: Budget,
}

/// Which providers may be called by name, through the server, with whatever a program asks them.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RelaySettings {
    /// Their names; `model` of a request is one of them, or `NAME/MODEL`.
    pub providers: Vec<String>,
    /// What all such calls together may cost.
    pub budget: Budget,
    /// Whether calls and answers are recorded, so that `discover` finds what is asked again and again.
    pub observe: Observe,
    /// For how many days; 30 unless said.
    pub observe_days: Option<u32>,
    /// Most calls kept of one place in a program, the newest; 20,000 unless said.
    pub observe_rows: Option<u64>,
    /// Most megabytes of all calls that are kept; 512 unless said.
    pub observe_mb: Option<u64>,
}

/// What is recorded of calls that pass through.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Observe {
    /// Nothing.
    #[default]
    Off,
    /// Texts with personal data replaced.
    Redacted,
    /// Texts as they are.
    Full,
}

impl RelaySettings {
    /// For how many days calls are kept.
    #[must_use]
    pub fn days_kept(&self) -> u32 {
        self.observe_days.unwrap_or(30).clamp(1, 3_650)
    }
}

/// What a release must keep before it answers, beside its promise; what is not set is told and refuses nothing.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// Most megabytes that the models of a release may take in memory.
    pub max_memory_mb: Option<f64>,
    /// The licences under which models may be used, as model cards name them (`apache-2.0`).
    pub licences: Option<Vec<String>>,
    /// What makers said of models whose files name no licence, by the model's name.
    pub licence_of: BTreeMap<String, String>,
}

impl GateSettings {
    fn check(&self) -> Result<()> {
        if self.max_memory_mb.is_some_and(|most| !(most > 0.0 && most.is_finite())) {
            return Err(Error::usage(
                "[gates] max_memory_mb is a number above 0; leave it out to set no bound",
            ));
        }
        if self.licences.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::usage("[gates] licences names at least one; leave it out to allow all"));
        }
        match self.licence_of.iter().find(|(_, licence)| licence.trim().is_empty()) {
            Some((model, _)) => {
                Err(Error::usage(format!("[gates.licence_of] `{model}` has no licence's name")))
            }
            None => Ok(()),
        }
    }
}

/// Where models come from.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// The hub that `models pull owner/name` asks, or a mirror of it; nothing is fetched without one.
    pub hub: Option<String>,
}

/// How the server runs.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Address and port.
    pub bind: SocketAddr,
    /// Under which people reach it, as `https://sizewise.example`: an identity provider sends them back there.
    pub address: Option<String>,
    /// Worker threads; one per core when absent.
    pub workers: Option<usize>,
    /// Tasks without a certificate answer, and say so in every answer.
    pub allow_uncertified: bool,
    /// One line a request on standard error, without content.
    pub access_log: bool,
    /// Nothing of any input is kept, whatever task files say.
    pub zero_retention: bool,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8484)),
            address: None,
            workers: None,
            allow_uncertified: false,
            access_log: false,
            zero_retention: false,
        }
    }
}

impl Project {
    /// Finds the project: the folder named, or the nearest one upwards that looks like one, or the current folder.
    ///
    /// # Errors
    /// Fails when the folder named is none, or its settings cannot be read.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let root = match named {
            Some(folder) if !folder.is_dir() => {
                return Err(Error::usage(format!("{} is not a folder", folder.display())));
            }
            Some(folder) => folder.to_owned(),
            None => {
                let here = std::env::current_dir().map_err(|cause| Error::file(Path::new("."), cause))?;
                let looks_like_one =
                    |folder: &&Path| folder.join(SETTINGS_FILE).is_file() || folder.join("tasks").is_dir();
                here.ancestors().find(looks_like_one).unwrap_or(&here).to_owned()
            }
        };
        let settings = read_settings(&root.join(SETTINGS_FILE))?;
        Ok(Self { root, settings })
    }

    /// Whether the folder holds tasks or settings.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.root.join(SETTINGS_FILE).is_file() || self.root.join("tasks").is_dir()
    }

    /// The project's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The project's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the program keeps releases and records.
    #[must_use]
    pub fn store_folder(&self) -> PathBuf {
        self.root.join(".sizewise")
    }

    /// A task's folder.
    #[must_use]
    pub fn task_folder(&self, name: &str) -> PathBuf {
        self.root.join("tasks").join(name)
    }

    /// Reads a task's file.
    ///
    /// # Errors
    /// Fails when the project has no such task, or its file breaks a rule.
    pub fn task(&self, name: &str) -> Result<Task> {
        let known = self.task_names()?;
        // The name is looked up, never used as a path: it comes from outside.
        if !known.iter().any(|task| task == name) {
            return Err(self.unknown_task(name, &known));
        }
        let path = self.task_folder(name).join("task.toml");
        let task = sizewise_learn::dataset::read_task(&path)?;
        if task.name != name {
            return Err(Error::usage(format!(
                "{} calls its task `{}`; folder and name must agree",
                path.display(),
                task.name
            )));
        }
        Ok(task)
    }

    fn unknown_task(&self, name: &str, known: &[String]) -> Error {
        let hint = match did_you_mean(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => format!("make one: sizewise init {name} --from FILE"),
            None => format!("the tasks here are: {}", known.join(", ")),
        };
        Error::UnknownTask { name: name.to_owned(), folder: self.root.clone(), hint }
    }

    /// The names of the project's tasks, sorted.
    ///
    /// # Errors
    /// Fails when the folder cannot be read.
    pub fn task_names(&self) -> Result<Vec<String>> {
        let folder = self.root.join("tasks");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&folder, error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().join("task.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }
}

fn read_settings(path: &Path) -> Result<Settings> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(Error::file(path, error)),
        Ok(facts) if facts.len() > SETTINGS_BYTES => {
            return Err(Error::usage(format!("{} is larger than {SETTINGS_BYTES} bytes", path.display())));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|cause| Error::file(path, cause))?;
    let mut settings: Settings = toml::from_str(&text)
        .map_err(|error| Error::usage(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
    settings.gates.check()?;
    settings.learn.iter().try_for_each(|(task, learn)| learn.check(task))?;
    settings.provider.values_mut().for_each(prices::complete);
    settings.serve.address.as_deref().map_or(Ok(()), check_address)?;
    Ok(settings)
}

/// Whether an address is a scheme, a host and perhaps a port, and nothing else.
fn check_address(address: &str) -> Result<()> {
    let host = ["https://", "http://"].into_iter().find_map(|scheme| address.strip_prefix(scheme));
    let sign = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || b"-.:[]".contains(&sign);
    if host.is_some_and(|host| !host.is_empty() && host.bytes().all(sign)) {
        return Ok(());
    }
    Err(Error::usage(
        "[serve] address is written as \"https://HOST\" or \"https://HOST:PORT\", in small letters, without a path",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_looked_up_and_never_used_as_a_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tasks/support")).unwrap();
        std::fs::write(folder.path().join("tasks/support/task.toml"), "schema = 1").unwrap();
        std::fs::write(folder.path().join("task.toml"), "schema = 1").unwrap();
        let project = Project::find(Some(folder.path())).unwrap();
        assert!(matches!(project.task(".."), Err(Error::UnknownTask { .. })));
        let Err(Error::UnknownTask { hint, .. }) = project.task("suport") else { panic!("unknown") };
        assert_eq!(hint, "did you mean `support`?");
    }

    #[test]
    fn a_wrong_key_in_the_settings_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SETTINGS_FILE), "[serve]\nbnd = \"127.0.0.1:1\"\n").unwrap();
        assert!(Project::find(Some(folder.path())).unwrap_err().to_string().contains("bnd"));
    }

    #[test]
    fn people_reach_a_server_under_a_host_and_nothing_more() {
        for good in ["https://desk.example", "http://127.0.0.1:8484", "https://[::1]:8443"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for wrong in [
            "desk.example",
            "https://",
            "https://desk.example/",
            "https://Desk.example",
            "https://a@b",
            "ftp://a",
            "https://a\r\nb",
        ] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }
}
