//! Which personal data does redaction find, and which does it not?
//!
//! `cargo run --release -p sizewise-engine --example personal_data` reads the two files of Presidio's synthetic texts from the folder in
//! `SIZEWISE_SHARED` (default `../shared`) and WNUT-17's test, and says for every kind how much was found as what it is. Nothing was
//! learned from these files. `-- --looked-at` reads only the file that was looked at in development; `-- --quickly` leaves the encoder
//! out, as for texts that are kept.
//!
//! **How it is counted.** By words (runs of letters and digits), with their kind: a word counts as found when it lies in a finding of the
//! kind that the file gives it. All words of all kinds are counted together (micro-average); F2 weighs recall twice. Kinds that a file
//! does not mark at all are left out of its precision. "exact" counts whole spans with the same kind, beginning and end.
//! "Presidio's names" are those that its own evaluation gives the files' labels: ADDRESS, STREET_ADDRESS and GPE are LOCATION, PREFIX is
//! TITLE, DOMAIN_NAME is URL, ZIP_CODE stays itself. The table above that line is finer: it keeps ADDRESS and LOCATION apart, between which
//! the two files draw the line differently. The last line asks whether words were hidden at all.

use serde_json::Value;
use sizewise_engine::{Finding, find_personal_data, find_personal_data_quickly};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

const FILES: [&str; 2] = ["generated_large.dev-templates.json", "synth_dataset_v2.dev-templates.json"];
/// Kinds that a checksum or a fixed form tells.
const CHECKSUMMED: [&str; 6] = ["CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS", "EMAIL_ADDRESS", "URL"];

type Spans = Vec<(String, Range<usize>)>;

#[derive(Default, Clone, Copy)]
struct Counts {
    hit: usize,
    missed: usize,
    wrong: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.hit += other.hit;
        self.missed += other.missed;
        self.wrong += other.wrong;
    }

    fn recall(self) -> f64 {
        self.hit as f64 / (self.hit + self.missed).max(1) as f64
    }

    fn precision(self) -> f64 {
        self.hit as f64 / (self.hit + self.wrong).max(1) as f64
    }

    fn f2(self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        5.0 * precision * recall / (4.0 * precision + recall).max(f64::MIN_POSITIVE)
    }
}

