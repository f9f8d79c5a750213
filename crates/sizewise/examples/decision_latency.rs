//! How long does one decision take inside the process, on one core?
//!
//! `cargo run --release -p sizewise --example decision_latency`
//!
//! Trains the bundled example twice in a temporary folder, once for each tier alone, and asks it texts of twelve words.

use clap::Parser;
use sizewise::{cli::Cli, commands, screen::Screen};
use sizewise_engine::{Engine, InputValue, Request, Settings};
use sizewise_learn::table::TableReader;
use sizewise_store::Store;
use std::{path::Path, sync::Arc, time::Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const TICKETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/example/tickets.csv");
const WORDS: usize = 12;
const WARM_UP: usize = 200;

fn main() -> Outcome<()> {
    let texts = texts()?;
    println!("one decision with two questions, {WORDS} words, one thread, {} different texts", texts.len());
    for (tier, count) in [("static", 20_000), ("encoder", 1_000)] {
        let folder = tempfile::tempdir()?;
        train(folder.path(), tier)?;
        let store = Arc::new(Store::open(&folder.path().join(".sizewise"))?);
        let settings = Settings { allow_uncertified: true, encoder_workers: 1, record: false };
        let engine = Engine::start(store, settings)?;
        if let Some((_, error)) = engine.load(&["support".to_owned()]).pop() {
            return Err(error.into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut times = Vec::with_capacity(count);
        for text in texts.iter().cycle().take(count + WARM_UP) {
            let request = Request {
                task: "support".into(),
                inputs: vec![InputValue::Text(text.clone())],
                dry_run: true,
                ..Request::default()
            };
            let began = Instant::now();
            let decided = runtime.block_on(engine.decide(request))?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
            assert_eq!(decided.len(), 1);
        }
        let mut times = times.split_off(WARM_UP);
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{tier:<8} p50 {:>8.1} µs   p99 {:>8.1} µs", at(0.5), at(0.99));
    }
    Ok(())
}

/// The first twelve words of the example's messages.
fn texts() -> Outcome<Vec<String>> {
    let mut table = TableReader::open(Path::new(TICKETS))?;
    let message = table.columns().iter().position(|column| column == "message").ok_or("a message column")?;
    let (mut texts, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row)?.is_some() {
        let words: Vec<&str> = row[message].split_whitespace().take(WORDS).collect();
        if words.len() == WORDS {
            texts.push(words.join(" "));
        }
    }
    Ok(texts)
}

fn train(folder: &Path, tier: &str) -> Outcome<()> {
    std::fs::create_dir(folder.join("tasks"))?;
    let run = |arguments: &[&str]| -> Outcome<()> {
        let project = folder.to_string_lossy();
        let start = ["sizewise", "--quiet", "-o", "json", "--project", &project];
        let cli = Cli::try_parse_from(start.iter().chain(arguments))?;
        commands::run(&cli, &Screen::silent())?;
        Ok(())
    };
    run(&["init", "support", "--from", TICKETS])?;
    let file = folder.join("tasks/support/task.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("tiers = \"auto\"", &format!("tiers = [\"{tier}\"]")))?;
    run(&["train", "support"])
}
