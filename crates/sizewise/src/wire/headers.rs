//! How do the headers of a reply say how its answers were made?
//!
//! | Header | Says |
//! |---|---|
//! | `x-sizewise-task`, `-release` | which task answered, and the content hash of its release |
//! | `x-sizewise-certified` | `true` when every answer of the reply stands under a certificate in force |
//! | `x-sizewise-decision-id` | the id in records, feedback and the review queue |
//! | `x-sizewise-elapsed-us` | from admission to answer, inside the engine |
//! | `x-sizewise-cost-micro-usd` | what the answers cost, in millionths of a US dollar |
//! | `x-sizewise-tier` | the last tier asked |
//! | `x-sizewise-confidence` | the calibrated probability that the answer is right; `-` for a remote model's |
//! | `x-sizewise-threshold` | from which confidence an answer is given; `-` where none was certified |
//! | `x-sizewise-escalated` | only when something was handed on: the reason why no local tier answered, `-` for what one did |
//! | `x-sizewise-remote` | only when a remote model was to be asked: the provider, with `;` and `same` or `similar` where an earlier answer was given again, and with `:` and the problem where it gave none |
//!
//! The last five have one value per answer, in the order in which the engine answered, separated by commas. A reply with
//! more than [`LISTED`] answers has one value in each: that of the answer with the lowest confidence. A reply with
//! several decisions leaves out the id, sums time and cost, and has the lowest confidence of all.

use sizewise_contract::{Answer, Decision, Disposition};
use std::fmt::Write as _;

/// Up to how many answers are listed one by one; proxies refuse long headers.
pub const LISTED: usize = 16;

/// The headers of a reply that carries some decisions of one task.
#[must_use]
pub fn of(decisions: &[Decision]) -> Vec<(&'static str, String)> {
    let Some(first) = decisions.first() else { return Vec::new() };
    let elapsed: u64 = decisions.iter().map(|decision| decision.elapsed_us).sum();
    let cost = decisions.iter().fold(0u64, |sum, decision| sum.saturating_add(decision.cost_micro_usd.0));
    let mut headers = vec![
        ("x-sizewise-task", first.task.clone()),
        ("x-sizewise-release", first.release.to_string()),
        ("x-sizewise-certified", decisions.iter().all(|decision| decision.certified).to_string()),
        ("x-sizewise-elapsed-us", elapsed.to_string()),
        ("x-sizewise-cost-micro-usd", cost.to_string()),
    ];
    if let [only] = decisions {
        headers.push(("x-sizewise-decision-id", only.id.clone()));
    }
    let answers = || decisions.iter().flat_map(|decision| &decision.answers);
    if decisions.len() == 1 && answers().count() <= LISTED {
        each(&mut headers, answers());
    } else {
        let weakest = answers().min_by(|a, b| a.stated_confidence().total_cmp(&b.stated_confidence()));
        each(&mut headers, weakest.into_iter());
    }
    headers
}

fn each<'a>(headers: &mut Vec<(&'static str, String)>, answers: impl Iterator<Item = &'a Answer> + Clone) {
    let listed = |write: fn(&mut String, &Answer)| {
        let mut line = String::with_capacity(16);
        for (index, answer) in answers.clone().enumerate() {
            if index > 0 {
                line.push(',');
            }
            write(&mut line, answer);
        }
        line
    };
    headers.push(("x-sizewise-tier", listed(|line, answer| line.push_str(answer.tier.name()))));
    // Writing to a string cannot fail.
    headers.push((
        "x-sizewise-confidence",
        listed(|line, answer| match answer.confidence {
            Some(confidence) => {
                let _ = write!(line, "{confidence:.4}");
            }
            None => line.push('-'),
        }),
    ));
    headers.push((
        "x-sizewise-threshold",
        listed(|line, answer| match answer.threshold {
            Some(threshold) => {
                let _ = write!(line, "{threshold:.4}");
            }
            None => line.push('-'),
        }),
    ));
    if answers.clone().any(|answer| !answer.answered() || answer.handed_on.is_some()) {
        headers.push((
            "x-sizewise-escalated",
            listed(|line, answer| {
                line.push_str(match (&answer.disposition, &answer.handed_on) {
                    (Disposition::Escalated { reason, .. }, _) | (_, Some(reason)) => reason.name(),
                    (Disposition::Answered, None) => "-",
                });
            }),
        ));
    }
    if answers.clone().any(|answer| answer.remote.is_some()) {
        headers.push((
            "x-sizewise-remote",
            listed(|line, answer| match &answer.remote {
                // Names of providers are those of the settings, whose rules leave no comma and no line's end.
                Some(remote) => {
                    line.push_str(&remote.provider);
                    if let Some(recalled) = remote.recalled {
                        line.push(';');
                        line.push_str(recalled.name());
                    }
                    if let Some(problem) = remote.problem {
                        line.push(':');
                        line.push_str(problem.name());
                    }
                }
                None => line.push('-'),
            }),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{answered_remotely, escalated, support_decision};
    use std::collections::BTreeMap;

    fn map(decisions: &[Decision]) -> BTreeMap<&'static str, String> {
        of(decisions).into_iter().collect()
    }

    #[test]
    fn what_a_remote_model_answered_says_so_and_why_it_was_asked() {
        let headers = map(&[answered_remotely(1)]);
        assert_eq!(headers["x-sizewise-tier"], "static,remote,static");
        assert_eq!(headers["x-sizewise-confidence"], "0.8750,-,0.7500");
        assert_eq!(headers["x-sizewise-escalated"], "-,below_threshold,-");
        assert_eq!(headers["x-sizewise-remote"], "-,primary,-");
    }

    #[test]
    fn each_answer_has_its_place_in_the_lists() {
        let headers = map(&[escalated(1)]);
        assert_eq!(headers["x-sizewise-tier"], "static,static,static");
        assert_eq!(headers["x-sizewise-confidence"], "0.8750,0.5000,0.7500");
        assert_eq!(headers["x-sizewise-threshold"], "0.7500,0.7500,0.7500");
        assert_eq!(headers["x-sizewise-escalated"], "-,below_threshold,-");
        assert_eq!(headers["x-sizewise-decision-id"], "d-1");
        assert_eq!(headers["x-sizewise-release"].len(), 64);
    }

    #[test]
    fn nothing_is_said_of_escalating_when_all_was_answered() {
        assert!(!map(&[support_decision()]).contains_key("x-sizewise-escalated"));
    }

    #[test]
    fn many_decisions_are_summed_up_by_the_weakest_answer() {
        let mut unsure = escalated(2);
        unsure.certified = false;
        let headers = map(&[support_decision(), unsure]);
        assert_eq!(headers["x-sizewise-confidence"], "0.5000");
        assert_eq!(headers["x-sizewise-escalated"], "below_threshold");
        assert_eq!(headers["x-sizewise-certified"], "false");
        assert_eq!(headers["x-sizewise-elapsed-us"], "24");
        assert!(!headers.contains_key("x-sizewise-decision-id"));
    }

    #[test]
    fn a_reply_with_many_answers_keeps_its_headers_short() {
        let mut decision = support_decision();
        decision.answers = std::iter::repeat_n(decision.answers[0].clone(), 400).collect();
        decision.answers[7].threshold = None;
        decision.answers[7].confidence = Some(0.1);
        let headers = map(&[decision]);
        assert_eq!(headers["x-sizewise-threshold"], "-");
        assert!(headers.values().all(|value| value.len() <= 64));
    }
}
