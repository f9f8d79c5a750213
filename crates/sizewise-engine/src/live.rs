//! From which confidence may a question be answered now?
//!
//! Its certificate says so, until probes speak against it. Every served task has a watch for each question with a certificate, and one
//! for each part of the traffic that callers name; they read the probes that were told, in the order of the store, so a restart
//! comes to the same state. What they find is written down and holds for every request from then on.

use crate::{
    error::Error,
    mix::MixStanding,
    probe::OUT_OF_SCOPE,
    served::{Served, TaskInfo, certified},
};
use sizewise_contract::{
    ClassLabel, ContentHash, PromiseChange, PromiseState, Question, Task, ToldProbe, task::Promise,
};
use sizewise_measure::{
    cascade::{RowOutcome, TierOutcome},
    watch::{Change, Interval, PathPoint, Watch},
};
use sizewise_store::{ProbeCounts, Release, Store};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Parts of the traffic of one question that are watched apart; what callers name beyond them is watched with all the rest.
const GROUPS: usize = 64;

/// How the promise about one question stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The question.
    pub question: String,
    /// What was promised.
    pub promise: Promise,
    /// The certified threshold.
    pub certified: f64,
    /// How the promise stands.
    pub state: PromiseState,
    /// From which confidence answers are given; none where nothing is.
    pub threshold: Option<f64>,
    /// How many probes there are.
    pub probes: ProbeCounts,
    /// The share of wrong answers among those that would be served, since the state last changed.
    pub served_error: Interval,
    /// How that came to be.
    pub path: Vec<PathPoint>,
    /// Parts of the traffic, by name.
    pub groups: Vec<GroupStanding>,
}

/// How the promise about one question stands in a part of the traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStanding {
    /// What callers call it.
    pub group: String,
    /// How the promise stands there.
    pub state: PromiseState,
    /// From which confidence answers are given there; none where nothing is.
    pub threshold: Option<f64>,
    /// Probes whose truth is known.
    pub told: u64,
    /// The share of wrong answers there.
    pub served_error: Interval,
}

/// What holds for one question of a task now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Limits {
    /// Whether the promise is in doubt, or broken.
    pub(crate) doubted: bool,
    /// The confidence from which answers are given; infinite where nothing is.
    all: f64,
    groups: BTreeMap<String, f64>,
}

impl Limits {
    /// The confidence that is asked for in place of the one that was certified.
    pub(crate) fn of(&self, group: Option<&str>, certified: f64) -> f64 {
        let own = group.and_then(|group| self.groups.get(group)).copied();
        certified.max(self.all).max(own.unwrap_or(certified))
    }
}

/// What holds for all questions of a release, by their position. It belongs to the release and not to the task's name: an answer never
/// comes of one release under the limits of another.
pub(crate) type TaskLimits = Arc<[Limits]>;

/// How the promises of a task's release in force stand, without its models being loaded.
///
/// # Errors
/// Fails when the task has no release, or the store cannot be read.
pub fn standings(store: &Store, name: &str) -> Result<(TaskInfo, Vec<Standing>), Error> {
    let release = store.in_force(name)?.ok_or_else(|| Error::NotTrained { name: name.to_owned() })?;
    standings_of(store, release)
}

/// How the promises of any release stand, without its models being loaded.
///
/// # Errors
/// Fails when the store cannot be read.
pub fn standings_of(store: &Store, release: Release) -> Result<(TaskInfo, Vec<Standing>), Error> {
    let task = Task::parse(&release.manifest.task_file)
        .map_err(|error| Error::Release { release: release.id, problem: error.to_string() })?;
    let certified = certified(&task, &release);
    let info = TaskInfo {
        certified: certified.iter().all(Option::is_some),
        release: release.id,
        certificates: release.certificates.into(),
        task: Arc::new(task),
    };
    let mut watched = TaskWatch::new(&info.task, info.release, certified.into_iter());
    watched.read(store, &info.task)?;
    let standings = watched.standings(store)?;
    Ok((info, standings))
}

/// The watches of all tasks.
#[derive(Debug, Default)]
pub(crate) struct Live {
    watches: Mutex<BTreeMap<String, TaskWatch>>,
}

#[derive(Debug)]
struct TaskWatch {
    release: ContentHash,
    /// One entry per question; none where it has no certificate.
    questions: Vec<Option<QuestionWatch>>,
    /// How the mixes of classes stand, and from which confidence each question is answered because of them.
    mixes: Vec<MixStanding>,
    stricter: Vec<Option<f64>>,
}