fn main() -> ExitCode {
    let shared =
        std::env::var_os("SIZEWISE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let find = if asked("--quickly") { find_personal_data_quickly } else { find_personal_data };
    // Loads the encoder, which is no part of the time that a text takes.
    find("A first text.");
    for file in FILES.into_iter().skip(usize::from(asked("--looked-at"))) {
        let path = shared.join("data/presidio-synth").join(file);
        match std::fs::read_to_string(&path).ok().and_then(|text| presidio(&text)) {
            Some(rows) => report(file, &rows, find),
            None => println!("skipped: {file} is not there"),
        }
    }
    if asked("--looked-at") {
        return ExitCode::SUCCESS;
    }
    match conll(&shared.join("data/wnut17/emerging.test.annotated")) {
        Some(rows) => report("WNUT-17, test (person, location, corporation)", &rows, find),
        None => println!("skipped: WNUT-17 is not there"),
    }
    ExitCode::SUCCESS
}

/// Texts with what is in them, by our names.
fn presidio(text: &str) -> Option<Vec<(String, Spans)>> {
    let rows: Vec<Value> = serde_json::from_str(text).ok()?;
    let read = |row: &Value| {
        let text = row["full_text"].as_str().unwrap_or_default().to_owned();
        // Offsets are those of characters.
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let at =
            |value: &Value| places.get(value.as_u64().unwrap_or(0) as usize).copied().unwrap_or(text.len());
        let span = |span: &Value| {
            let kind = match span["entity_type"].as_str().unwrap_or_default() {
                "GPE" => "LOCATION",
                "STREET_ADDRESS" => "ADDRESS",
                "PREFIX" => "TITLE",
                "DOMAIN_NAME" => "URL",
                kind => kind,
            };
            (kind.to_owned(), at(&span["start_position"])..at(&span["end_position"]))
        };
        let spans = row["spans"].as_array().into_iter().flatten().map(span).collect();
        (text, spans)
    };
    Some(rows.iter().map(read).collect())
}

/// Sentences of WNUT-17, words with spaces between them.
fn conll(path: &Path) -> Option<Vec<(String, Spans)>> {
    let file = std::fs::read_to_string(path).ok()?;
    let sentence = |block: &str| {
        let (mut text, mut spans): (String, Spans) = (String::new(), Vec::new());
        for line in block.lines() {
            let Some((word, tag)) = line.split_once('\t') else { continue };
            if !text.is_empty() {
                text.push(' ');
            }
            let start = text.len();
            text.push_str(word);
            let kind = match tag.trim().split_once('-') {
                Some((_, "person")) => "PERSON",
                Some((_, "location")) => "LOCATION",
                Some((_, "corporation")) => "ORGANIZATION",
                _ => continue,
            };
            match spans.last_mut().filter(|_| tag.starts_with("I-")) {
                Some((_, span)) => span.end = text.len(),
                None => spans.push((kind.to_owned(), start..text.len())),
            }
        }
        (text, spans)
    };
    Some(file.replace("\r\n", "\n").split("\n\n").map(sentence).collect())
}

fn report(file: &str, rows: &[(String, Spans)], find: fn(&str) -> Option<Vec<Finding>>) {
    let marked: BTreeSet<&str> =
        rows.iter().flat_map(|(_, spans)| spans).map(|(kind, _)| kind.as_str()).collect();
    let (mut words, mut exact): (BTreeMap<String, Counts>, BTreeMap<String, Counts>) = Default::default();
    let (mut merged, mut hidden) = (Counts::default(), Counts::default());
    let mut micros = Vec::new();
    for (text, spans) in rows {
        let begun = Instant::now();
        let found = find(text).unwrap_or_default();
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        let all: Spans = found.iter().map(|one| (one.kind.name().to_owned(), one.span.clone())).collect();
        let found: Spans = all.iter().filter(|(kind, _)| marked.contains(kind.as_str())).cloned().collect();
        for word in runs(text) {
            let of = |spans: &Spans| {
                spans.iter().find(|(_, span)| span.contains(&word)).map(|(kind, _)| kind.clone())
            };
            let (right, said) = (of(spans), of(&found));
            count(&mut words, right.as_deref(), said.as_deref());
            let place = |kind: Option<String>| {
                kind.map(|kind| if kind == "ADDRESS" { "LOCATION".into() } else { kind })
            };
            let mut one = BTreeMap::new();
            count(&mut one, place(right.clone()).as_deref(), place(said).as_deref());
            one.values().for_each(|counts| merged.add(*counts));
            let mut one = BTreeMap::new();
            count(&mut one, right.map(|_| "any"), of(&all).map(|_| "any"));
            one.values().for_each(|counts| hidden.add(*counts));
        }
        for span in spans {
            let counts = exact.entry(span.0.clone()).or_default();
            *(if found.contains(span) { &mut counts.hit } else { &mut counts.missed }) += 1;
        }
        for span in found.iter().filter(|span| !spans.contains(span)) {
            exact.entry(span.0.clone()).or_default().wrong += 1;
        }
    }
    println!("\n{file}: {} texts", rows.len());
    println!(
        "{:<20}{:>8}{:>8}{:>10}{:>8}   {:>16}",
        "kind", "words", "recall", "precision", "F2", "exact spans, F2"
    );
    let (mut total, mut total_exact, mut sure) = (Counts::default(), Counts::default(), Counts::default());
    for (kind, counts) in &words {
        let spans = exact.get(kind).copied().unwrap_or_default();
        line(kind, *counts, spans);
        total.add(*counts);
        total_exact.add(spans);
        if CHECKSUMMED.contains(&kind.as_str()) {
            sure.add(*counts);
        }
    }
    line("all, finer names", total, total_exact);
    println!("checksummed kinds: recall {:.3}", sure.recall());
    println!(
        "Presidio's names: recall {:.3}, precision {:.3}, F2 {:.3}",
        merged.recall(),
        merged.precision(),
        merged.f2()
    );
    println!(
        "hidden, whatever as: recall {:.3}, precision {:.3}, F2 {:.3}",
        hidden.recall(),
        hidden.precision(),
        hidden.f2()
    );
    micros.sort_by(f64::total_cmp);
    let mean = micros.iter().sum::<f64>() / micros.len().max(1) as f64;
    println!(
        "time for a text: mean {mean:.0} µs, median {:.0} µs",
        micros.get(micros.len() / 2).copied().unwrap_or(0.0)
    );
}

fn line(kind: &str, words: Counts, exact: Counts) {
    let count = words.hit + words.missed;
    println!(
        "{kind:<20}{count:>8}{:>8.3}{:>10.3}{:>8.3}   {:>16.3}",
        words.recall(),
        words.precision(),
        words.f2(),
        exact.f2()
    );
}

fn count(counts: &mut BTreeMap<String, Counts>, right: Option<&str>, said: Option<&str>) {
    if let Some(right) = right {
        let counts = counts.entry(right.to_owned()).or_default();
        *(if said == Some(right) { &mut counts.hit } else { &mut counts.missed }) += 1;
    }
    if let Some(said) = said.filter(|said| right != Some(said)) {
        counts.entry(said.to_owned()).or_default().wrong += 1;
    }
}

/// Where runs of letters and digits begin.
fn runs(text: &str) -> Vec<usize> {
    let mut before = false;
    let starts = text.char_indices().filter_map(|(at, letter)| {
        let starts = letter.is_alphanumeric() && !before;
        before = letter.is_alphanumeric();
        starts.then_some(at)
    });
    starts.collect()
}
