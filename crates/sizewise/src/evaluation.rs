//! How good is a release on rows that may be looked at?

use serde::Serialize;
use sizewise_contract::{ContentHash, Example, Gold, Label, Question, Task, Tier, task::Promise};
use sizewise_learn::train::Judged;
use sizewise_measure::{
    cascade::{RowOutcome, area_under_risk_coverage, curve},
    metrics::{self, Bin, ClassRow, Estimate, Pair, Share},
};
use std::collections::BTreeMap;

/// Points of the risk–coverage curve.
const POINTS: usize = 60;
/// Pairs of confused classes that are listed.
const CONFUSIONS: usize = 40;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    pub(crate) task: String,
    pub(crate) release: ContentHash,
    /// The table, as the user named it.
    pub(crate) table: String,
    /// Hash of its texts and labels.
    pub(crate) rows_hash: ContentHash,
    /// Rows of the table that are locked, and were not evaluated on.
    pub(crate) locked_left_out: usize,
    /// Rows of the table that the models were fitted on, and were not evaluated on.
    pub(crate) fitted_left_out: usize,
    pub(crate) questions: Vec<QuestionEvaluation>,
}

/// What was measured of one question. Intervals are at 95 %.
#[derive(Debug, Serialize)]
pub(crate) struct QuestionEvaluation {
    pub(crate) question: String,
    pub(crate) promise: Promise,
    /// Labelled rows.
    pub(crate) rows: u64,
    /// Those that belong to no class.
    pub(crate) out_of_scope_rows: u64,
    /// Every in-scope row answered by one tier.
    pub(crate) tiers: Vec<TierAccuracy>,
    /// The cascade at the threshold in force.
    pub(crate) cascade: Operating,
    /// The same answers without escalating, class by class.
    pub(crate) classes: Vec<ClassRow>,
    pub(crate) macro_f1: Estimate,
    pub(crate) calibration_error: Estimate,
    pub(crate) brier: Estimate,
    pub(crate) reliability: Vec<Bin>,
    /// How well confidence ranks in-scope rows above the others.
    pub(crate) out_of_scope_auroc: Option<Estimate>,
    pub(crate) curve: Vec<CurvePoint>,
    pub(crate) area_under_risk_coverage: f64,
    pub(crate) confusions: Vec<Confusion>,
    /// Wrong answers, the surest first.
    pub(crate) mistakes: Vec<Mistake>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct TierAccuracy {
    pub(crate) tier: Tier,
    pub(crate) accuracy: Share,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Operating {
    pub(crate) threshold: f64,
    /// Whether the threshold comes from a certificate.
    pub(crate) certified: bool,
    pub(crate) coverage: Share,
    pub(crate) served_error: Share,
    pub(crate) by_tier: Vec<(Tier, u64)>,
    /// Out-of-scope rows that are answered all the same.
    pub(crate) out_of_scope_answered: Share,
}

#[derive(Debug, Serialize)]
pub(crate) struct CurvePoint {
    pub(crate) threshold: f64,
    pub(crate) coverage: f64,
    pub(crate) served_error: Share,
}

#[derive(Debug, Serialize)]
pub(crate) struct Confusion {
    pub(crate) truth: String,
    pub(crate) answer: String,
    pub(crate) rows: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Mistake {
    pub(crate) row: u64,
    pub(crate) text: String,
    pub(crate) truth: String,
    pub(crate) answer: String,
    pub(crate) confidence: f64,
    pub(crate) tier: Tier,
    /// Whether it is served at the threshold in force.
    pub(crate) served: bool,
}

/// One labelled row with the answer that the cascade gives: that of the first tier that is sure enough, else of the last.
struct Answered<'a> {
    example: &'a Example<Gold>,
    truth: Option<usize>,
    answer: usize,
    confidence: f64,
    tier: Tier,
    right: bool,
    served: bool,
}

/// What names a question's operating point.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) threshold: f64,
    pub(crate) certified: bool,
}

/// Measures one question on judged rows.
pub(crate) fn question(
    (task, question, position): (&Task, &Question, usize),
    examples: &[Example<Gold>],
    judged: &[Judged],
    (at, listed): (At, usize),
) -> QuestionEvaluation {
    let values = question.class_values();
    let outcomes: Vec<RowOutcome> = judged.iter().filter_map(|judged| judged.outcome.clone()).collect();
    let answered: Vec<Answered<'_>> =
        judged.iter().filter_map(|judged| answer(examples, judged, position, at.threshold)).collect();
    let pairs: Vec<Pair> = answered.iter().map(|row| (row.truth, row.answer)).collect();
    let sure: Vec<(f64, bool)> = answered.iter().map(|row| (row.confidence, row.right)).collect();
    let classes = metrics::class_table(&pairs, &values);
    let outside = outcomes.iter().filter(|row| row.out_of_scope).count() as u64;
    QuestionEvaluation {
        question: question.name.clone(),
        promise: task.promise_of(question),
        rows: outcomes.len() as u64,
        out_of_scope_rows: outside,
        tiers: tiers(&outcomes),
        cascade: operating(&outcomes, at),
        macro_f1: metrics::bootstrap(&pairs, |pairs| {
            metrics::macro_f1(&metrics::class_table(pairs, &values))
        }),
        calibration_error: metrics::bootstrap(&sure, metrics::calibration_error),
        brier: metrics::bootstrap(&sure, metrics::brier),
        reliability: metrics::reliability(&sure, 10),
        out_of_scope_auroc: auroc(&answered),
        curve: risk_coverage(&outcomes),
        area_under_risk_coverage: area_under_risk_coverage(&outcomes),
        confusions: confusions(&answered, &values),
        mistakes: mistakes(&answered, &values, listed),
        classes,
    }
}

fn answer<'a>(
    examples: &'a [Example<Gold>],
    judged: &Judged,
    position: usize,
    threshold: f64,
) -> Option<Answered<'a>> {
    let example = examples.get(judged.row)?;
    let truth = example.labels.get(position)?.as_ref()?.class_label().class();
    let sure = judged.judgements.iter().find(|judgement| judgement.confidence >= threshold);
    let given = sure.or(judged.judgements.last())?;
    Some(Answered {
        example,
        truth,
        answer: given.class,
        confidence: given.confidence,
        tier: given.tier,
        right: truth == Some(given.class),
        served: sure.is_some(),
    })
}

