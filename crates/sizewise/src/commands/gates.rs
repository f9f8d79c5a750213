//! `sizewise promote`, and the gates of `certify`: what else stands between a promise that holds and an answer?
//!
//! A promise that holds on average may fail for a language or a segment, let strays in, or come too late. Each gate says what was found
//! and lets pass, refuses, or says that there is too little evidence, which lets pass as well: nobody could serve a small slice
//! otherwise. A question that a gate refuses is answered by nobody until a person overrides it with a reason.

pub(crate) mod release;

use super::{
    DONE, REFUSED, bench,
    trained::{Trained, store},
};
use crate::{
    cli::Promote,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
};
use serde::Serialize;
use sizewise_contract::{
    Certificate, Code, ContentHash, Gate, GateName, GateResult, Interval, Slice, SliceVerdict, Task,
    task::Promise,
};
use sizewise_learn::dataset::{Locked, read_gold};
use sizewise_measure::{
    cascade::RowOutcome,
    mix::Development,
    slices::{self, Measure},
};
use sizewise_store::Store;
use std::fmt::Write;

/// By which columns the locked rows are looked at.
pub(super) struct Sliced {
    columns: Vec<String>,
    /// One list a column, one cell a row.
    cells: Vec<Vec<String>>,
}

impl Sliced {
    /// Reads the columns, and no label.
    pub(super) fn new(locked: &Locked, columns: Vec<String>) -> Result<Self> {
        Ok(Self { cells: locked.slices(&columns)?, columns })
    }

    /// Looks at one question's rows at its threshold. `places` says which rows of the table they are. The promise has the openings that
    /// share its risk.
    pub(super) fn judge(
        &self,
        (task, promise): (&Task, &Promise),
        (places, outcomes): (&[usize], &[RowOutcome]),
        threshold: f64,
    ) -> (Vec<Slice>, Vec<Gate>) {
        let cells =
            |list: &Vec<String>| places.iter().filter_map(|place| list.get(*place)).cloned().collect();
        let own: Vec<Vec<String>> = self.cells.iter().map(cells).collect();
        let risk = (1.0 - promise.confidence) / f64::from(promise.openings.max(1));
        // One more for each question: its rows outside every class.
        let compared = (slices::count(&self.cells) + 1) * task.questions.len();
        let measure = Measure {
            threshold,
            max_served_error: promise.max_served_error,
            confidence: slices::confidence_of_each(risk, compared),
        };
        let columns: Vec<(&str, Vec<&str>)> = self
            .columns
            .iter()
            .zip(&own)
            .map(|(name, cells)| (name.as_str(), cells.iter().map(String::as_str).collect()))
            .collect();
        let found = slices::judge(&columns, outcomes, measure);
        let mut gates = Vec::new();
        if !found.is_empty() {
            gates.push(of_slices(task, &found, promise));
        }
        gates.extend(slices::outside(outcomes, measure).as_ref().map(of_outside));
        (found, gates)
    }
}

/// Whether the promise holds for every slice.
fn of_slices(task: &Task, found: &[Slice], promise: &Promise) -> Gate {
    let of = |kind: fn(&SliceVerdict) -> bool| found.iter().filter(move |slice| kind(&slice.verdict));
    let worse: Vec<&Slice> = of(|verdict| *verdict == SliceVerdict::WorseThanPromised).collect();
    let small: Vec<&Slice> = of(|verdict| matches!(verdict, SliceVerdict::NotEnoughRows { .. })).collect();
    let told = |slices: &[&Slice]| slices.iter().map(|slice| name(slice)).collect::<Vec<_>>().join(", ");
    let (result, text, hint) = if !worse.is_empty() {
        let each = |slice: &&Slice| {
            let Interval { low, high, .. } = slice.served_error;
            let (low, high) = (percent(low), percent(high));
            format!("{}: {} of {} answers wrong ({low}–{high})", name(slice), slice.wrong, slice.answered)
        };
        let each: Vec<String> = worse.iter().map(each).collect();
        let text =
            format!("worse than the {} promised: {}", percent(promise.max_served_error), each.join("; "));
        let hint = format!(
            "label more rows of {} to learn from, add them to your table with the column, and make the task again: \
             sizewise init {} --from TABLE --slice COLUMN --force; or say why it is right as it is: --override REASON",
            told(&worse),
            task.name
        );
        (GateResult::Refuse, text, Some(hint))
    } else if !small.is_empty() {
        let text = format!("{} of {} slices have too few rows to say", small.len(), found.len());
        let each = |slice: &&Slice| match slice.verdict {
            SliceVerdict::NotEnoughRows { label_more: Some(more) } => format!("{more} of {}", name(slice)),
            _ => format!(
                "{}: no number would settle it, its errors are about as many as promised",
                name(slice)
            ),
        };
        let each: Vec<String> = small.iter().map(each).collect();
        (
            GateResult::NotEnough,
            text,
            Some(format!("about so many more locked rows would say: {}", each.join(", "))),
        )
    } else {
        (GateResult::Pass, format!("all {} slices are as promised", found.len()), None)
    };
    Gate { name: GateName::Slices, found: text, result, hint }
}

