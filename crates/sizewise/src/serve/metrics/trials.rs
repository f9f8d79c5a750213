//! Which release decided, and how do trials stand?

use super::escaped;
use sizewise_contract::{ContentHash, Decision, PromiseState};
use sizewise_engine::TrialStanding;
use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

/// Releases of a task that are counted; a task that trains every day would make the table grow for ever.
const RELEASES: usize = 8;

/// Decisions of a task by the release that made them, of the latest few that did.
#[derive(Default)]
pub(super) struct Releases(Mutex<Vec<(ContentHash, u64)>>);

impl Releases {
    /// Counts decisions of one request, which one release alone decides.
    pub(super) fn count(&self, decisions: &[Decision]) {
        let Some(first) = decisions.first() else { return };
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = decisions.len() as u64;
        match counted.iter_mut().find(|(known, _)| *known == first.release) {
            Some((_, count)) => *count += more,
            None => {
                if counted.len() >= RELEASES {
                    counted.remove(0);
                }
                counted.push((first.release, more));
            }
        }
    }

    pub(super) fn render(&self, text: &mut String, task: &str) {
        let task = escaped(task);
        for (release, count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let release = release.short();
            let _ =
                writeln!(text, "sizewise_decisions_total{{task=\"{task}\",release=\"{release}\"}} {count}");
        }
    }
}

type Of = fn(&TrialStanding) -> f64;

/// What is told of every trial: name, kind, help, value.
const METRICS: [(&str, &str, &str, Of); 5] = [
    ("sizewise_trial_share", "gauge", "Share of the requests that a release on trial gets.", |one| {
        one.trial.share
    }),
    ("sizewise_trial_inputs_total", "counter", "Inputs that were counted of a trial.", |one| {
        one.counted[0] as f64
    }),
    ("sizewise_trial_dropped_total", "counter", "Inputs that a shadow could not keep up with.", |one| {
        one.counted[1] as f64
    }),
    ("sizewise_trial_failed_total", "counter", "Inputs that a release on trial failed at.", |one| {
        one.counted[2] as f64
    }),
    (
        "sizewise_trial_promise_state",
        "gauge",
        "The worst standing of a canary's promises: 0 kept, 1 in doubt, 2 broken.",
        |one| one.standings.iter().map(|standing| weight(standing.state)).fold(0.0, f64::max),
    ),
];

/// Writes how trials stand.
pub(super) fn render(text: &mut String, trials: &[TrialStanding]) {
    for (name, kind, help, of) in METRICS {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for one in trials {
            let (task, release) = (escaped(&one.trial.task), one.trial.release.short());
            let mode = one.trial.mode.name();
            let _ =
                writeln!(text, "{name}{{task=\"{task}\",release=\"{release}\",mode=\"{mode}\"}} {}", of(one));
        }
    }
}

/// A promise's standing as a number: 0 kept, 1 in doubt, 2 broken.
pub(super) fn weight(state: PromiseState) -> f64 {
    match state {
        PromiseState::Kept => 0.0,
        PromiseState::InDoubt => 1.0,
        PromiseState::Broken => 2.0,
    }
}