/// Every in-scope row answered by one tier.
pub(crate) fn tiers(outcomes: &[RowOutcome]) -> Vec<TierAccuracy> {
    let mut counts: BTreeMap<Tier, (u64, u64)> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|row| !row.out_of_scope).flat_map(|row| &row.tiers) {
        let count = counts.entry(outcome.tier).or_default();
        count.0 += u64::from(outcome.right);
        count.1 += 1;
    }
    counts
        .into_iter()
        .map(|(tier, (right, rows))| TierAccuracy { tier, accuracy: Share::new(right, rows) })
        .collect()
}

/// The cascade at a threshold.
pub(crate) fn operating(outcomes: &[RowOutcome], at: At) -> Operating {
    let point = curve(outcomes, &[at.threshold]).into_iter().next().unwrap_or_default();
    let outside: Vec<&RowOutcome> = outcomes.iter().filter(|row| row.out_of_scope).collect();
    let outside_answered = outside.iter().filter(|row| row.answer_at(at.threshold).is_some()).count() as u64;
    Operating {
        threshold: at.threshold,
        certified: at.certified,
        coverage: Share::new(point.answered, outcomes.len() as u64),
        served_error: Share::new(point.wrong, point.answered),
        by_tier: point.by_tier,
        out_of_scope_answered: Share::new(outside_answered, outside.len() as u64),
    }
}

fn auroc(answered: &[Answered<'_>]) -> Option<Estimate> {
    let scores = |outside: bool| -> Vec<f64> {
        answered.iter().filter(|row| row.truth.is_none() == outside).map(|row| row.confidence).collect()
    };
    metrics::auroc(&scores(false), &scores(true))
}

fn risk_coverage(outcomes: &[RowOutcome]) -> Vec<CurvePoint> {
    let best = |row: &RowOutcome| row.tiers.iter().map(|tier| tier.confidence).fold(0.0, f64::max);
    let mut confidences: Vec<f64> = outcomes.iter().map(best).collect();
    confidences.sort_by(|a, b| b.total_cmp(a));
    let steps = POINTS.min(confidences.len());
    let mut thresholds: Vec<f64> = (1..=steps)
        .filter_map(|step| confidences.get(step * confidences.len() / steps - 1))
        .copied()
        .collect();
    thresholds.dedup();
    curve(outcomes, &thresholds)
        .into_iter()
        .map(|point| CurvePoint {
            threshold: point.threshold,
            coverage: point.answered as f64 / outcomes.len().max(1) as f64,
            served_error: Share::new(point.wrong, point.answered),
        })
        .collect()
}

/// The name of a truth: a class, or that it is none.
fn name(truth: Option<usize>, values: &[&str]) -> String {
    truth.map_or("(out of scope)", |class| values.get(class).copied().unwrap_or_default()).to_owned()
}

fn confusions(answered: &[Answered<'_>], values: &[&str]) -> Vec<Confusion> {
    let mut counts: BTreeMap<(Option<usize>, usize), u64> = BTreeMap::new();
    for row in answered.iter().filter(|row| !row.right) {
        *counts.entry((row.truth, row.answer)).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    sorted
        .into_iter()
        .take(CONFUSIONS)
        .map(|((truth, answer), rows)| Confusion {
            truth: name(truth, values),
            answer: name(Some(answer), values),
            rows,
        })
        .collect()
}

fn mistakes(answered: &[Answered<'_>], values: &[&str], listed: usize) -> Vec<Mistake> {
    let mut wrong: Vec<&Answered<'_>> = answered.iter().filter(|row| !row.right).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    wrong
        .into_iter()
        .take(listed)
        .map(|row| Mistake {
            row: row.example.row,
            text: row.example.text.clone(),
            truth: name(row.truth, values),
            answer: name(Some(row.answer), values),
            confidence: row.confidence,
            tier: row.tier,
            served: row.served,
        })
        .collect()
}