/// Whether rows outside every class are answered less often than the others: else confidence says nothing about them.
fn of_outside(found: &slices::Outside) -> Gate {
    let Interval { value, low, high } = found.answered;
    let text = format!(
        "{} of {} rows outside every class are answered ({}–{})",
        percent(value),
        found.rows,
        percent(low),
        percent(high)
    );
    let (result, hint) = match () {
        () if found.gap.low > 0.0 => (GateResult::Pass, None),
        () if found.gap.high < 0.0 => (
            GateResult::Refuse,
            Some("they are answered more often than the others: add such rows to those that are learnt from".into()),
        ),
        () => (
            GateResult::NotEnough,
            Some("whether they are answered less often than the others cannot be said: add such rows to your table".into()),
        ),
    };
    Gate { name: GateName::OutOfScope, found: text, result, hint }
}

/// Looks at what all questions have in common: the release's parts, which were read just before, and how long it takes.
pub(super) fn look_at_release(
    certificates: &mut [Certificate],
    (store, trained, project): (&Store, &Trained, &Project),
    gold: &[Vec<Development>],
    screen: &Screen,
) -> Result<()> {
    let parts = trained.release.manifest.parts.len();
    let found = format!("all {parts} parts have the bytes that the manifest names");
    let whole = Gate { name: GateName::Parts, found, result: GateResult::Pass, hint: None };
    let latency = latency(certificates, (trained, project), screen)?;
    let opened = |certificate: &Certificate| {
        let own =
            trained.task.questions.iter().zip(gold).find(|(asked, _)| asked.name == certificate.question);
        Ok(own.map(|(_, rows)| rows.iter().map(|row| row.row.outcome.clone()).collect()))
    };
    let found = release::of_release(store, (trained, project), (certificates, &opened))?;
    for certificate in certificates.iter_mut().filter(|certificate| certificate.verdict.is_certified()) {
        if let (Some((took, texts)), Some(promised)) = (latency, certificate.promise.p95_latency_ms) {
            certificate.gates.push(of_latency(took, texts, promised));
        }
        certificate.gates.push(whole.clone());
        let own = found.iter().find(|(question, _)| *question == certificate.question);
        certificate.gates.extend(own.into_iter().flat_map(|(_, gates)| gates).cloned());
    }
    Ok(())
}

/// How long 95 of 100 development rows take at most, on this machine, where that was promised; and how many were asked.
fn latency(
    certificates: &[Certificate],
    (trained, project): (&Trained, &Project),
    screen: &Screen,
) -> Result<Option<(f64, usize)>> {
    let task = &trained.task;
    if !certificates.iter().any(|c| c.verdict.is_certified() && c.promise.p95_latency_ms.is_some()) {
        return Ok(None);
    }
    let rows = read_gold(task, &project.task_folder(&task.name).join(&task.data.dev))?;
    let texts: Vec<&str> = rows.examples.iter().map(|example| example.text.as_str()).collect();
    if texts.is_empty() {
        return Ok(None);
    }
    let limit = |question: &sizewise_contract::Question| {
        let own = certificates.iter().find(|certificate| certificate.question == question.name);
        own.and_then(|certificate| certificate.threshold).unwrap_or(f64::INFINITY)
    };
    let limits: Vec<f64> = task.questions.iter().map(limit).collect();
    bench::p95_ms(trained, &limits, &texts, &screen.stop()).map(Some)
}

fn of_latency(took: f64, texts: usize, promised: u32) -> Gate {
    let found = format!(
        "95 of 100 answers within {took:.2} ms on this machine, {texts} development rows asked one by one; {promised} ms promised"
    );
    let (result, hint) = match took <= f64::from(promised) {
        true => (GateResult::Pass, None),
        false => (
            GateResult::Refuse,
            Some("make the encoder smaller with `sizewise compress`, promise more milliseconds, or certify on the machine that serves".into()),
        ),
    };
    Gate { name: GateName::Latency, found, result, hint }
}

