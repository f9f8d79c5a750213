//! In what do a task's latest inputs differ from those its release was judged on, and does its confidence still tell the truth?
//!
//! Languages and lengths of the latest records stand beside those of the development rows, and the confidence of probes beside what the
//! reference said of them. These figures explain and alarm nobody: a new language may be answered well, and an old one badly. What is
//! done about harm follows from the live evidence alone.

use crate::{
    error::Result,
    table::{Align, Table, percent, with_interval},
};
use serde::Serialize;
use sizewise_contract::{ContentHash, StoredInput, Task, ToldProbe};
use sizewise_learn::prepare::language;
use sizewise_measure::{
    binomial,
    drawn::{Part, sum},
    metrics::{Share, quantile},
};
use sizewise_store::{Release, Store};
use std::{collections::BTreeMap, fmt::Write};

/// Latest records that are read.
const READ: usize = 2_000;
/// Development rows that are looked at, evenly over all of them.
const ROWS: usize = 5_000;
/// Latest probes of a question that are looked at.
const PROBES: usize = 20_000;
/// Letters of a text that its language is told by.
const LETTERS: usize = 1_000;
/// How often anything is said to differ where nothing does, over all that is compared at one look.
const RISK: f64 = 0.05;
/// The length that a text is long from: that which so many of the development rows do not exceed.
const LONG: f64 = 0.95;
/// Languages that are told one by one.
const LANGUAGES: usize = 8;

/// What has changed about a task's inputs.
#[derive(Debug, Serialize)]
pub(crate) struct Shift {
    task: String,
    release: ContentHash,
    /// Latest records whose text was kept, and development rows.
    latest: usize,
    rows: usize,
    /// How often anything is said to differ where nothing does.
    false_alarms: f64,
    length: Option<Length>,
    languages: Vec<Language>,
    calibration: Vec<Calibration>,
}

/// How long texts are. `[words]`
#[derive(Debug, Serialize)]
struct Length {
    median: f64,
    median_of_rows: f64,
    /// From where on a text is long.
    long: f64,
    share: Share,
    share_of_rows: Share,
    differs: bool,
}

/// One language.
#[derive(Debug, Serialize)]
struct Language {
    /// Its code (ISO 639-3), `unsure` where a text does not tell, `other` for all that are rare.
    language: String,
    share: Share,
    share_of_rows: Share,
    differs: bool,
}

/// What a question's confidence is worth.
#[derive(Debug, Serialize)]
struct Calibration {
    question: String,
    /// Answers that the reference spoke about.
    probes: usize,
    /// Their mean confidence, weighted by how they were drawn.
    confidence: f64,
    /// The share of them that was right, weighted likewise.
    right: f64,
    /// By how much confidence exceeds it, with an interval that holds with all others at once.
    excess: f64,
    low: f64,
    high: f64,
    differs: bool,
}

/// Compares the latest records of a task with the texts of its development rows, and its probes with what was said of them.
///
/// # Errors
/// Fails when the store cannot be read.
pub(crate) fn shift(store: &Store, task: &Task, release: &Release, rows: &[String]) -> Result<Shift> {
    let texts: Vec<String> = store
        .latest_records(&task.name, READ)?
        .into_iter()
        .filter_map(|record| match record.input {
            StoredInput::Redacted(text) | StoredInput::Full(text) => Some(text),
            StoredInput::Nothing => None,
        })
        .collect();
    let rows: Vec<&str> = rows.iter().step_by(rows.len().div_ceil(ROWS).max(1)).map(String::as_str).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let both = !texts.is_empty() && !rows.is_empty();
    let spoken = if both { languages(&texts, &rows) } else { Vec::new() };
    let mut told = Vec::new();
    for question in &task.questions {
        let (mut probes, mut after) = (Vec::new(), 0);
        loop {
            let page = store.told_probes(&release.id, &question.name, after)?;
            let Some(last) = page.last() else { break };
            after = last.told;
            probes.extend(page);
            probes.drain(..probes.len().saturating_sub(PROBES));
        }
        if !probes.is_empty() {
            told.push((question.name.clone(), probes));
        }
    }
    let delta = RISK / (usize::from(both) + spoken.len() + told.len()).max(1) as f64;
    Ok(Shift {
        task: task.name.clone(),
        release: release.id,
        latest: texts.len(),
        rows: rows.len(),
        false_alarms: RISK,
        length: if both { length(&texts, &rows, delta) } else { None },
        languages: spoken
            .into_iter()
            .map(|(language, share, share_of_rows)| {
                let differs = differ(&share, &share_of_rows, delta);
                Language { language, share, share_of_rows, differs }
            })
            .collect(),
        calibration: told
            .into_iter()
            .map(|(question, probes)| calibration(question, &probes, delta))
            .collect(),
    })
}

