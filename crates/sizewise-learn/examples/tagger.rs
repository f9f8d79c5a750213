//! How is the tagger that comes with the program made?
//!
//! `cargo run --release -p sizewise-learn --example tagger` fits it and the close reader to made-up texts, first the tagger without the
//! templates kept back for development (and says how well it does on those; `--fast` leaves this out), then both with all, and compares
//! them with the files in the repository, bit for bit; `-- --write` puts them there.

use sizewise_contract::ContentHash;
use sizewise_learn::{
    table::TableReader,
    tagger::{Alike, Composer, Part, fit, fit_closely},
};
use sizewise_models::{builtin, tagger::Tagger};
use std::{path::Path, process::ExitCode};

const TEXTS: usize = 120_000;
/// The close reader learns faster, and from other texts.
const CLOSE_TEXTS: usize = 40_000;
const SHIPPED: &str = "../sizewise-models/weights/tagger";
/// Messages to a support desk, written for this project; they hold no names.
const WRITTEN: &str = "../sizewise/example/tickets.csv";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments: Vec<String> = std::env::args().collect();
    let texts = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(TEXTS);
    let mut table = TableReader::open(&here.join(WRITTEN))?;
    let column =
        table.columns().iter().position(|name| name == "message").ok_or("the example has messages")?;
    let (mut written, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row)?.is_some() {
        written.extend(row.get(column).cloned());
    }
    let alike = Alike::new()?;
    if !arguments.iter().any(|word| word == "--fast") {
        develop(&Tagger::from_bytes(&fit(Part::Learn, texts, &alike, &written)?)?, &alike);
    }
    let encoder = builtin::encoder()?.with_threads(1);
    let made = [
        ("tagger.safetensors", texts, fit(Part::Whole, texts, &alike, &written)?),
        (
            "close.safetensors",
            CLOSE_TEXTS,
            fit_closely(Part::Whole, CLOSE_TEXTS, &alike, (&written, &encoder))?,
        ),
    ];
    let mut all = true;
    for (name, texts, bytes) in made {
        println!("{name}: {texts} texts, {} bytes, sha256 {}", bytes.len(), ContentHash::of(&bytes));
        let shipped = here.join(SHIPPED).join(name);
        if arguments.iter().any(|word| word == "--write") {
            std::fs::write(&shipped, &bytes)?;
            continue;
        }
        let same = std::fs::read(&shipped)? == bytes;
        println!(
            "{}",
            if same {
                "the same as in the repository, bit for bit"
            } else {
                "not the same as in the repository"
            }
        );
        all &= same;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How well it does on templates that it never saw, in letters and digits of each kind.
fn develop(tagger: &Tagger, alike: &Alike) {
    let mut composer = Composer::new(Part::Develop, 99, alike, &[]);
    let mut counts = std::collections::BTreeMap::<_, [usize; 3]>::new();
    for _ in 0..5_000 {
        let made = composer.text();
        let found = tagger.tag(&made.text, &made.known);
        for (at, _) in made.text.char_indices().filter(|(_, letter)| letter.is_alphanumeric()) {
            let of = |spans: &[(std::ops::Range<usize>, _)]| {
                spans.iter().find(|(span, _)| span.contains(&at)).map(|(_, kind)| *kind)
            };
            let (right, said) = (of(&made.entities), of(&found));
            if let Some(kind) = right {
                counts.entry(kind).or_default()[usize::from(said != right)] += 1;
            }
            if let Some(kind) = said.filter(|_| said != right) {
                counts.entry(kind).or_default()[2] += 1;
            }
        }
    }
    println!("{:<16}{:>10}{:>10}", "held out", "recall", "precision");
    for (kind, [hit, missed, wrong]) in counts {
        println!(
            "{:<16}{:>10.3}{:>10.3}",
            format!("{kind:?}"),
            hit as f64 / (hit + missed) as f64,
            hit as f64 / (hit + wrong) as f64
        );
    }
}
