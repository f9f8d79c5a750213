//! How good is a release on rows that may be looked at, for those who look at pages?
//!
//! Measured once for each release, behind the view, on one thread, so that answers keep coming at their pace. The first view starts
//! it and says that it runs. It is [`crate::commands::evaluate`] on the development rows: locked ones are never read.

use super::{Console, Who, json};
use crate::{
    commands::{
        evaluate,
        trained::{Shared, Trained},
    },
    error::{Error, Result},
    evaluation::Evaluation,
    project::Project,
    screen::Screen,
};
use serde_json::{Value, json};
use sizewise_contract::{ContentHash, Diagnose};
use sizewise_store::{Release, Store};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Wrong answers that are kept of each question, the surest.
const MISTAKES: usize = 300;
/// Releases whose figures are kept.
const KEPT: usize = 200;

/// What is measured, by release.
#[derive(Debug, Default)]
pub(super) struct Measured {
    states: Mutex<BTreeMap<ContentHash, State>>,
    /// One at a time is measured.
    one: Mutex<()>,
}

#[derive(Debug, Clone)]
enum State {
    Running,
    Ready(Arc<Value>),
    /// What is in the way, and the way out.
    Failed(String, Option<String>),
}

impl Measured {
    fn states(&self) -> MutexGuard<'_, BTreeMap<ContentHash, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// What was measured of the release in force of a task, or that it is being measured, or what is in the way.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn evaluation(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.task(name, who)?;
        let Some(release) = self.store.in_force(name)? else {
            let problem = format!("task `{name}` has no release yet");
            return json(
                &json!({ "state": "missing", "problem": problem, "hint": format!("sizewise train {name}") }),
            );
        };
        match self.state(release) {
            State::Running => json(&json!({ "state": "measuring" })),
            State::Failed(problem, hint) => {
                json(&json!({ "state": "missing", "problem": problem, "hint": hint }))
            }
            State::Ready(evaluation) if who.reads_texts() => {
                json(&json!({ "state": "ready", "texts": true, "evaluation": *evaluation }))
            }
            State::Ready(evaluation) => {
                json(&json!({ "state": "ready", "texts": false, "evaluation": without_texts(&evaluation) }))
            }
        }
    }

    fn state(&self, release: Release) -> State {
        let id = release.id;
        let mut states = self.measured.states();
        match states.get(&id).cloned() {
            // Whoever looks again after something was mended finds it tried again.
            Some(State::Failed(problem, hint)) => {
                states.remove(&id);
                return State::Failed(problem, hint);
            }
            Some(state) => return state,
            None => {}
        }
        if states.len() >= KEPT {
            states.clear();
        }
        states.insert(id, State::Running);
        drop(states);
        let (project, store) = (self.project.clone(), self.store.folder().to_owned());
        let measured = Arc::clone(&self.measured);
        let work = move || {
            let outcome = {
                let _one = measured.one.lock().unwrap_or_else(PoisonError::into_inner);
                measure(&project, &store, release)
            };
            let state = match outcome {
                Ok(value) => State::Ready(Arc::new(value)),
                Err(error) => State::Failed(error.to_string(), error.hint()),
            };
            measured.states().insert(id, state);
        };
        match std::thread::Builder::new().name("measure".into()).spawn(work) {
            Ok(_) => State::Running,
            Err(error) => {
                self.measured.states().remove(&id);
                State::Failed(format!("no thread could be started: {error}"), None)
            }
        }
    }
}

fn measure(project: &Project, store: &std::path::Path, release: Release) -> Result<Value> {
    let store = Store::open(store)?;
    let trained = Trained::load_sharing(&store, release, (&mut Shared::new(1), &mut |_| {}))?;
    let evaluation: Evaluation = evaluate::measure(project, &trained, (None, MISTAKES), &Screen::silent())?;
    serde_json::to_value(&evaluation)
        .map_err(|_| Error::Engine(sizewise_engine::Error::Internal("an evaluation has a JSON form")))
}

/// The same figures without the rows that were answered wrongly.
fn without_texts(evaluation: &Value) -> Value {
    let mut without = evaluation.clone();
    let questions = without.get_mut("questions").and_then(Value::as_array_mut);
    for question in questions.into_iter().flatten().filter_map(Value::as_object_mut) {
        question.insert("mistakes".into(), json!([]));
    }
    without
}
