//! When does a task learn again by itself?
//!
//! The server looks, and the work is done by `sizewise renew` in a process of its own, at a low priority: whatever becomes of that, answers
//! are given on. One runs at a time. What was interrupted goes on where it was, as a renewal that somebody typed does.

use crate::{
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{PromiseState, units::UnixMillis};
use sizewise_store::{RenewalInfo, Store};
use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How often it is looked whether a task is to learn.
const LOOK: Duration = Duration::from_secs(10);
/// How long nothing is begun after a renewal, however it ended.
const REST: Duration = Duration::from_secs(60);
/// Times that are tried in a row after an interruption, before a pause of [`CALM_MS`].
const TRIES: usize = 3;
/// Interruptions in a row that are looked back over.
const BACK: usize = 64;
/// A renewal that a doubt began, or that was interrupted again and again, is not begun again for so long.
const CALM_MS: i64 = 3_600_000;
const HOUR_MS: i64 = 3_600_000;

/// When a running server lets a task learn again by itself; never unless said.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learn {
    /// After so long, as `7d` or `12h`, where people have answered something since.
    pub every: Option<String>,
    /// After so many answers of people.
    pub after_labels: Option<u32>,
    /// When a promise is in doubt or broken, and people have answered something since.
    pub when_doubted: bool,
    /// Whether what comes of it is put in force.
    pub promote: LearnPromote,
}

/// What becomes of a release that a task made by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnPromote {
    /// It waits for `sizewise promote`, however it is certified.
    #[default]
    ByHand,
    /// It is put in force once it is certified, as one that somebody trained.
    Certified,
}

impl Learn {
    /// Whether anything lets the task learn again by itself.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.every.is_some() || self.after_labels.is_some() || self.when_doubted
    }

    /// How long it waits between two times. `milliseconds`
    #[must_use]
    pub fn every_ms(&self) -> Option<i64> {
        let text = self.every.as_deref()?.trim();
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let number: i64 = number.parse().ok().filter(|number| (1..=8_784).contains(number))?;
        number.checked_mul(unit)
    }

    /// Whether the settings can be meant so.
    ///
    /// # Errors
    /// Names the key that cannot.
    pub(crate) fn check(&self, task: &str) -> Result<()> {
        if self.every.is_some() && self.every_ms().is_none() {
            return Err(Error::usage(format!(
                "[learn.{task}] every: a time is written as \"7d\" or \"12h\""
            )));
        }
        if self.after_labels == Some(0) {
            return Err(Error::usage(format!(
                "[learn.{task}] after_labels must be 1 or more; leave it out for never"
            )));
        }
        Ok(())
    }
}

/// Begins renewals, one after the other.
#[derive(Debug)]
pub(crate) struct Learner<'p> {
    project: &'p Project,
    names: &'p [String],
    /// When it is looked again.
    next: Option<Instant>,
    running: Option<(String, Child)>,
}

impl<'p> Learner<'p> {
    pub(crate) fn new(project: &'p Project, names: &'p [String]) -> Self {
        Self { project, names, next: None, running: None }
    }

    /// Begins what is due, and says what ended.
    pub(crate) fn look(&mut self, store: &Store, screen: &Screen) {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + LOOK);
        if let Some((task, child)) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => {
                    let ended = store.renewals(task, 1).ok().and_then(|found| found.into_iter().next());
                    let told = ended.map_or("ended".to_owned(), |ended| told(&ended));
                    screen.remark(&format!("{task} learnt again: {told}"));
                    self.running = None;
                    self.next = Some(Instant::now() + REST);
                    return;
                }
            }
        }
        for name in self.names {
            match self.begin(store, name) {
                Ok(None) => {}
                Ok(Some((why, child))) => {
                    screen.remark(&format!("{name} learns again, as {why}"));
                    self.running = Some((name.clone(), child));
                    return;
                }
                Err(error) => screen.remark(&format!("{name} does not learn by itself: {error}")),
            }
        }
    }

    fn begin(&self, store: &Store, name: &str) -> Result<Option<(String, Child)>> {
        let Some(why) = due(self.project, store, name)? else { return Ok(None) };
        let program = std::env::current_exe()
            .map_err(|cause| Error::file(std::path::Path::new("/proc/self/exe"), cause))?;
        let threads =
            std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1)).to_string();
        let spawn = |mut command: Command| {
            command
                .args(["--quiet", "--project"])
                .arg(self.project.root())
                .args(["renew", name, "--threads", &threads, "--because", &why])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let mut nice = Command::new("nice");
        nice.args(["-n", "10"]).arg(&program);
        // Where there is no such program, it runs as any other.
        let child = spawn(nice).or_else(|_| spawn(Command::new(&program)));
        let child = child.map_err(|cause| Error::file(&program, cause))?;
        Ok(Some((why, child)))
    }
}

