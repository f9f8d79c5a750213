//! What do adapters cost here: tasks that share one encoder and change it, beside tasks that do not?
//!
//! `adapters [--texts FILE] [--tasks N] [--rounds N]`. A file has one text per line; without one a built-in list is read. Texts go through
//! a server's queue with one worker: one by one, each as soon as the one before it is answered, and all of them at once. Every row of the
//! table takes its turn in every round; medians over rounds are printed. Adapters change all matrices of every layer, by numbers drawn at random:
//! what they cost does not hang on them.

use sizewise_contract::{Embeddings, task::Overflow};
use sizewise_models::{
    Error,
    batching::{Batcher, Seat},
    builtin,
    encoder::{LoraChange, LoraMatrix, adapter_to_bytes},
};
use std::{
    process::ExitCode,
    sync::{Arc, mpsc::channel},
    time::Instant,
};

type Failure = Box<dyn std::error::Error>;

const TEXTS: [&str; 8] = [
    "where is it",
    "how do i change my pin",
    "i still have not received the new card that i ordered yesterday",
    "can i have two accounts in different currencies and move money between them whenever i like",
    "why was i charged twice",
    "the machine kept my card and showed a message that i could not read before it went dark",
    "is there a fee for taking out cash abroad",
    "the name on my card is misspelled, how can i get a new one without paying for it",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// One row of the table.
struct Row {
    name: String,
    seats: Vec<Seat>,
    p50_ms: Vec<f64>,
    texts_per_s: Vec<f64>,
}

fn run() -> Result<(), Failure> {
    let (mut texts, mut tasks, mut rounds) =
        (TEXTS.repeat(32).iter().map(|text| (*text).to_owned()).collect(), 64, 9);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--texts" => {
                texts = std::fs::read_to_string(&value)?.lines().map(str::to_owned).collect::<Vec<_>>()
            }
            "--tasks" => tasks = value.parse::<usize>()?.max(1),
            "--rounds" => rounds = value.parse::<usize>()?.max(1),
            _ => return Err(format!("{name} is not known").into()),
        }
    }
    let base = Arc::new(Batcher::start(builtin::encoder()?, 1)?).seat();
    let mut rows = vec![row("none", vec![Arc::new(Batcher::start(builtin::encoder()?, 1)?).seat()])];
    for rank in [4, 8, 16] {
        let seats = (0..tasks).map(|task| Ok(base.with_adapter(&adapter(rank, task)?)?));
        let mut seats = seats.collect::<Result<Vec<_>, Failure>>()?;
        println!(
            "rank {rank}: {:.2} MB a task",
            seats.first().map_or(0, |seat| seat.encoder().own_bytes()) as f64 / 1e6
        );
        let one = seats.pop().ok_or("there is a task")?;
        rows.push(row(&format!("rank {rank}, one task"), vec![one]));
        rows.push(row(&format!("rank {rank}, {} tasks", seats.len()), seats));
    }
    for _ in 0..rounds {
        for row in &mut rows {
            row.turn(&texts)?;
        }
    }
    println!("{:<24}{:>12}{:>8}{:>14}{:>8}", "adapter", "p50, ms", "", "texts/s", "");
    let first = rows.first().map(|row| (median(&row.p50_ms), median(&row.texts_per_s))).unwrap_or_default();
    for row in &rows {
        let (p50, pace) = (median(&row.p50_ms), median(&row.texts_per_s));
        println!("{:<24}{p50:>12.3}{:>7.2}×{pace:>14.0}{:>7.2}×", row.name, p50 / first.0, pace / first.1);
    }
    Ok(())
}

fn row(name: &str, seats: Vec<Seat>) -> Row {
    Row { name: name.to_owned(), seats, p50_ms: Vec::new(), texts_per_s: Vec::new() }
}

impl Row {
    fn turn(&mut self, texts: &[String]) -> Result<(), Failure> {
        let mut times = Vec::with_capacity(texts.len());
        for (text, seat) in texts.iter().zip(self.seats.iter().cycle()) {
            let began = Instant::now();
            let (told, embedded) = channel();
            seat.submit(&[text], Overflow::Error, move |found| drop(told.send(found)))?;
            embedded.recv()??;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        self.p50_ms.push(median(&times));
        let began = Instant::now();
        let (told, embedded) = channel::<Result<Embeddings, Error>>();
        for (text, seat) in texts.iter().zip(self.seats.iter().cycle()) {
            let told = told.clone();
            seat.submit(&[text], Overflow::Error, move |found| drop(told.send(found)))?;
        }
        drop(told);
        for found in embedded {
            found?;
        }
        self.texts_per_s.push(texts.len() as f64 / began.elapsed().as_secs_f64());
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// An adapter of every matrix of the built-in encoder.
fn adapter(rank: usize, task: usize) -> Result<Vec<u8>, Failure> {
    let mut state = task as u64 + 1;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.02
    };
    let mut changes = Vec::new();
    for layer in 0..6 {
        for (matrix, inputs, outputs) in [
            (LoraMatrix::Query, 384, 384),
            (LoraMatrix::Key, 384, 384),
            (LoraMatrix::Value, 384, 384),
            (LoraMatrix::AttentionOut, 384, 384),
            (LoraMatrix::Up, 384, 1_536),
            (LoraMatrix::Down, 1_536, 384),
        ] {
            let mut factor = |length: usize| (0..length).map(|_| number()).collect::<Vec<f32>>();
            let (down, up) = (factor(rank * inputs), factor(outputs * rank));
            changes.push(LoraChange { layer, matrix, rank, down, up });
        }
    }
    Ok(adapter_to_bytes(builtin::encoder_files().hash(), &changes)?)
}
