//! `sizewise evaluate`: how good is the release in force?

use super::{
    DONE,
    trained::{OpenRows, Trained, open_rows, store},
};
use crate::{
    cli::Evaluate,
    error::{Error, Result},
    evaluation::{At, Evaluation, QuestionEvaluation, question},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent, shortened, with_interval},
};
use sizewise_contract::Question;
use sizewise_measure::metrics::Estimate;
use std::{fmt::Write, path::Path};

/// Classes that the terminal shows; the JSON document and the report have all.
const SHOWN_CLASSES: usize = 25;

pub(super) fn run(project: &Project, arguments: &Evaluate, screen: &Screen) -> Result<u8> {
    let trained = load(project, &arguments.task)?;
    let evaluation = measure(project, &trained, (arguments.against.as_deref(), arguments.mistakes), screen)?;
    screen.result("evaluate", &evaluation, || text(&evaluation, screen));
    Ok(DONE)
}

/// The release in force with its models.
pub(super) fn load(project: &Project, name: &str) -> Result<Trained> {
    let task = project.task(name)?;
    let store = store(project)?;
    let release = store.in_force(&task.name)?.ok_or(Error::NotTrained { task: task.name })?;
    Trained::load(&store, release)
}

/// Measures a release on rows that may be looked at.
pub(crate) fn measure(
    project: &Project,
    trained: &Trained,
    (against, mistakes): (Option<&Path>, usize),
    screen: &Screen,
) -> Result<Evaluation> {
    let task = &trained.task;
    let OpenRows { path, rows, locked, fitted } = open_rows(project, task, against)?;
    let (progress, stop) = (screen.progress(), screen.stop());
    let judged = trained.judge(&rows.examples, &stop, &|step, done, of| progress.at(step, done, of))?;
    progress.end();
    let measured = task.questions.iter().zip(&judged).enumerate().map(|(position, (asked, judged))| {
        let at = threshold(trained, asked);
        question((task, asked, position), &rows.examples, judged, (at, mistakes))
    });
    Ok(Evaluation {
        questions: measured.collect(),
        task: task.name.clone(),
        release: trained.release.id,
        table: path.strip_prefix(project.root()).unwrap_or(&path).display().to_string(),
        rows_hash: rows.hash,
        locked_left_out: locked,
        fitted_left_out: fitted,
    })
}

/// The confidence from which a question is answered: the certified one, else what the promise asks of the calibrator.
pub(super) fn threshold(trained: &Trained, asked: &Question) -> At {
    let certified = trained.release.certificate(&asked.name).and_then(|certificate| certificate.threshold);
    At {
        threshold: certified.unwrap_or(1.0 - trained.task.promise_of(asked).max_served_error),
        certified: certified.is_some(),
    }
}

fn text(evaluation: &Evaluation, screen: &Screen) -> String {
    let mut out = String::new();
    let _ =
        writeln!(out, "Release {} on {} (intervals at 95 %)", evaluation.release.short(), evaluation.table);
    for (left_out, why) in [
        (evaluation.locked_left_out, "they are locked"),
        (evaluation.fitted_left_out, "the models were fitted on them"),
    ] {
        if left_out > 0 {
            let _ = writeln!(out, "  {left_out} of its rows are left out: {why}");
        }
    }
    for question in &evaluation.questions {
        let _ = write_question(&mut out, question, screen);
    }
    out
}