impl Drop for Learner<'_> {
    /// What is cut off goes on when the server is there again.
    fn drop(&mut self) {
        if let Some((_, child)) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is said of a task.
pub(crate) fn of(project: &Project, name: &str) -> Learn {
    project.settings().learn.get(name).cloned().unwrap_or_default()
}

/// How a renewal ended, in one line.
pub(crate) fn told(renewal: &RenewalInfo) -> String {
    let release = renewal.release.as_ref().and_then(|release| release.get(..12));
    let made = release.map_or(String::new(), |release| format!(", release {release}"));
    let more = renewal.told.as_ref().map_or(String::new(), |told| format!(": {told}"));
    format!("{}{made}{more}", renewal.state.replace('_', " "))
}

/// Renewals as whoever does not run the server is told of them: why one failed may name files.
pub(crate) fn for_callers(mut renewals: Vec<RenewalInfo>) -> Vec<RenewalInfo> {
    for failed in renewals.iter_mut().filter(|one| one.state == "failed") {
        failed.told = Some("whoever runs the server finds the reason in the console, under Releases".into());
    }
    renewals
}

/// Why a task is to learn again now, if it is.
fn due(project: &Project, store: &Store, name: &str) -> Result<Option<String>> {
    let Some(learn) = project.settings().learn.get(name) else { return Ok(None) };
    if !learn.is_on() {
        return Ok(None);
    }
    // Without a certificate in force, training would be put in force as it is: that is for people to begin.
    let Some(release) = store.in_force(name)? else { return Ok(None) };
    if !release.certificates.iter().any(|certificate| certificate.may_answer()) {
        return Ok(None);
    }
    let before = store.renewals(name, BACK)?;
    if store.renewal_runs()? {
        return Ok(None);
    }
    // What an interrupted one was to learn from is still to be learnt from.
    let interrupted = before.iter().take_while(|one| one.state == "interrupted").count();
    let passed = |since: UnixMillis| clock::now().0 - since.0;
    let settled = before.get(interrupted);
    let since = settled.map_or(release.manifest.made_at, |last| last.begun_at);
    let facts = Facts {
        labels: store.answered_since(name, since)?,
        doubted: learn.when_doubted && doubted(store, name)?,
        passed_ms: passed(since),
        renewed: settled.is_some(),
        interrupted,
        rested_ms: before.first().map_or(0, |last| passed(last.begun_at)),
    };
    Ok(reason(learn, &facts))
}

fn doubted(store: &Store, name: &str) -> Result<bool> {
    let (_, standings) = sizewise_engine::standings(store, name)?;
    Ok(standings.iter().any(|standing| standing.state != PromiseState::Kept))
}

/// What is known of a task since a renewal of it came to its end.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// Answers of people.
    labels: u64,
    doubted: bool,
    passed_ms: i64,
    renewed: bool,
    /// Renewals in a row that were interrupted since.
    interrupted: usize,
    /// Since the last of them was begun.
    rested_ms: i64,
}