/// Whether two shares differ: their intervals do not meet.
fn differ(one: &Share, other: &Share, delta: f64) -> bool {
    let interval = |share: &Share| binomial::interval(share.count, share.of, 1.0 - delta / 2.0);
    let (one, other) = (interval(one), interval(other));
    one.1 < other.0 || other.1 < one.0
}

fn length(texts: &[&str], rows: &[&str], delta: f64) -> Option<Length> {
    let words = |texts: &[&str]| -> Vec<f64> {
        texts.iter().map(|text| text.split_whitespace().count() as f64).collect()
    };
    let (latest, before) = (words(texts), words(rows));
    let long = quantile(&before, LONG)?;
    let above = |lengths: &[f64]| {
        Share::new(lengths.iter().filter(|words| **words > long).count() as u64, lengths.len() as u64)
    };
    let (share, share_of_rows) = (above(&latest), above(&before));
    Some(Length {
        median: quantile(&latest, 0.5)?,
        median_of_rows: quantile(&before, 0.5)?,
        long,
        differs: differ(&share, &share_of_rows, delta),
        share,
        share_of_rows,
    })
}

/// Languages with their shares among the latest texts and among the rows, the most frequent first.
fn languages(texts: &[&str], rows: &[&str]) -> Vec<(String, Share, Share)> {
    let mut counts: BTreeMap<&'static str, [u64; 2]> = BTreeMap::new();
    for (place, texts) in [texts, rows].into_iter().enumerate() {
        for text in texts {
            let end = text.char_indices().nth(LETTERS).map_or(text.len(), |(end, _)| end);
            counts.entry(language(&text[..end]).unwrap_or("unsure")).or_default()[place] += 1;
        }
    }
    let of = [texts.len() as u64, rows.len() as u64];
    let mut counts: Vec<(&str, [u64; 2])> = counts.into_iter().collect();
    let weight = |[now, before]: [u64; 2]| (now as f64 / of[0] as f64).max(before as f64 / of[1] as f64);
    counts.sort_by(|one, other| weight(other.1).total_cmp(&weight(one.1)));
    let rare = counts.split_off(counts.len().min(LANGUAGES));
    if !rare.is_empty() {
        counts.push(("other", [0, 1].map(|place| rare.iter().map(|(_, counts)| counts[place]).sum())));
    }
    let shares = |(name, counts): (&str, [u64; 2])| {
        (name.to_owned(), Share::new(counts[0], of[0]), Share::new(counts[1], of[1]))
    };
    counts.into_iter().map(shares).collect()
}

fn calibration(question: String, probes: &[ToldProbe], delta: f64) -> Calibration {
    let (mut weights, mut sure, mut hits) = (0.0, 0.0, 0.0);
    let mut parts = Vec::with_capacity(probes.len());
    for probe in probes {
        let Some(last) = probe.path.last() else { continue };
        let right = f64::from(u8::from(last.value == probe.truth));
        weights += probe.weight;
        sure += probe.weight * last.confidence;
        hits += probe.weight * right;
        // From 0 to 1, as the bounds want it; a half where confidence is exact.
        let share = Some(f64::midpoint(1.0, last.confidence - right));
        parts.push(Part { size: probe.weight, probability: 1.0, share });
    }
    let bounds = sum(1.0, &parts, delta);
    let (low, high) = (2.0 * bounds.low - 1.0, 2.0 * bounds.high - 1.0);
    let weights = if weights > 0.0 { weights } else { 1.0 };
    Calibration {
        question,
        probes: parts.len(),
        confidence: sure / weights,
        right: hits / weights,
        excess: (sure - hits) / weights,
        low,
        high,
        differs: low > 0.0 || high < 0.0,
    }
}

/// For people.
pub(crate) fn text(shift: &Shift) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut out, shift);
    out
}

