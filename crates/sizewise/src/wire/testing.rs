//! Which task and decision do the tests of every protocol speak about?

use sizewise_contract::{
    Answer, ContentHash, Decision, Disposition, EscalationReason, Task, Tier,
    answer::{EscalatedTo, RemoteUse},
    units::MicroUsd,
};

/// A task with one question of each type.
pub(crate) fn support_task() -> Task {
    let text = r#"
        schema = 1
        name = "support"
        [input]
        fields = ["message"]
        [[question]]
        name = "team"
        type = "choice"
        instructions = "Which team should handle this message?"
        choices = [{ value = "billing", description = "Invoices" }, { value = "delivery" }, { value = "returns" }]
        [[question]]
        name = "urgent"
        type = "predicate"
        instructions = "Does waiting a day do harm?"
        [[question]]
        name = "mood"
        type = "score"
        levels = [{ label = "calm" }, { label = "cross" }, { label = "furious", description = "Shouts" }]
    "#;
    Task::parse(text).expect("the task of the tests is valid")
}

/// A decision that answers the three questions of [`support_task`].
pub(crate) fn support_decision() -> Decision {
    let answer = |question: &str, value: &str, class: usize, confidence: f64, probabilities: &[f32]| Answer {
        question: question.into(),
        disposition: Disposition::Answered,
        value: value.into(),
        class,
        confidence: Some(confidence),
        threshold: Some(0.75),
        probabilities: probabilities.to_vec(),
        tier: Tier::Static,
        certified: true,
        handed_on: None,
        remote: None,
        path: Vec::new(),
    };
    Decision {
        id: "d-1".into(),
        task: "support".into(),
        release: ContentHash::of(b"release"),
        certified: true,
        answers: vec![
            answer("team", "delivery", 1, 0.875, &[0.25, 0.625, 0.125]),
            answer("urgent", "no", 0, 0.9375, &[0.8, 0.2]),
            answer("mood", "cross", 1, 0.75, &[0.25, 0.5, 0.25]),
        ],
        elapsed_us: 12,
        cost_micro_usd: MicroUsd(0),
        input_tokens: 7,
    }
}

/// The same decision with one question answered by a remote model.
pub(crate) fn answered_remotely(question: usize) -> Decision {
    let mut decision = escalated(question);
    let answer = &mut decision.answers[question];
    (answer.confidence, answer.tier, answer.certified) = (None, Tier::Remote, false);
    answer.disposition = Disposition::Answered;
    answer.handed_on = Some(EscalationReason::BelowThreshold);
    answer.remote = Some(RemoteUse {
        provider: "primary".into(),
        model: "m-1".into(),
        attempts: 1,
        recalled: None,
        problem: None,
    });
    answer
        .probabilities
        .iter_mut()
        .enumerate()
        .for_each(|(at, p)| *p = if at == answer.class { 1.0 } else { 0.0 });
    decision
}

/// The same decision with one question escalated to a person.
pub(crate) fn escalated(question: usize) -> Decision {
    let mut decision = support_decision();
    let answer = &mut decision.answers[question];
    answer.confidence = Some(0.5);
    answer.disposition =
        Disposition::Escalated { reason: EscalationReason::BelowThreshold, to: EscalatedTo::Person };
    decision
}
