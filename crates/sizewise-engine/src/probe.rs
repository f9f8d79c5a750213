//! Which answers are also put before the reference?
//!
//! Inputs of tasks with a certificate, each with the same probability at any one moment, drawn before anybody knows what is right. The
//! probability is the task's share, more while a promise is in doubt, and less where people could not keep up; it is written down
//! with the probe. What is drawn is put before a person, or asked of the task's larger model behind the caller's back.

use crate::{
    Request,
    admit::Admitted,
    escalate::{Answered, Escalation, is_of_new_kind},
    served::Served,
};
use sizewise_contract::{
    Answer, Bill, Disposition, EscalationReason, Probe, Reference, Step, Tier,
    answer::{EscalatedTo, RemoteProblem},
    task::{Live, StoreInput},
    units::UnixMillis,
};
use sizewise_measure::random::Random;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// How much more is drawn while a promise is in doubt.
const IN_DOUBT: f64 = 5.0;
/// Memory of the measured traffic. `milliseconds`
const MEMORY: f64 = 600_000.0;
const DAY: i64 = 86_400_000;
/// What stands for a truth outside of all classes, where the task has no label for it.
pub(crate) const OUT_OF_SCOPE: &str = "out_of_scope";

/// Draws probes of all tasks.
#[derive(Debug)]
pub(crate) struct Drawer {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    traffic: BTreeMap<String, Traffic>,
}

/// What is known of a task's traffic.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    /// Decisions a millisecond, in the mean over the last minutes.
    rate: f64,
    at: i64,
    day: i64,
    drawn: u32,
}

impl Drawer {
    /// Begins with random bits of the system.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: Mutex::new(State { random: Random::new(seed), traffic: BTreeMap::new() }) }
    }

    /// Draws: the probability with which one decision of a task was drawn now, or none where it was not.
    pub(crate) fn draw(&self, task: &str, rules: &Live, (doubted, at): (bool, UnixMillis)) -> Option<f64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.traffic.contains_key(task) {
            state.traffic.insert(task.to_owned(), Traffic { at: at.0, ..Traffic::default() });
        }
        let drawn = state.random.uniform();
        let traffic = state.traffic.get_mut(task)?;
        let probability = traffic.probability(rules, (doubted, at.0));
        let is_drawn = drawn < probability;
        traffic.drawn += u32::from(is_drawn);
        is_drawn.then_some(probability)
    }
}

impl Traffic {
    /// Knows nothing of the decision at hand but when it comes.
    fn probability(&mut self, rules: &Live, (doubted, at): (bool, i64)) -> f64 {
        let passed = (at - self.at).max(0) as f64;
        self.rate = self.rate * (-passed / MEMORY).exp() + 1.0 / MEMORY;
        self.at = self.at.max(at);
        let day = at.div_euclid(DAY);
        if day != self.day {
            (self.day, self.drawn) = (day, 0);
        }
        let more = if doubted { IN_DOUBT } else { 1.0 };
        let left = (f64::from(rules.probes_per_day) * more - f64::from(self.drawn)).max(0.0);
        // As if the traffic stayed as it is until midnight, and a minute at least.
        let to_come = self.rate * (DAY - at.rem_euclid(DAY)).max(60_000) as f64;
        (rules.probe_share * more).min(left / to_come.max(1.0)).clamp(0.0, 1.0)
    }
}

/// The probes of one decision, before anybody is asked: its questions that a certificate covers.
pub(crate) fn of_decision(
    served: &Served,
    (id, answers): (&str, &[Answer]),
    (probability, at): (f64, UnixMillis),
    (reference, group): (Reference, Option<&str>),
) -> Vec<Probe> {
    let info = &served.info;
    let covered = answers.iter().filter(|answer| covers(served, answer));
    covered
        .map(|answer| Probe {
            decision: id.to_owned(),
            task: info.task.name.clone(),
            question: answer.question.clone(),
            release: info.release,
            at,
            probability,
            weight: 1.0,
            group: group.map(str::to_owned),
            reference,
            // Nobody here may answer what is of a new kind, however sure of it.
            path: local_steps(answer)
                .filter(|_| !is_of_new_kind(answer))
                .map(|(step, confidence)| sizewise_contract::ProbeStep {
                    tier: step.tier,
                    value: step.value.clone(),
                    confidence,
                })
                .collect(),
        })
        .collect()
}