fn write_question(out: &mut String, question: &QuestionEvaluation, screen: &Screen) -> std::fmt::Result {
    let outside = question.out_of_scope_rows;
    writeln!(out, "\n{} ({} rows, {outside} out of scope)", screen.bold(&question.question), question.rows)?;
    for tier in &question.tiers {
        writeln!(out, "  {:<28}{}", format!("{} alone, in scope", tier.tier), with_interval(&tier.accuracy))?;
    }
    let cascade = &question.cascade;
    let source = if cascade.certified { "certified" } else { "not certified" };
    writeln!(out, "  {:<28}{:.4} ({source})", "threshold", cascade.threshold)?;
    writeln!(out, "  {:<28}{}", "coverage", with_interval(&cascade.coverage))?;
    let promised = percent(question.promise.max_served_error);
    writeln!(out, "  {:<28}{}, {promised} promised", "served error", with_interval(&cascade.served_error))?;
    let tiers: Vec<String> = cascade.by_tier.iter().map(|(tier, rows)| format!("{tier} {rows}")).collect();
    writeln!(out, "  {:<28}{}", "answered by", tiers.join(", "))?;
    if outside > 0 {
        writeln!(
            out,
            "  {:<28}{}",
            "out of scope but answered",
            with_interval(&cascade.out_of_scope_answered)
        )?;
    }
    if let Some(auroc) = &question.out_of_scope_auroc {
        writeln!(out, "  {:<28}{}", "out-of-scope AUROC", estimate(auroc))?;
    }
    writeln!(out, "  {:<28}{}", "macro F1, all answered", estimate(&question.macro_f1))?;
    writeln!(out, "  {:<28}{}", "calibration error", estimate(&question.calibration_error))?;
    writeln!(out, "  {:<28}{}", "Brier score", estimate(&question.brier))?;
    writeln!(out, "  {:<28}{:.4}", "area under risk–coverage", question.area_under_risk_coverage)?;
    write_curve(out, question)?;
    write_classes(out, question)?;
    write_mistakes(out, question, screen)
}

fn write_curve(out: &mut String, question: &QuestionEvaluation) -> std::fmt::Result {
    writeln!(out, "\n  If the threshold were another one:")?;
    let mut table =
        Table::new(&[("coverage", Align::Right), ("threshold", Align::Right), ("served error", Align::Left)]);
    for wanted in [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] {
        let nearest = question
            .curve
            .iter()
            .min_by(|a, b| (a.coverage - wanted).abs().total_cmp(&(b.coverage - wanted).abs()));
        if let Some(point) = nearest {
            table.row([
                percent(point.coverage),
                format!("{:.4}", point.threshold),
                with_interval(&point.served_error),
            ]);
        }
    }
    write!(out, "{}", table.render())
}

fn write_classes(out: &mut String, question: &QuestionEvaluation) -> std::fmt::Result {
    let mut classes: Vec<_> = question.classes.iter().filter(|class| class.rows > 0).collect();
    classes.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let weakest = if classes.len() > SHOWN_CLASSES { ", the weakest first" } else { "" };
    writeln!(out, "\n  Every row answered, class by class{weakest}:")?;
    let mut table = Table::new(&[
        ("class", Align::Left),
        ("rows", Align::Right),
        ("precision", Align::Left),
        ("recall", Align::Left),
        ("F1", Align::Right),
    ]);
    for class in classes.iter().take(SHOWN_CLASSES) {
        table.row([
            class.class.clone(),
            class.rows.to_string(),
            with_interval(&class.precision),
            with_interval(&class.recall),
            format!("{:.3}", class.f1),
        ]);
    }
    write!(out, "{}", table.render())?;
    match classes.len().saturating_sub(SHOWN_CLASSES) {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more: -o json and `sizewise report` show all"),
    }
}

fn write_mistakes(out: &mut String, question: &QuestionEvaluation, screen: &Screen) -> std::fmt::Result {
    if question.mistakes.is_empty() {
        return writeln!(out, "\n  No mistakes.");
    }
    writeln!(out, "\n  The surest mistakes:")?;
    for mistake in &question.mistakes {
        let served = if mistake.served { screen.bad("served") } else { "escalated".to_owned() };
        writeln!(
            out,
            "  row {:<6} {:.3} {} by {}: {} for {}\n      {}",
            mistake.row,
            mistake.confidence,
            served,
            mistake.tier,
            mistake.answer,
            mistake.truth,
            shortened(&mistake.text, 100)
        )?;
    }
    Ok(())
}

fn estimate(estimate: &Estimate) -> String {
    format!("{:.3} ({:.3}–{:.3})", estimate.value, estimate.low, estimate.high)
}