fn write_text(out: &mut String, shift: &Shift) -> std::fmt::Result {
    let mark = |differs: bool| if differs { "differs" } else { "" }.to_owned();
    writeln!(
        out,
        "{} latest records with a text, {} development rows of release {}",
        shift.latest,
        shift.rows,
        shift.release.short()
    )?;
    if let Some(length) = &shift.length {
        let (now, before) = (with_interval(&length.share), with_interval(&length.share_of_rows));
        writeln!(
            out,
            "\nLength: {} words at the median, {} in the rows; longer than {} words: {now}, {before} of the rows{}",
            length.median,
            length.median_of_rows,
            length.long,
            if length.differs { ": differs" } else { "" }
        )?;
    }
    if !shift.languages.is_empty() {
        let right = Align::Right;
        let mut table =
            Table::new(&[("Language", Align::Left), ("latest", right), ("rows", right), ("", Align::Left)]);
        for one in &shift.languages {
            let shares = [with_interval(&one.share), with_interval(&one.share_of_rows)];
            table.row([one.language.clone(), shares[0].clone(), shares[1].clone(), mark(one.differs)]);
        }
        write!(out, "\n{}", table.render())?;
    }
    for one in &shift.calibration {
        writeln!(
            out,
            "\n{}: {} sure, {} right by {} probes; confidence is {:+.1} points too high ({:+.1} to {:+.1}){}",
            one.question,
            percent(one.confidence),
            percent(one.right),
            one.probes,
            one.excess * 100.0,
            one.low * 100.0,
            one.high * 100.0,
            if one.differs { ": differs" } else { "" }
        )?;
    }
    writeln!(
        out,
        "\nWhere nothing has changed, at most one look in {:.0} says that anything differs. What differs explains; what it does to the promise is \
         said by: sizewise evidence {}",
        1.0 / shift.false_alarms,
        shift.task
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_contract::{Tier, live::ProbeStep, units::UnixMillis};
    use sizewise_measure::random::Random;

    const ENGLISH: &str = "my order has not arrived and nobody answers the telephone at your shop";
    const GERMAN: &str = "meine Bestellung ist nicht angekommen und niemand geht bei Ihnen ans Telefon";

    fn texts(english: usize, german: usize) -> Vec<&'static str> {
        std::iter::repeat_n(ENGLISH, english).chain(std::iter::repeat_n(GERMAN, german)).collect()
    }

    #[test]
    fn a_language_that_comes_up_differs_and_one_that_stays_does_not() {
        let shown = |now: &[&str], before: &[&str]| -> Vec<(String, bool)> {
            languages(now, before)
                .into_iter()
                .map(|(name, now, before)| (name, differ(&now, &before, 0.01)))
                .collect()
        };
        let before = texts(980, 20);
        let steady = shown(&texts(490, 10), &before);
        assert_eq!(steady, [("eng".to_owned(), false), ("deu".to_owned(), false)]);
        let changed = shown(&texts(400, 100), &before);
        assert_eq!(changed, [("eng".to_owned(), true), ("deu".to_owned(), true)]);
    }

    #[test]
    fn longer_texts_differ() {
        let rows: Vec<String> = (0..400).map(|row| "word ".repeat(5 + row % 20)).collect();
        let borrowed: Vec<&str> = rows.iter().map(String::as_str).collect();
        let same = length(&borrowed, &borrowed, 0.01).unwrap();
        assert!(!same.differs && same.median == same.median_of_rows);
        let doubled: Vec<String> = rows.iter().map(|text| text.repeat(2)).collect();
        let doubled: Vec<&str> = doubled.iter().map(String::as_str).collect();
        let longer = length(&doubled, &borrowed, 0.01).unwrap();
        assert!(longer.differs && longer.share.value > 0.4, "{longer:?}");
    }

    #[test]
    fn confidence_that_is_too_high_is_told_and_an_honest_one_seldom_is() {
        let mut random = Random::new(5);
        let mut told = |honest: f64| {
            let probes: Vec<ToldProbe> = (0..400)
                .map(|told| {
                    let confidence = 0.8 + 0.2 * random.uniform();
                    let right = random.uniform() < confidence - honest;
                    let value = if right { "billing" } else { "travel" };
                    ToldProbe {
                        told,
                        told_at: UnixMillis(told),
                        weight: if told % 2 == 0 { 1.0 } else { 0.3 },
                        group: None,
                        path: vec![ProbeStep { tier: Tier::Static, value: value.into(), confidence }],
                        truth: "billing".into(),
                    }
                })
                .collect();
            calibration("team".into(), &probes, 0.05)
        };
        let off = told(0.25);
        assert!(off.differs && off.low > 0.0 && (off.excess - 0.25).abs() < 0.1, "{off:?}");
        let alarms = (0..60).filter(|_| told(0.0).differs).count();
        assert!(alarms <= 6, "{alarms} of 60");
    }
}
