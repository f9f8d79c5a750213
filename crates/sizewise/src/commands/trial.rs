//! `sizewise trial`: is a release that is tried better than the one in force, and how sure is that?

use super::{DONE, REFUSED, gates, trained::store};
use crate::{
    cli::{BeginTrial, Trials},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
};
use serde::Serialize;
use sizewise_contract::{
    Code, Comparison, ContentHash, Difference, PromiseState, StoredInput, Trial, TrialMode,
    task::Promise,
    trial::{Compared, Times},
};
use sizewise_engine::Standing;
use sizewise_measure::{metrics::Share, watch::Interval};
use sizewise_store::{DIFFERENCES_KEPT, Release, Store};
use std::fmt::Write;

/// Differences that people are shown on a terminal.
const SHOWN: usize = 10;

/// What is known of a trial.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    pub(crate) task: String,
    pub(crate) in_force: Option<ContentHash>,
    /// The trial that is under way, or the last one; none where there never was one.
    pub(crate) trial: Option<Trial>,
    pub(crate) under_way: bool,
    /// The release in force that it is compared with.
    pub(crate) beside: Option<ContentHash>,
    comparison: Option<ComparisonShown>,
    /// How promises stand, of both releases of a canary.
    promises: Vec<PromiseShown>,
    pub(crate) differences: Vec<DifferenceShown>,
}

#[derive(Debug, Serialize)]
struct ComparisonShown {
    inputs: u64,
    dropped: u64,
    failed: u64,
    live_took: Took,
    trial_took: Took,
    questions: Vec<QuestionShown>,
}

/// How long local tiers took. `microseconds`
#[derive(Debug, Serialize)]
struct Took {
    median_us: Option<u64>,
    p95_us: Option<u64>,
}

#[derive(Debug, Serialize)]
struct QuestionShown {
    question: String,
    live_answered: Share,
    trial_answered: Share,
    /// Of a shadow: what both answered, and of those what they answered alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    alike: Option<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_live: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_trial: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    neither: Option<u64>,
}

#[derive(Debug, Serialize)]
struct PromiseShown {
    question: String,
    promise: Promise,
    live: Option<SideShown>,
    trial: Option<SideShown>,
}

/// What probes say of one release.
#[derive(Debug, Serialize)]
struct SideShown {
    state: PromiseState,
    threshold: Option<f64>,
    drawn: u64,
    told: u64,
    served_error: Interval,
}