/// Whether a promise is made about the question, so that probes of it are drawn: of all inputs, as those which nobody here is sure of are
/// a part of the traffic, too, and later certificates need a sample of the whole.
pub(crate) fn covers(served: &Served, answer: &Answer) -> bool {
    let asked = served.info.task.question(&answer.question).and_then(|(at, _)| served.asked.get(at));
    asked.is_some_and(|asked| asked.certified.is_some())
}

fn local_steps(answer: &Answer) -> impl Iterator<Item = (&Step, f64)> {
    let own = answer.path.iter().filter(|step| step.tier != Tier::Remote);
    own.filter_map(|step| step.confidence.map(|confidence| (step, confidence)))
}

/// Whether the reference can be asked about inputs of which so much is kept.
pub(crate) fn can_be_asked(reference: Reference, keep: StoreInput, larger: Option<&Escalation>) -> bool {
    match reference {
        Reference::Person => keep != StoreInput::Nothing,
        Reference::Remote => larger.is_some(),
    }
}

/// Asks the larger model about questions of one input that were answered here, and hands out what it said, as tables spell it, and what
/// that came to.
pub(crate) async fn ask_larger(
    (larger, request): (&Escalation, &Request),
    served: &Arc<Served>,
    admitted: Admitted,
    answers: Vec<Answer>,
) -> (Vec<(String, String)>, Option<Bill>) {
    let open = |mut answer: Answer| {
        let reason = EscalationReason::BelowThreshold;
        answer.disposition = Disposition::Escalated { reason, to: EscalatedTo::None };
        answer.remote = None;
        answer
    };
    let answers = answers.into_iter().map(open).collect();
    let mut asked =
        [Answered { answers, tokens: 0, cost: sizewise_contract::units::MicroUsd(0), bill: None }];
    crate::escalate::ask_larger((larger, request), served, &admitted, &mut asked).await;
    let [asked] = asked;
    let told = |answer: &Answer| Some((answer.question.clone(), said(served, answer)?));
    (asked.answers.iter().filter_map(told).collect(), asked.bill)
}

/// What the larger model said to a question, where it was asked about this input and said something.
pub(crate) fn said(served: &Served, answer: &Answer) -> Option<String> {
    let (_, question) = served.info.task.question(&answer.question)?;
    // What was said before, perhaps of another text, is no word about this one.
    let remote = answer.remote.as_ref().filter(|remote| remote.recalled.is_none())?;
    match remote.problem {
        None => Some(answer.value.clone()),
        Some(RemoteProblem::OutOfScope) => {
            Some(question.out_of_scope_label.clone().unwrap_or_else(|| OUT_OF_SCOPE.to_owned()))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn drawn(rules: &Live, doubted: bool, every: i64, decisions: i64) -> (usize, f64) {
        let drawer = Drawer::new(7);
        let found: Vec<f64> = (0..decisions)
            .filter_map(|at| drawer.draw("desk", rules, (doubted, UnixMillis(at * every))))
            .collect();
        (found.len(), found.iter().copied().fold(0.0, f64::max))
    }

    #[test]
    fn a_share_is_drawn_and_more_of_it_in_doubt() {
        let rules = Live { probe_share: 0.02, probes_per_day: 1_000, ..Live::default() };
        let (few, most) = drawn(&rules, false, 3_000, 20_000);
        assert!((300..500).contains(&few), "{few}");
        assert!(most <= 0.02);
        let (more, _) = drawn(&rules, true, 3_000, 20_000);
        assert!((1_700..2_300).contains(&more), "{more}");
    }

    #[test]
    fn people_get_no_more_than_they_can_look_at_spread_over_the_day() {
        let rules = Live { probe_share: 0.02, probes_per_day: 100, ..Live::default() };
        // A decision every 100 ms for a day: 864,000, of which a fiftieth would be 17,000.
        let (found, _) = drawn(&rules, false, 100, 864_000);
        assert!((60..=100).contains(&found), "{found}");
        let drawer = Drawer::new(3);
        let before_noon = (0..432_000)
            .filter(|at| drawer.draw("desk", &rules, (false, UnixMillis(at * 100))).is_some())
            .count();
        assert!((25..75).contains(&before_noon), "{before_noon}");
    }

    #[test]
    fn nothing_is_drawn_where_nothing_is_to_be() {
        assert_eq!(drawn(&Live { probe_share: 0.0, ..Live::default() }, true, 10, 1_000).0, 0);
        assert_eq!(drawn(&Live { probes_per_day: 0, ..Live::default() }, true, 10, 1_000).0, 0);
    }
}