/// The override has a reason that somebody can read.
pub(super) fn check_reason(reason: Option<&str>) -> Result<()> {
    match reason.is_some_and(|reason| reason.trim().is_empty()) {
        true => Err(Error::usage("--override needs a reason: it stands in the audit log")),
        false => Ok(()),
    }
}

/// A slice's name for people.
pub(crate) fn name(slice: &Slice) -> String {
    let value = if slice.value.is_empty() { "(empty)" } else { &slice.value };
    format!("{} {value}", slice.column)
}

/// What is said of a slice in a table.
pub(crate) fn verdict(slice: &Slice) -> String {
    let less = if slice.answers_less { ", answers less than the rest" } else { "" };
    match slice.verdict {
        SliceVerdict::AsPromised => format!("as promised{less}"),
        SliceVerdict::WorseThanPromised => format!("worse than promised{less}"),
        SliceVerdict::NotEnoughRows { label_more: Some(more) } => {
            format!("not enough rows: label {more} more{less}")
        }
        SliceVerdict::NotEnoughRows { label_more: None } => format!("not enough rows{less}"),
    }
}

/// The slices of a certificate.
pub(super) fn slices_text(certificate: &Certificate, screen: &Screen) -> String {
    if certificate.slices.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("slice", Align::Left),
        ("rows", Align::Right),
        ("coverage", Align::Right),
        ("wrong", Align::Right),
        ("served error", Align::Right),
        ("", Align::Left),
    ]);
    let interval =
        |of: &Interval| format!("{} ({}–{})", percent(of.value), percent(of.low), percent(of.high));
    for slice in &certificate.slices {
        table.row([
            name(slice),
            slice.rows.to_string(),
            interval(&slice.coverage),
            slice.wrong.to_string(),
            interval(&slice.served_error),
            match slice.verdict == SliceVerdict::WorseThanPromised {
                true => screen.bad(&verdict(slice)),
                false => verdict(slice),
            },
        ]);
    }
    table.render() + "\n"
}

/// The gates of all questions.
pub(super) fn text(certificates: &[Certificate], screen: &Screen) -> String {
    let mut out = String::new();
    let mut table = Table::new(&[
        ("gate", Align::Left),
        ("question", Align::Left),
        ("result", Align::Left),
        ("found", Align::Left),
    ]);
    let mut hints: Vec<String> = Vec::new();
    let all = certificates
        .iter()
        .flat_map(|certificate| certificate.gates.iter().map(move |gate| (certificate, gate)));
    for (certificate, gate) in all {
        table.row([
            gate.name.name().to_owned(),
            certificate.question.clone(),
            gate.result.name().to_owned(),
            gate.found.clone(),
        ]);
        if let Some(hint) = &gate.hint {
            hints.push(format!(
                "  {} {}, {}: {hint}\n",
                screen.bad("!"),
                gate.name.name(),
                certificate.question
            ));
        }
    }
    if certificates.iter().all(|certificate| certificate.gates.is_empty()) {
        return out;
    }
    let _ = writeln!(out, "{}\n{}{}", screen.bold("Gates"), table.render(), hints.concat());
    for certificate in certificates {
        if let Some(overridden) = &certificate.overridden {
            let _ = writeln!(
                out,
                "{}: overridden by {}: {}",
                certificate.question, overridden.actor, overridden.reason
            );
        } else if certificate.is_refused() {
            let _ = writeln!(out, "{}: certified, but not answered: a gate refuses it", certificate.question);
        }
    }
    out
}

#[derive(Serialize)]
struct Promoted<'a> {
    task: &'a str,
    release: ContentHash,
    in_force: bool,
    certificates: &'a [Certificate],
}

