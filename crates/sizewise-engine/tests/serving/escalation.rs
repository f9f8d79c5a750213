//! Does a larger model get what no local tier may answer, and nothing that it may not have?

use super::{
    CLEAR, STRANGE,
    desk::{Desk, TASK, ask},
    provider::{Does, Scripted},
};
use sizewise_contract::{
    Answer, ClassLabel, Decision, Disposition, EscalationReason, Reference, Tier,
    answer::{EscalatedTo, Recalled, RemoteProblem},
    task::{Live, MayLeave},
    units::MicroUsd,
};
use sizewise_engine::{Engine, Escalation, LabelledText, Ledger, Ledgers, Recall, Request};
use sizewise_store::{Limit, Period};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

const SAYS: Does = Does::Says(r#"{"team":"delivery","urgent":"yes"}"#);
/// What a call costs at a dollar and two for a million tokens.
const COST: MicroUsd = MicroUsd(120);

fn escalating(desk: &Desk, targets: &[&Scripted], change: impl FnOnce(&mut Escalation)) -> Engine {
    let engine = desk.engine(false);
    let mut escalation = Escalation {
        targets: targets.iter().map(|target| Arc::clone(&target.provider)).collect(),
        may_leave: MayLeave::Never,
        recall: None,
        money: money(desk, Period::Total, 1_000_000),
        patience: Duration::from_secs(5),
    };
    change(&mut escalation);
    engine.escalate_to(BTreeMap::from([("desk".to_owned(), escalation)]));
    engine
}

fn money(desk: &Desk, period: Period, most: u64) -> Arc<Ledger> {
    Ledgers::start(Arc::clone(&desk.store)).ledger("desk", vec![Limit { period, most: MicroUsd(most) }])
}

/// Puts down what was spent and gives back what was not.
fn settled(purse: &Ledger) {
    purse.put_down();
    purse.put_down();
}

async fn decide(engine: &Engine, text: &str) -> Decision {
    engine.decide(ask(text)).await.unwrap().remove(0)
}

/// What it is, what the first provider does, what the second one does, and the calls until an answer or why there is none.
type Case = (&'static str, Vec<Does>, Option<Vec<Does>>, Result<usize, RemoteProblem>);

fn problem(answer: &Answer) -> Option<RemoteProblem> {
    answer.remote.as_ref().and_then(|remote| remote.problem)
}

#[tokio::test]
async fn what_the_certificate_covers_stays_here_and_the_rest_is_answered_in_one_call() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let scripted = Scripted::plays(&[SAYS]).await;
    let purse = money(&desk, Period::Total, 1_000_000);
    let engine = escalating(&desk, &[&scripted], |escalation| escalation.money = purse.clone());
    let decision = decide(&engine, CLEAR).await;
    settled(&purse);
    let [team, urgent] = &decision.answers[..] else { panic!("two answers") };
    assert_eq!((team.tier, team.value.as_str(), &team.remote), (Tier::Static, "billing", &None));
    assert_eq!((urgent.tier, urgent.value.as_str(), urgent.certified), (Tier::Remote, "yes", false));
    assert_eq!((urgent.confidence, urgent.handed_on), (None, Some(EscalationReason::NotCertified)));
    assert!(urgent.answered() && !decision.certified);
    assert_eq!(urgent.path.iter().map(|step| step.tier).collect::<Vec<_>>(), [Tier::Static, Tier::Remote]);
    let remote = urgent.remote.as_ref().unwrap();
    assert_eq!((remote.model.as_str(), remote.attempts), ("m-1-0613", 1));
    assert_eq!((decision.cost_micro_usd, desk.store.spending().unwrap()[0].micro_usd), (COST, COST));
    let heard = scripted.heard.lock().unwrap()[0].clone();
    assert!(
        heard.contains("urgent") && !heard.contains("\\\"team\\\""),
        "only what is open is asked: {heard}"
    );
    assert_eq!(desk.store.record(&decision.id).unwrap().unwrap().answers, decision.answers);
    assert!(desk.store.waiting(None, 10).unwrap().is_empty());
}

#[tokio::test]
async fn every_failure_ends_with_the_next_provider_or_with_a_person_and_is_paid_for_once() {
    let desk = Desk::trained(TASK);
    let off = Does::Says("I would say delivery");
    let cases: Vec<Case> = vec![
        (
            "busy, says when to come back",
            vec![Does::Status(429, "retry-after: 0\r\n", ""), SAYS],
            None,
            Ok(2),
        ),
        ("busy, says nothing", vec![Does::Status(429, "", ""), SAYS], None, Ok(2)),
        (
            "busy for an hour",
            vec![Does::Status(429, "retry-after: 3600\r\n", "")],
            None,
            Err(RemoteProblem::Unavailable),
        ),
        (
            "busy for an hour, another is not",
            vec![Does::Status(429, "retry-after: 3600\r\n", "")],
            Some(vec![SAYS]),
            Ok(2),
        ),
        ("fails once", vec![Does::Status(500, "", "<html>"), SAYS], None, Ok(2)),
        ("fails for ever", vec![Does::Status(503, "", "")], None, Err(RemoteProblem::Unavailable)),
        ("fails for ever, another does not", vec![Does::Status(503, "", "")], Some(vec![SAYS]), Ok(3)),
        ("closes the connection", vec![Does::Hangs, SAYS], None, Ok(2)),
        ("breaks off", vec![Does::Cuts, SAYS], None, Ok(2)),
        ("is silent, another is not", vec![Does::Silent], Some(vec![SAYS]), Ok(2)),
        (
            "refuses the text",
            vec![Does::Status(
                400,
                "",
                r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#,
            )],
            None,
            Err(RemoteProblem::Refused),
        ),
        ("refuses the text, another does not", vec![Does::Status(400, "", "")], Some(vec![SAYS]), Ok(2)),
        ("does not know us", vec![Does::Status(401, "", "")], Some(vec![SAYS]), Ok(2)),
        ("is off the contract once", vec![off.clone(), SAYS], None, Ok(2)),
        ("is off the contract", vec![off.clone()], None, Err(RemoteProblem::OffContract)),
        ("is off the contract, another is not", vec![off], Some(vec![SAYS]), Ok(3)),
        ("talks no protocol", vec![Does::Status(200, "", "hello"), SAYS], None, Ok(2)),
        (
            "wants other words",
            vec![Does::Status(400, "", r#"{"error":{"message":"use max_completion_tokens"}}"#), SAYS],
            None,
            Ok(2),
        ),
    ];
    for (name, primary, fallback, expected) in cases {
        let primary = Scripted::with(&primary, "timeout_s = 2").await;
        let fallback = match fallback {
            Some(script) => Some(Scripted::plays(&script).await),
            None => None,
        };
        let targets: Vec<&Scripted> = std::iter::once(&primary).chain(fallback.as_ref()).collect();
        let spent = desk.store.spending().unwrap().first().map_or(0, |spent| spent.micro_usd.0);
        let purse = money(&desk, Period::Total, 1_000_000);
        let engine = escalating(&desk, &targets, |escalation| {
            (escalation.patience, escalation.money) = (Duration::from_secs(4), purse.clone());
        });
        let decision = decide(&engine, STRANGE).await;
        settled(&purse);
        let team = &decision.answers[0];
        match expected {
            Ok(attempts) => {
                assert_eq!((team.value.as_str(), team.answered()), ("delivery", true), "{name}: {team:?}");
                assert_eq!(team.remote.as_ref().unwrap().attempts as usize, attempts, "{name}");
            }
            Err(why) => {
                assert_eq!(problem(team), Some(why), "{name}: {team:?}");
                assert!(matches!(team.disposition, Disposition::Escalated { to: EscalatedTo::Person, .. }));
            }
        }
        let now = desk.store.spending().unwrap().first().map_or(0, |spent| spent.micro_usd.0);
        assert_eq!(now - spent, decision.cost_micro_usd.0, "{name}: what is put down is what is told");
    }
}

#[tokio::test]
async fn what_the_larger_model_calls_out_of_scope_goes_to_a_person() {
    let labelled =
        TASK.replace("{ value = \"delivery\" }]", "{ value = \"delivery\" }]\nout_of_scope_label = \"none\"");
    let desk = Desk::trained(&labelled);
    let scripted = Scripted::plays(&[Does::Says(r#"{"team":"none","urgent":"yes"}"#)]).await;
    let decision = decide(&escalating(&desk, &[&scripted], |_| ()), STRANGE).await;
    let [team, urgent] = &decision.answers[..] else { panic!("two answers") };
    assert_eq!(
        (problem(team), team.answered(), urgent.value.as_str()),
        (Some(RemoteProblem::OutOfScope), false, "yes")
    );
    let (reason, to) = (EscalationReason::OutOfScope, EscalatedTo::Person);
    assert_eq!(team.disposition, Disposition::Escalated { reason, to });
}

#[tokio::test]
async fn nothing_leaves_that_may_not_and_what_may_leave_redacted_is_redacted() {
    let desk = Desk::trained(TASK);
    let elsewhere = Scripted::with(&[SAYS], "residency = \"us\"").await;
    let text = "write to ann@example.org about the bagpipe, card 4111 1111 1111 1111";
    let leaving = |rule| escalating(&desk, &[&elsewhere], move |escalation| escalation.may_leave = rule);
    let kept = decide(&leaving(MayLeave::Never), text).await;
    assert_eq!((problem(&kept.answers[0]), elsewhere.calls()), (Some(RemoteProblem::MayNotLeave), 0));
    decide(&leaving(MayLeave::Redacted), text).await;
    decide(&leaving(MayLeave::Yes), text).await;
    let heard = elsewhere.heard.lock().unwrap().clone();
    assert!(
        heard[0].contains("<EMAIL_ADDRESS_1> about the bagpipe") && !heard[0].contains("4111"),
        "{}",
        heard[0]
    );
    assert!(heard[1].contains("ann@example.org"), "{}", heard[1]);
    let house = Scripted::plays(&[SAYS]).await;
    let both = escalating(&desk, &[&elsewhere, &house], |_| ());
    assert_eq!(decide(&both, text).await.answers[0].remote.as_ref().unwrap().problem, None);
    assert!(house.heard.lock().unwrap()[0].contains("ann@example.org") && elsewhere.calls() == 2);
}

#[tokio::test]
async fn a_budget_is_never_exceeded_by_callers_who_come_together() {
    let desk = Desk::trained(TASK);
    let scripted = Scripted::plays(&[SAYS]).await;
    let purse = money(&desk, Period::Day, 5_000);
    let engine = Arc::new(escalating(&desk, &[&scripted], |escalation| escalation.money = purse.clone()));
    let asking: Vec<_> = (0..60)
        .map(|number| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { decide(&engine, &format!("{STRANGE} {number}")).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for asked in asking {
        let decision = asked.await.unwrap();
        match problem(&decision.answers[0]) {
            None => answered += 1,
            Some(RemoteProblem::BudgetSpent) => refused += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    settled(&purse);
    let spent = desk.store.spending().unwrap()[0].micro_usd;
    assert!(answered > 0 && refused > 0, "{answered} {refused}");
    assert_eq!((spent.0, scripted.calls()), (120 * answered, answered as usize));
    assert!(spent <= MicroUsd(5_000));
}

#[tokio::test]
async fn what_the_same_caller_asked_before_is_asked_once() {
    let desk = Desk::trained(TASK);
    let scripted = Scripted::plays(&[SAYS]).await;
    let engine = Arc::new(escalating(&desk, &[&scripted], |escalation| {
        escalation.recall = Some(Arc::new(Recall::new(Duration::from_secs(60))));
    }));
    let ask_as = |caller: &'static str| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let request = Request { key_id: Some(caller.into()), ..ask(STRANGE) };
            engine.decide(request).await.unwrap().remove(0)
        })
    };
    let asked: Vec<_> = (0..10).map(|_| ask_as("first")).collect();
    let mut paid = 0;
    for one in asked {
        let decision = one.await.unwrap();
        assert_eq!(decision.answers[0].value, "delivery");
        assert_eq!(decision.cost_micro_usd.0 > 0, decision.answers[0].remote.as_ref().unwrap().attempts == 1);
        paid += usize::from(decision.cost_micro_usd.0 > 0);
    }
    assert_eq!((paid, scripted.calls()), (1, 1));
    ask_as("second").await.unwrap();
    assert_eq!(scripted.calls(), 2, "another caller's answers are not to be seen");
}

#[tokio::test]
async fn a_caller_who_leaves_is_heard_by_the_provider_at_once() {
    let desk = Desk::trained(TASK);
    let scripted = Scripted::plays(&[Does::Silent]).await;
    let engine = Arc::new(escalating(&desk, &[&scripted], |_| ()));
    let asked = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { decide(&engine, STRANGE).await }
    });
    while scripted.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asked.abort();
    let begun = Instant::now();
    while *scripted.left.lock().unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the provider still waits");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_answer_that_takes_long_is_asked_for_once_more_and_both_calls_are_paid() {
    let desk = Desk::trained(TASK);
    let hedged = "hedge_after_ms = 20";
    let (primary, fallback) = (Scripted::with(&[Does::Silent], hedged).await, Scripted::plays(&[SAYS]).await);
    let alone = Scripted::with(&[Does::Silent, SAYS], hedged).await;
    // Long beside any answer of this machine, however busy it is.
    let quick = Scripted::with(&[SAYS], "hedge_after_ms = 10000").await;
    let cases = [(vec![&primary, &fallback], 2), (vec![&alone], 2), (vec![&quick, &fallback], 1)];
    for (targets, attempts) in cases {
        let spent = desk.store.spending().unwrap().first().map_or(0, |spent| spent.micro_usd.0);
        let purse = money(&desk, Period::Total, 1_000_000);
        let engine = escalating(&desk, &targets, |escalation| escalation.money = purse.clone());
        let begun = Instant::now();
        let decision = decide(&engine, STRANGE).await;
        settled(&purse);
        let team = &decision.answers[0];
        assert_eq!((team.value.as_str(), team.answered()), ("delivery", true), "{team:?}");
        assert_eq!(team.remote.as_ref().unwrap().attempts, attempts);
        assert!(begun.elapsed() < Duration::from_secs(2), "the first call was not waited for");
        let now = desk.store.spending().unwrap().first().map_or(0, |spent| spent.micro_usd.0);
        assert_eq!(now - spent, decision.cost_micro_usd.0, "what is put down is what is told");
        // What was cut off may have been written on the other side: it stands with the most that it could cost.
        assert_eq!(decision.cost_micro_usd > MicroUsd(2 * COST.0), attempts == 2);
    }
    assert_eq!((fallback.calls(), quick.provider.state().hedges, alone.provider.state().hedges), (1, 0, 1));
    let begun = Instant::now();
    while *primary.left.lock().unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the slow provider still answers");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Rows as those that the desk was trained on.
fn labelled(count: usize) -> Vec<LabelledText> {
    let what = [
        ["the invoice is wrong", "you charged my card twice", "please refund the payment"],
        ["the parcel is lost", "my order never arrived", "the courier left no package"],
    ];
    let row = |i: usize| {
        let (team, urgent) = (i % 2, i.is_multiple_of(3));
        let when = if urgent { "today, it is urgent" } else { "when you have time" };
        let label = |class: usize| Some(ClassLabel::Class(class as u16));
        (format!("{} number {i} {when}", what[team][i % 3]), vec![label(team), label(usize::from(urgent))])
    };
    (1_000..1_000 + count).map(row).collect()
}

#[tokio::test]
async fn an_answer_is_given_again_to_similar_texts_once_rows_show_how_similar_they_must_be() {
    let desk = Desk::trained(TASK);
    let scripted = Scripted::plays(&[Does::Says(r#"{"team":"billing","urgent":"no"}"#)]).await;
    let remembering = || {
        escalating(&desk, &[&scripted], |escalation| {
            escalation.recall = Some(Arc::new(Recall::new(Duration::from_secs(60)).with_similar(true)));
        })
    };
    let ask_as = async |engine: &Engine, caller: &str, text: &str| {
        let request = Request { key_id: Some(caller.into()), ..ask(text) };
        let decision = engine.decide(request).await.unwrap().remove(0);
        let remote = decision.answers[0].remote.clone().unwrap();
        (remote.recalled, remote.attempts, decision.cost_micro_usd.0 > 0)
    };
    let (first, second) = ("please refund the payment number 71", "please refund the payment number 72");
    let (asked, again) = ((None, 1, true), (Some(Recalled::Similar), 0, false));

    let few = remembering();
    let found = few.find_similarity("desk", &labelled(60)).await.unwrap().unwrap();
    assert_eq!(found[0].outcome.threshold, None, "{found:?}");
    assert!(
        found[0].handed_on == 60 && found[0].outcome.rows_needed.is_some_and(|rows| rows > 60),
        "{found:?}"
    );
    assert_eq!(ask_as(&few, "a", first).await, asked);
    assert_eq!(ask_as(&few, "a", second).await, asked, "nothing was shown");

    let engine = remembering();
    assert_eq!(ask_as(&engine, "a", first).await, asked);
    assert_eq!(ask_as(&engine, "a", second).await, asked, "nothing is known yet");
    let found = engine.find_similarity("desk", &labelled(900)).await.unwrap().unwrap();
    assert!(found.iter().all(|one| one.outcome.threshold.is_some()), "{found:?}");
    assert!(engine.find_similarity("desk", &labelled(60)).await.unwrap().is_none(), "it is known");
    let third = "please refund the payment number 73";
    assert_eq!(ask_as(&engine, "a", third).await, asked, "what came before was remembered as it was alone");
    assert_eq!(ask_as(&engine, "a", "please refund the payment number 74").await, again);
    assert_eq!(ask_as(&engine, "a", third).await, (Some(Recalled::Same), 0, false));
    assert_eq!(ask_as(&engine, "a", STRANGE).await, asked);
    assert_eq!(ask_as(&engine, "b", "please refund the payment number 75").await, asked, "somebody else's");
}

#[tokio::test]
async fn similar_texts_whose_answers_turn_out_to_differ_are_given_none_again() {
    let desk = Desk::trained(TASK);
    let says = [SAYS, Does::Says(r#"{"team":"billing","urgent":"no"}"#)];
    let plays: Vec<Does> = (0..400).map(|call| says[usize::from(call % 4 == 0)].clone()).collect();
    let scripted = Scripted::plays(&plays).await;
    let engine = escalating(&desk, &[&scripted], |escalation| {
        escalation.recall = Some(Arc::new(Recall::new(Duration::from_secs(60)).with_similar(true)));
    });
    engine.find_similarity("desk", &labelled(900)).await.unwrap().unwrap();
    let mut asked = 0;
    while engine.refuted_similarity("desk").is_empty() {
        assert!(asked < 2_000, "{} calls", scripted.calls());
        decide(&engine, &format!("please refund the payment number {asked}")).await;
        asked += 1;
    }
    let calls = scripted.calls();
    assert!(calls < asked / 5, "{calls} calls for {asked} texts");
    decide(&engine, "please refund the payment number 5000").await;
    assert_eq!(scripted.calls(), calls + 1, "nothing is given again");
}

#[tokio::test]
async fn a_probe_is_asked_afresh_and_what_was_said_before_is_no_word_about_it() {
    let desk = Desk::trained(TASK);
    desk.certify(0.999_999);
    let scripted = Scripted::plays(&[SAYS]).await;
    let engine = escalating(&desk, &[&scripted], |escalation| {
        escalation.recall = Some(Arc::new(Recall::new(Duration::from_secs(60)).with_similar(true)));
    });
    let all =
        Live { probe_share: 1.0, probes_per_day: u32::MAX, reference: Reference::Remote, ..Live::default() };
    engine.watch_by(BTreeMap::from([("desk".to_owned(), all)]));
    let calls_and_truths = async |calls: usize, truths: usize| {
        let begun = Instant::now();
        loop {
            let told = desk.store.told_probes(&desk.release.id, "team", 0).unwrap();
            if (scripted.calls(), told.len()) == (calls, truths) {
                break assert!(told.iter().all(|probe| probe.truth == "delivery"));
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{} calls, {told:?}", scripted.calls());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let recalled =
        |decision: &Decision| decision.answers[0].remote.as_ref().and_then(|remote| remote.recalled);

    // Nobody here is sure of it: what the larger model answers is what it says of the probe.
    assert_eq!(recalled(&decide(&engine, STRANGE).await), None);
    calls_and_truths(1, 1).await;
    // The caller gets what was said before; the probe is asked about nevertheless, and again the next time.
    for again in 1..=2 {
        assert_eq!(recalled(&decide(&engine, STRANGE).await), Some(Recalled::Same));
        calls_and_truths(1 + again, 1 + again).await;
    }
}
