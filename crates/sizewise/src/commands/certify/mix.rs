//! What is kept of opened rows, so that a promise can be tested again when the mix of classes has changed?
//!
//! Numbers alone: the class of each row, how sure each tier was and whether it was right; of development rows what the static tier said as well.

use super::super::trained::Trained;
use crate::{error::Result, screen::Screen};
use sizewise_contract::{Certificate, ClassLabel, Example, Gold, Tier};
use sizewise_learn::{dataset::read_gold, train::Judged};
use sizewise_measure::mix::{Development, Labelled, MixRows, answer};
use sizewise_store::Store;
use std::path::Path;

/// The rows of one question with their classes.
pub(super) fn labelled(
    (trained, question): (&Trained, usize),
    rows: &[Example<Gold>],
    judged: &[Judged],
) -> Vec<Development> {
    let outside = trained.task.questions.get(question).map_or(0, |question| question.class_values().len());
    let row = |judged: &Judged| {
        let class = match rows.get(judged.row)?.class_label(question)? {
            ClassLabel::Class(class) => usize::from(class),
            ClassLabel::OutOfScope => outside,
        };
        let own = judged.judgements.iter().find(|judgement| judgement.tier == Tier::Static)?;
        let row = Labelled { class, outcome: judged.outcome.clone()? };
        Some(Development { row, said: answer(own.class, own.confidence) })
    };
    judged.iter().filter_map(row).collect()
}

/// Keeps them for the questions that were certified.
pub(super) fn keep(
    store: &Store,
    (trained, folder): (&Trained, &Path),
    (certificates, gold): (&[Certificate], Vec<Vec<Development>>),
    screen: &Screen,
) -> Result<()> {
    let task = &trained.task;
    let rows = read_gold(task, &folder.join(&task.data.dev))?;
    let stop = screen.stop();
    let judged = trained.judge(&rows.examples, &stop, &|_, _, _| ())?;
    for (position, ((certificate, gold), judged)) in certificates.iter().zip(gold).zip(&judged).enumerate() {
        if !certificate.verdict.is_certified() {
            continue;
        }
        let outside = task.questions.get(position).map_or(0, |question| question.class_values().len());
        let development = labelled((trained, position), &rows.examples, judged);
        let has_outside = gold.iter().chain(&development).any(|one| one.row.class == outside);
        let kept = MixRows {
            classes: outside + usize::from(has_outside),
            answers: outside * 2,
            gold: gold.into_iter().map(|one| one.row).collect(),
            development,
        };
        store.keep_mix_rows(&trained.release.id, &certificate.question, &kept)?;
    }
    Ok(())
}