#[derive(Debug)]
struct QuestionWatch {
    name: String,
    promise: Promise,
    certified: f64,
    all: Watch,
    groups: BTreeMap<String, Watch>,
    /// The last probe that was read.
    read: i64,
}

impl Live {
    /// Holds a release to what was told of it before, so that not even its first request is answered under less.
    pub(crate) fn begin(store: &Store, served: &Served) -> Result<(), Error> {
        let certified = served.asked.iter().map(|asked| asked.certified);
        let mut watch = TaskWatch::new(&served.info.task, served.info.release, certified);
        watch.read(store, &served.info.task)?;
        served.hold_to(watch.limits());
        Ok(())
    }

    /// Reads what was told since the last time, and says what changed.
    pub(crate) fn read<'s>(
        &self,
        store: &Store,
        served: impl Iterator<Item = &'s Arc<Served>>,
    ) -> Result<Vec<PromiseChange>, Error> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        let mut kept = BTreeMap::new();
        for served in served {
            let info = &served.info;
            let known =
                watches.remove(&info.task.name).filter(|known| {
                    known.release == info.release
                        && known.questions.iter().zip(&served.asked).all(|(watch, asked)| {
                            watch.as_ref().map(|watch| watch.certified) == asked.certified
                        })
                });
            let certified = served.asked.iter().map(|asked| asked.certified);
            let mut task = known.unwrap_or_else(|| TaskWatch::new(&info.task, info.release, certified));
            let told = task.read(store, &info.task)?;
            for change in told {
                // Another process may have found it first.
                if store.note_promise(&change)? {
                    changes.push(change);
                }
            }
            served.hold_to(task.limits());
            kept.insert(info.task.name.clone(), task);
        }
        *watches = kept;
        Ok(changes)
    }

    /// Takes in how the mixes of a task's classes stand: what they ask for beyond the certificates holds from now on. Hands out what
    /// changed because of them.
    pub(crate) fn heed_mixes(
        &self,
        store: &Store,
        served: &Served,
        mixes: Vec<MixStanding>,
    ) -> Result<Vec<PromiseChange>, Error> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let info = &served.info;
        let Some(task) = watches.get_mut(&info.task.name).filter(|task| task.release == info.release) else {
            return Ok(Vec::new());
        };
        let mut changes = Vec::new();
        let at = crate::settle::now();
        for (watch, stricter) in task.questions.iter().zip(&mut task.stricter) {
            let Some(watch) = watch else { continue };
            let standing = mixes.iter().find(|standing| standing.question == watch.name);
            // Of too few requests nothing follows, neither up nor down.
            let Some(found) = standing.and_then(|standing| standing.found.as_ref()) else { continue };
            let now = found.stricter_than(watch.certified);
            if now == *stricter {
                continue;
            }
            *stricter = now;
            let reason = match now {
                Some(_) => format!(
                    "the mix of classes has changed by {:.0} % of the requests; the gold rows, counted by what their classes have become, prove the promise from here on",
                    found.shift.distance * 100.0
                ),
                None => "the mix of classes asks for no more than was certified".to_owned(),
            };
            let state = watch.all.state();
            let in_force = watch.limits().of(None, watch.certified).max(now.unwrap_or(0.0));
            let change = PromiseChange {
                task: info.task.name.clone(),
                question: watch.name.clone(),
                release: info.release,
                group: None,
                at,
                // No probe decided it: a number that none has.
                told: -at.0,
                from: state,
                to: state,
                threshold: in_force.is_finite().then_some(in_force),
                reason,
            };
            if store.note_promise(&change)? {
                changes.push(change);
            }
        }
        task.mixes = mixes;
        served.hold_to(task.limits());
        Ok(changes)
    }

    /// How the mixes of a task's classes stood when they were last looked at.
    pub(crate) fn mixes(&self, task: &str) -> Vec<MixStanding> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.get(task).map_or_else(Vec::new, |task| task.mixes.clone())
    }

    /// How the promises of a task stand: an entry for each question that has a certificate.
    pub(crate) fn standings(&self, store: &Store, task: &str) -> Result<Vec<Standing>, Error> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = watches.get(task) else { return Ok(Vec::new()) };
        watched.standings(store)
    }
}

impl TaskWatch {
    fn new(task: &Task, release: ContentHash, certified: impl Iterator<Item = Option<f64>>) -> Self {
        let questions = task.questions.iter().zip(certified).map(|(question, certified)| {
            let promise = task.promise_of(question);
            certified.map(|certified| QuestionWatch {
                name: question.name.clone(),
                promise,
                certified,
                all: Watch::new(&promise, certified),
                groups: BTreeMap::new(),
                read: 0,
            })
        });
        let questions: Vec<_> = questions.collect();
        Self { release, stricter: vec![None; questions.len()], questions, mixes: Vec::new() }
    }

