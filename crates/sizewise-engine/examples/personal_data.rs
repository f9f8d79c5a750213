//! Which personal data do the rules of redaction find, and which do they not?
//!
//! `cargo run --release -p sizewise-engine --example personal_data` reads the two files of Presidio's synthetic texts from the folder in
//! `SIZEWISE_SHARED` (default `../shared`). A span counts as found when all of its letters and digits are replaced; "as what it is" asks for its kind as well.

use serde_json::Value;
use sizewise_engine::find_personal_data;
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

const FILES: [&str; 2] = ["generated_large.dev-templates.json", "synth_dataset_v2.dev-templates.json"];

#[derive(Default)]
struct Counts {
    spans: usize,
    hidden: usize,
    typed: usize,
}

fn main() -> ExitCode {
    let shared =
        std::env::var_os("SIZEWISE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let mut kinds: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut said, mut right) = (0, 0);
    for file in FILES {
        let path = shared.join("data/presidio-synth").join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: {file} is not there");
            continue;
        };
        let Ok(Value::Array(rows)) = serde_json::from_str(&text) else {
            eprintln!("error: {} is no list", path.display());
            return ExitCode::FAILURE;
        };
        for row in &rows {
            let text = row["full_text"].as_str().unwrap_or_default();
            // Offsets are those of characters.
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let at = |value: &Value| {
                places.get(value.as_u64().unwrap_or(0) as usize).copied().unwrap_or(text.len())
            };
            let spans: Vec<(String, std::ops::Range<usize>)> = row["spans"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|span| {
                    let kind = span["entity_type"].as_str().unwrap_or_default().to_owned();
                    (kind, at(&span["start_position"])..at(&span["end_position"]))
                })
                .collect();
            let found = find_personal_data(text).unwrap_or_default();
            for (kind, span) in &spans {
                let counts = kinds.entry(kind.clone()).or_default();
                let covered = |at: usize| found.iter().any(|(range, _)| range.contains(&at));
                let matters = |at: usize| text[at..].chars().next().is_some_and(char::is_alphanumeric);
                let letters: Vec<usize> =
                    places.iter().copied().filter(|at| span.contains(at) && matters(*at)).collect();
                counts.spans += 1;
                counts.hidden += usize::from(letters.iter().all(|at| covered(*at)));
                let name = if kind == "DOMAIN_NAME" { "URL" } else { kind.as_str() };
                counts.typed += usize::from(found.iter().any(|(range, found)| {
                    found.name() == name && range.start < span.end && span.start < range.end
                }));
            }
            said += found.len();
            right += found
                .iter()
                .filter(|(range, _)| {
                    spans.iter().any(|(_, span)| range.start < span.end && span.start < range.end)
                })
                .count();
        }
    }
    println!("{:<20}{:>8}{:>12}{:>16}", "kind", "spans", "hidden", "as what it is");
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let (mut spans, mut typed) = (0, 0);
    for (kind, counts) in &kinds {
        let Counts { spans: count, hidden, typed: known } = counts;
        println!("{kind:<20}{count:>8}{:>12.3}{:>16.3}", share(*hidden, *count), share(*known, *count));
        spans += count;
        typed += known;
    }
    let (recall, precision) = (share(typed, spans), share(right, said));
    let f2 = 5.0 * precision * recall / (4.0 * precision + recall).max(f64::MIN_POSITIVE);
    println!(
        "all kinds: recall {recall:.3}, precision {precision:.3}, F2 {f2:.3} (rules know no names and no postal addresses)"
    );
    ExitCode::SUCCESS
}