#[derive(Debug, Serialize)]
pub(crate) struct DifferenceShown {
    #[serde(flatten)]
    difference: Difference,
    /// As far as the task keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

pub(super) fn run(project: &Project, what: &Trials, screen: &Screen) -> Result<u8> {
    match what {
        Trials::Begin(arguments) => begin(project, arguments, screen),
        Trials::End { task, reason } => end(project, (task, reason), screen),
        Trials::Show { task } => show(project, task, screen),
    }
}

#[derive(Serialize)]
struct Acted {
    trial: Trial,
    /// Questions that the release in force answers under a certificate, and the canary does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<String>,
}

fn begin(project: &Project, arguments: &BeginTrial, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?.name;
    let mode = if arguments.canary { TrialMode::Canary } else { TrialMode::Shadow };
    let (trial, unanswered) =
        start((project, &store(project)?), &task, (&arguments.release, mode, arguments.share))?;
    screen.result("trial-begun", &Acted { trial: trial.clone(), unanswered: unanswered.clone() }, || {
        let mut out =
            format!("Release {} is tried as a {}: {}.\n", trial.release.short(), mode.name(), told(&trial));
        if !unanswered.is_empty() {
            let _ = writeln!(
                out,
                "Its share of the requests gets no answer to {}, for which it has no certificate.",
                unanswered.join(", ")
            );
        }
        out + &format!("Next: sizewise trial show {task}\n")
    });
    Ok(DONE)
}

/// Begins a trial. Hands out the questions that fewer callers get answers to as well.
pub(crate) fn start(
    (project, store): (&Project, &Store),
    task: &str,
    (release, mode, share): (&str, TrialMode, Option<f64>),
) -> Result<(Trial, Vec<String>)> {
    let wanted = store.release(task, release)?;
    let mut unanswered = Vec::new();
    if mode == TrialMode::Canary {
        gates::release::check_again(store, project, &wanted)?;
        let (_, standings) = sizewise_engine::standings_of(store, wanted.clone())?;
        if let Some(weak) = standings.iter().find(|standing| standing.state != PromiseState::Kept) {
            return Err(Error::Policy {
                message: format!(
                    "release {} is not tried: what was told of it before leaves its promise about `{}` {}",
                    wanted.id.short(),
                    weak.question,
                    weak.state.name().replace('_', " ")
                ),
                code: Code::NotTried,
                hint: "try it as a shadow, or make another: sizewise renew TASK".into(),
            });
        }
        unanswered = lost(store.in_force(task)?.as_ref(), &wanted);
    }
    let share = share.unwrap_or(if mode == TrialMode::Canary { 0.1 } else { 1.0 });
    Ok((store.begin_trial(task, release, (mode, share))?, unanswered))
}

fn lost(live: Option<&Release>, wanted: &Release) -> Vec<String> {
    let certificates = live.iter().flat_map(|live| &live.certificates);
    let answered = certificates.filter(|certificate| certificate.may_answer());
    answered.map(|c| c.question.clone()).filter(|question| wanted.certificate(question).is_none()).collect()
}

fn end(project: &Project, (task, reason): (&str, &str), screen: &Screen) -> Result<u8> {
    let task = project.task(task)?.name;
    let trial = store(project)?.end_trial(&task, reason)?;
    screen.result("trial-ended", &Acted { trial: trial.clone(), unanswered: Vec::new() }, || {
        format!("Release {} is not tried any more: {reason}.\n", trial.release.short())
    });
    Ok(DONE)
}

fn show(project: &Project, task: &str, screen: &Screen) -> Result<u8> {
    let task = project.task(task)?.name;
    let shown = shown(&store(project)?, &task)?;
    screen.result("trial", &shown, || {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text(&mut out, &shown);
        out
    });
    let because = shown.trial.as_ref().and_then(|trial| trial.ended_because.as_deref());
    // The words of the engine, which ends trials by evidence alone.
    Ok(if because.is_some_and(|because| because.starts_with("its promise")) { REFUSED } else { DONE })
}

/// What is known of the trial of a task, with the texts that the task keeps.
pub(crate) fn shown(store: &Store, task: &str) -> Result<Shown> {
    let in_force = store.in_force(task)?;
    let mut shown = Shown {
        task: task.to_owned(),
        in_force: in_force.as_ref().map(|release| release.id),
        trial: store.latest_trial(task)?,
        under_way: false,
        beside: None,
        comparison: None,
        promises: Vec::new(),
        differences: Vec::new(),
    };
    let Some(trial) = &shown.trial else { return Ok(shown) };
    shown.under_way = trial.ended_at.is_none();
    // Beside the release in force; of a trial that is over, beside the one that it saw the most of.
    let mut comparisons = store.comparisons(trial.number)?;
    comparisons
        .sort_by_key(|(live, counted)| (Some(*live) == shown.in_force && shown.under_way, counted.inputs));
    if let Some((live, counted)) = comparisons.pop() {
        shown.beside = Some(live);
        shown.comparison = Some(compared(&counted, trial.mode));
    }
    if trial.mode == TrialMode::Canary {
        let beside = match shown.beside.filter(|beside| Some(*beside) != shown.in_force) {
            Some(beside) => Some(store.release(task, &beside.to_string())?),
            None => in_force,
        };
        shown.promises = promises(store, beside, store.release(task, &trial.release.to_string())?)?;
    }
    for difference in store.differences(trial.number, DIFFERENCES_KEPT as usize)? {
        let kept = store.record(&difference.decision)?.map(|record| record.input);
        let text = match kept {
            Some(StoredInput::Redacted(text) | StoredInput::Full(text)) => Some(text),
            Some(StoredInput::Nothing) | None => None,
        };
        shown.differences.push(DifferenceShown { difference, text });
    }
    Ok(shown)
}

fn compared(counted: &Comparison, mode: TrialMode) -> ComparisonShown {
    let took = |times: &Times| Took { median_us: times.quantile(0.5), p95_us: times.quantile(0.95) };
    let question = |(name, of): (&String, &Compared)| {
        let shadow = |count: u64| (mode == TrialMode::Shadow).then_some(count);
        let (live, trial) = (of.live, of.trial);
        QuestionShown {
            question: name.clone(),
            live_answered: Share::new(live.answered, live.asked),
            trial_answered: Share::new(trial.answered, trial.asked),
            alike: (mode == TrialMode::Shadow).then(|| Share::new(of.agree, of.both)),
            only_live: shadow(live.answered.saturating_sub(of.both)),
            only_trial: shadow(trial.answered.saturating_sub(of.both)),
            neither: shadow((live.asked + of.both).saturating_sub(live.answered + trial.answered)),
        }
    };
    ComparisonShown {
        inputs: counted.inputs,
        dropped: counted.dropped,
        failed: counted.failed,
        live_took: took(&counted.live_took),
        trial_took: took(&counted.trial_took),
        questions: counted.questions.iter().map(question).collect(),
    }
}

fn promises(store: &Store, live: Option<Release>, tried: Release) -> Result<Vec<PromiseShown>> {
    let side = |standing: &Standing| SideShown {
        state: standing.state,
        threshold: standing.threshold,
        drawn: standing.probes.drawn,
        told: standing.probes.told,
        served_error: standing.served_error,
    };
    let live = live.map_or(Ok(Vec::new()), |live| {
        sizewise_engine::standings_of(store, live).map(|(_, standings)| standings)
    })?;
    let (info, tried) = sizewise_engine::standings_of(store, tried)?;
    let of = |standings: &[Standing], name: &str| {
        standings.iter().find(|standing| standing.question == name).map(side)
    };
    let questions = info.task.questions.iter().map(|question| PromiseShown {
        question: question.name.clone(),
        promise: info.task.promise_of(question),
        live: of(&live, &question.name),
        trial: of(&tried, &question.name),
    });
    Ok(questions.collect())
}

/// What a trial does, in words.
fn told(trial: &Trial) -> String {
    let share = percent(trial.share);
    match trial.mode {
        TrialMode::Shadow => {
            format!("it judges {share} of the requests once more, behind their callers' backs")
        }
        TrialMode::Canary => format!("it answers {share} of the requests, the same subjects always"),
    }
}

fn text(out: &mut String, shown: &Shown) -> std::fmt::Result {
    let Some(trial) = &shown.trial else {
        return writeln!(
            out,
            "No release of {} was ever tried. Begin: sizewise trial begin {} RELEASE --shadow",
            shown.task, shown.task
        );
    };
    let (release, mode) = (trial.release.short(), trial.mode.name());
    match (trial.ended_at, &trial.ended_because) {
        (Some(ended), because) => writeln!(
            out,
            "Release {release} was tried as a {mode} from {} to {}: {}.",
            clock::minute(trial.begun_at),
            clock::minute(ended),
            because.as_deref().unwrap_or("ended")
        )?,
        (None, _) => writeln!(
            out,
            "Release {release} is tried as a {mode} since {} ({}): {}.",
            clock::minute(trial.begun_at),
            trial.begun_by,
            told(trial)
        )?,
    }
    let (Some(beside), Some(comparison)) = (&shown.beside, &shown.comparison) else {
        return writeln!(out, "Nothing was counted yet; servers add what they counted every few seconds.");
    };
    writeln!(
        out,
        "Beside release {}: {} inputs, {} not kept up with, {} failed. Intervals are exact, 95 %.\n",
        beside.short(),
        comparison.inputs,
        comparison.dropped,
        comparison.failed
    )?;
    answered(out, comparison)?;
    alike(out, comparison);
    wrong(out, &shown.promises);
    differences(out, shown)?;
    if shown.under_way {
        writeln!(
            out,
            "\nsizewise promote {} {release} puts it in force; sizewise trial end {} ends the trial",
            shown.task, shown.task
        )?;
    }
    Ok(())
}

fn share(of: &Share) -> String {
    match of.of {
        0 => "no rows".into(),
        rows => format!("{} ({}–{}, n {rows})", percent(of.value), percent(of.low), percent(of.high)),
    }
}

fn answered(out: &mut String, comparison: &ComparisonShown) -> std::fmt::Result {
    let mut table =
        Table::new(&[("answered here", Align::Left), ("in force", Align::Right), ("on trial", Align::Right)]);
    for one in &comparison.questions {
        table.row([one.question.clone(), share(&one.live_answered), share(&one.trial_answered)]);
    }
    let took = |took: &Took| match (took.median_us, took.p95_us) {
        (Some(median), Some(most)) => format!("{} ({})", milliseconds(median), milliseconds(most)),
        _ => "–".into(),
    };
    table.row([
        "median (95 of 100), to about a tenth".to_owned(),
        took(&comparison.live_took),
        took(&comparison.trial_took),
    ]);
    write!(out, "{}", table.render())
}

fn milliseconds(us: u64) -> String {
    format!("{:.3} ms", us as f64 / 1e3)
}

fn alike(out: &mut String, comparison: &ComparisonShown) {
    let mut table = Table::new(&[
        ("both answered", Align::Left),
        ("alike", Align::Right),
        ("only in force", Align::Right),
        ("only on trial", Align::Right),
        ("neither", Align::Right),
    ]);
    let mut any = false;
    for one in &comparison.questions {
        let (Some(alike), Some(only_live), Some(only_trial), Some(neither)) =
            (&one.alike, one.only_live, one.only_trial, one.neither)
        else {
            continue;
        };
        any = true;
        table.row([
            one.question.clone(),
            share(alike),
            only_live.to_string(),
            only_trial.to_string(),
            neither.to_string(),
        ]);
    }
    if any {
        let _ = write!(out, "\n{}", table.render());
    }
}

fn wrong(out: &mut String, promises: &[PromiseShown]) {
    if promises.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        ("wrong, by probes", Align::Left),
        ("promised", Align::Right),
        ("in force", Align::Left),
        ("on trial", Align::Left),
    ]);
    let side = |side: &Option<SideShown>| match side {
        None => "no certificate".to_owned(),
        Some(one) => {
            let state = one.state.name().replace('_', " ");
            let Interval { estimate, low, high } = one.served_error;
            let error = estimate.map_or("not known yet".to_owned(), |estimate| {
                format!("{} ({}–{})", percent(estimate), percent(low), percent(high))
            });
            format!("{state}: {error}, {} of {} probes told", one.told, one.drawn)
        }
    };
    for one in promises {
        table.row([
            one.question.clone(),
            format!("≤ {}", percent(one.promise.max_served_error)),
            side(&one.live),
            side(&one.trial),
        ]);
    }
    let _ = write!(out, "\n{}", table.render());
}

fn differences(out: &mut String, shown: &Shown) -> std::fmt::Result {
    if shown.differences.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nAnswered otherwise, the latest {SHOWN} of {} that are kept", shown.differences.len())?;
    let mut table = Table::new(&[
        ("question", Align::Left),
        ("in force", Align::Left),
        ("on trial", Align::Left),
        ("text", Align::Left),
    ]);
    let said = |value: &str, confidence: Option<f64>| {
        confidence.map_or(value.to_owned(), |confidence| format!("{value} ({confidence:.3})"))
    };
    for DifferenceShown { difference: one, text } in shown.differences.iter().take(SHOWN) {
        let text = text.as_deref().map_or("not kept".to_owned(), |text| {
            let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            line.chars().filter(|c| !c.is_control()).take(60).collect()
        });
        table.row([
            one.question.clone(),
            said(&one.live_value, one.live_confidence),
            said(&one.trial_value, one.trial_confidence),
            text,
        ]);
    }
    write!(out, "{}", table.render())
}