    fn read(&mut self, store: &Store, task: &Task) -> Result<Vec<PromiseChange>, Error> {
        let mut changes = Vec::new();
        for (watch, question) in self.questions.iter_mut().zip(&task.questions) {
            let Some(watch) = watch else { continue };
            let mut page = store.told_probes(&self.release, &watch.name, watch.read)?;
            while !page.is_empty() {
                for probe in page {
                    watch.read = probe.told;
                    let Some(outcome) = outcome(&probe, question) else { continue };
                    for (group, change) in watch.tell(&outcome, &probe) {
                        changes.push(PromiseChange {
                            task: task.name.clone(),
                            question: watch.name.clone(),
                            release: self.release,
                            group,
                            at: probe.told_at,
                            told: probe.told,
                            from: change.from,
                            to: change.to,
                            threshold: change.threshold,
                            reason: change.reason,
                        });
                    }
                }
                page = store.told_probes(&self.release, &watch.name, watch.read)?;
            }
        }
        Ok(changes)
    }

    fn standings(&self, store: &Store) -> Result<Vec<Standing>, Error> {
        self.questions.iter().flatten().map(|watch| watch.standing(store, &self.release)).collect()
    }

    fn limits(&self) -> TaskLimits {
        let limits = |(watch, stricter): (&Option<QuestionWatch>, &Option<f64>)| {
            let limits = watch.as_ref().map_or_else(Limits::default, QuestionWatch::limits);
            Limits { all: limits.all.max(stricter.unwrap_or(0.0)), ..limits }
        };
        self.questions.iter().zip(&self.stricter).map(limits).collect()
    }
}

impl QuestionWatch {
    fn tell(&mut self, outcome: &RowOutcome, probe: &ToldProbe) -> Vec<(Option<String>, Change)> {
        let at = probe.told_at.0;
        let mut changes: Vec<_> =
            self.all.tell(outcome, at).map(|change| (None, change)).into_iter().collect();
        let Some(group) = &probe.group else { return changes };
        if !self.groups.contains_key(group) && self.groups.len() < GROUPS {
            let nth = self.groups.len() as u32 + 1;
            self.groups.insert(group.clone(), Watch::of_group(&self.promise, self.certified, nth));
        }
        let change = self.groups.get_mut(group).and_then(|watch| watch.tell(outcome, at));
        changes.extend(change.map(|change| (Some(group.clone()), change)));
        changes
    }

    fn limits(&self) -> Limits {
        let limit = |watch: &Watch| watch.threshold().unwrap_or(f64::INFINITY);
        let groups = self.groups.iter().filter(|(_, watch)| watch.state() != PromiseState::Kept);
        Limits {
            doubted: self.all.state() != PromiseState::Kept,
            all: limit(&self.all),
            groups: groups.map(|(group, watch)| (group.clone(), limit(watch))).collect(),
        }
    }

    fn standing(&self, store: &Store, release: &ContentHash) -> Result<Standing, Error> {
        let group = |(group, watch): (&String, &Watch)| GroupStanding {
            group: group.clone(),
            state: watch.state(),
            threshold: watch.threshold(),
            told: watch.told(),
            served_error: watch.served_error(),
        };
        Ok(Standing {
            question: self.name.clone(),
            promise: self.promise,
            certified: self.certified,
            state: self.all.state(),
            threshold: self.all.threshold(),
            probes: store.probe_counts(release, &self.name)?,
            served_error: self.all.served_error(),
            path: self.all.path().to_vec(),
            groups: self.groups.iter().map(group).collect(),
        })
    }
}

/// What a probe shows; none where the reference said what the question does not know.
fn outcome(probe: &ToldProbe, question: &Question) -> Option<RowOutcome> {
    let outside = (probe.truth == OUT_OF_SCOPE).then_some(ClassLabel::OutOfScope);
    let truth = question.class_label(&probe.truth).or(outside)?;
    let values = question.class_values();
    let right = truth.class().and_then(|class| values.get(class).copied());
    let tiers = probe.path.iter().map(|step| TierOutcome {
        tier: step.tier,
        confidence: step.confidence,
        right: right == Some(step.value.as_str()),
    });
    Some(RowOutcome { tiers: tiers.collect(), out_of_scope: right.is_none(), weight: probe.weight })
}