/// Without a new answer of a person nothing could be learnt; what was interrupted had some.
fn reason(learn: &Learn, facts: &Facts) -> Option<String> {
    let Facts { labels, doubted, passed_ms, renewed, interrupted, rested_ms } = *facts;
    if interrupted > 0 {
        return (interrupted < TRIES || rested_ms >= CALM_MS).then(|| "it was interrupted".into());
    }
    if labels == 0 {
        return None;
    }
    if doubted && (!renewed || passed_ms >= CALM_MS) {
        return Some("its promise is in doubt".into());
    }
    if learn.after_labels.is_some_and(|after| labels >= u64::from(after)) {
        return Some(format!("people gave {labels} answers since"));
    }
    let every = learn.every_ms()?;
    (passed_ms >= every).then(|| format!("{} hours have passed", passed_ms / HOUR_MS))
}

/// Since when a task waits, for those who look.
pub(crate) fn waits(learn: &Learn) -> String {
    let parts = [
        learn.every.as_ref().map(|every| format!("every {every}")),
        learn.after_labels.map(|after| format!("after {after} answers of people")),
        learn.when_doubted.then(|| "when its promise is in doubt".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "never: [learn.TASK] in sizewise.toml says when (every = \"7d\", after_labels = 500, when_doubted = true)".into(),
        false => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_learns_when_it_was_said_to_and_something_is_new() {
        let learn = Learn {
            every: Some("7d".into()),
            after_labels: Some(50),
            when_doubted: true,
            ..Learn::default()
        };
        let facts = Facts {
            labels: 10,
            doubted: false,
            passed_ms: 0,
            renewed: true,
            interrupted: 0,
            rested_ms: CALM_MS,
        };
        let why = |facts: Facts| reason(&learn, &facts);
        assert_eq!(why(facts), None);
        assert_eq!(why(Facts { labels: 50, ..facts }).as_deref(), Some("people gave 50 answers since"));
        assert_eq!(
            why(Facts { passed_ms: 7 * 86_400_000, ..facts }).as_deref(),
            Some("168 hours have passed")
        );
        assert_eq!(why(Facts { passed_ms: 7 * 86_400_000, labels: 0, ..facts }), None);
        // A doubt that the last renewal could not lift is not tried again at once.
        assert_eq!(why(Facts { doubted: true, ..facts }), None);
        assert!(why(Facts { doubted: true, renewed: false, ..facts }).is_some());
        assert!(why(Facts { doubted: true, passed_ms: CALM_MS, ..facts }).is_some());
        // What is interrupted goes on, a few times at once and then with pauses: it is never forgotten.
        let again = |interrupted, rested_ms| why(Facts { interrupted, rested_ms, ..facts });
        assert!(again(1, 0).is_some() && again(TRIES - 1, 0).is_some());
        assert!(again(TRIES, CALM_MS - 1).is_none() && again(TRIES, CALM_MS).is_some());
        assert_eq!(reason(&Learn::default(), &Facts { labels: 9_999, doubted: false, ..facts }), None);
    }

    #[test]
    fn callers_are_told_that_a_renewal_failed_and_not_where() {
        let one = |state: &str| RenewalInfo {
            number: 1,
            task: "desk".into(),
            why: "it was asked for".into(),
            state: state.into(),
            step: "training".into(),
            begun_at: clock::now(),
            ended_at: None,
            release: None,
            told: Some("/srv/desk/locked.csv holds no row".into()),
        };
        let told = for_callers(vec![one("failed"), one("certified")]);
        assert!(told[0].told.as_ref().is_some_and(|told| !told.contains("/srv")));
        assert_eq!(told[1], one("certified"));
    }

    #[test]
    fn times_are_hours_or_days() {
        let every = |text: &str| Learn { every: Some(text.into()), ..Learn::default() }.every_ms();
        assert_eq!((every("12h"), every("7d")), (Some(43_200_000), Some(604_800_000)));
        for wrong in ["", "d", "7", "7w", "0d", "-1d", "\u{e4}"] {
            assert_eq!(every(wrong), None, "{wrong}");
            assert!(Learn { every: Some(wrong.into()), ..Learn::default() }.check("desk").is_err());
        }
    }
}