pub(super) fn promote(project: &Project, arguments: &Promote, screen: &Screen) -> Result<u8> {
    check_reason(arguments.reason.as_deref())?;
    let task = project.task(&arguments.task)?.name;
    let store = store(project)?;
    let release = store.release(&task, &arguments.release)?;
    let proven = |certificate: &&Certificate| certificate.verdict.is_certified();
    if !release.certificates.iter().any(|certificate| proven(&certificate)) {
        return Err(Error::Policy {
            message: format!("release {} of `{task}` has no certificate", release.id.short()),
            code: Code::NotCertified,
            hint: format!("test it first: sizewise certify {task} --release {}", release.id.short()),
        });
    }
    let release = release::look_again(&store, project, &release)?;
    let is_refused = release.certificates.iter().filter(proven).any(|certificate| !certificate.may_answer());
    if is_refused && arguments.reason.is_none() {
        let id = release.id;
        let said =
            Promoted { task: &task, release: id, in_force: false, certificates: &release.certificates };
        screen.result("promote", &said, || {
            format!(
                "{}Release {} is not put in force: a gate refuses it.\n",
                text(&release.certificates, screen),
                id.short()
            )
        });
        return Ok(REFUSED);
    }
    let release = store.promote(&task, &release.id.to_string(), arguments.reason.as_deref())?;
    // They were looked at again, and may be overridden.
    super::certify::write_files(&project.task_folder(&task), &release.certificates)?;
    let said =
        Promoted { task: &task, release: release.id, in_force: true, certificates: &release.certificates };
    screen.result("promote", &said, || {
        format!(
            "{}Release {} is in force; running servers notice within a second.\n",
            text(&release.certificates, screen),
            release.id.short()
        )
    });
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_measure::cascade::TierOutcome;

    const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";

    fn row(right: bool, out_of_scope: bool, confidence: f64) -> RowOutcome {
        let tiers = vec![TierOutcome { tier: sizewise_contract::Tier::Static, confidence, right }];
        RowOutcome { tiers, out_of_scope, weight: 1.0 }
    }

    /// The gates of 400 rows in English and some in another language, of which every so-manieth is wrong.
    fn gates(others: usize, wrong_every: usize) -> (Vec<Slice>, Vec<Gate>) {
        let mut rows: Vec<RowOutcome> = (0..400).map(|i| row(i % 100 > 0, false, 0.9)).collect();
        rows.extend((0..others).map(|i| row(i % wrong_every > 0, false, 0.9)));
        let language = |i: usize| if i < 400 { "en".to_owned() } else { String::new() };
        let cells = vec![(0..rows.len()).map(language).collect()];
        let sliced = Sliced { columns: vec!["language".into()], cells };
        let places: Vec<usize> = (0..rows.len()).collect();
        let task = Task::parse(TASK).unwrap();
        sliced.judge((&task, &Promise::default()), (&places, &rows), 0.5)
    }

    #[test]
    fn a_slice_that_is_clearly_worse_refuses_and_is_named() {
        let (slices, gates) = gates(60, 4);
        let [gate] = &gates[..] else { panic!("no row is out of scope: {gates:?}") };
        assert_eq!((slices.len(), gate.name, gate.result), (2, GateName::Slices, GateResult::Refuse));
        assert!(gate.found.contains("language (empty): 15 of 60 answers wrong"), "{}", gate.found);
        assert!(gate.hint.as_deref().is_some_and(|hint| hint.contains("--slice")));
    }

    #[test]
    fn a_slice_that_is_too_small_refuses_nothing_and_says_how_many_rows_would_tell() {
        let (_, gates) = gates(10, 20);
        assert!(gates.iter().all(|gate| gate.result == GateResult::NotEnough), "{gates:?}");
        assert!(
            gates
                .iter()
                .any(|gate| gate.hint.as_deref().is_some_and(|hint| hint.contains("of language (empty)")))
        );
    }

    #[test]
    fn answers_to_strays_and_late_answers_refuse() {
        let measure = Measure { threshold: 0.5, max_served_error: 0.05, confidence: 0.99 };
        let rows = |own: f64, strays: f64| -> Vec<RowOutcome> {
            (0..200).map(|i| if i < 100 { row(true, false, own) } else { row(false, true, strays) }).collect()
        };
        let result = |rows: &[RowOutcome]| {
            slices::outside(rows, measure).as_ref().map(|found| of_outside(found).result)
        };
        assert_eq!(result(&rows(0.9, 0.1)), Some(GateResult::Pass));
        assert_eq!(result(&rows(0.1, 0.9)), Some(GateResult::Refuse));
        assert_eq!(result(&rows(0.9, 0.9)), Some(GateResult::NotEnough));
        assert_eq!(result(&rows(0.9, 0.1)[..100]), None);
        assert_eq!(of_latency(4.9, 100, 5).result, GateResult::Pass);
        assert_eq!(of_latency(5.1, 100, 5).result, GateResult::Refuse);
    }
}
