//! How long does a step of full fine-tuning take?
//!
//! `training_speed ROWS.json [--threads N] [--precision f32|bf16]`: rows are `[[ids…], label]`; prints milliseconds of every step of
//! 32 rows as a JSON list. `benches/peers/training` puts it beside PyTorch.

use sizewise_learn::{
    adapt::{self, Method, Precision, Progress, Question, Rows, Settings, Watch},
    fit::Target,
};
use sizewise_models::builtin;
use std::{
    process::ExitCode,
    sync::{Mutex, atomic::AtomicBool},
    time::Instant,
};

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path =
        arguments.first().ok_or("usage: training_speed ROWS.json [--threads N] [--precision f32|bf16]")?;
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let threads = option("--threads").unwrap_or("2").parse()?;
    let precision = match option("--precision") {
        None => Precision::of_this_machine(),
        Some("f32") => Precision::Float32,
        Some("bf16") => Precision::BFloat16,
        Some(other) => return Err(format!("--precision is f32 or bf16, not {other}").into()),
    };
    let rows: Vec<(Vec<u32>, u16)> = serde_json::from_slice(&std::fs::read(path)?)?;
    let classes = rows.iter().map(|(_, label)| usize::from(*label) + 1).max().unwrap_or(1);
    let ids: Vec<Vec<u32>> = rows.iter().map(|(ids, _)| ids.clone()).collect();
    let targets = rows.iter().map(|(_, label)| Some(Target::Class(*label))).collect();
    let question = Question { targets, class_weights: vec![1.0; classes] };
    let all = Rows {
        ids: &ids,
        questions: &[question],
        train: (0..rows.len()).collect(),
        held_out: Vec::new(),
        choose: false,
    };
    let settings = Settings {
        epochs: 1,
        batch: 32,
        temperature: None,
        threads,
        precision,
        ..Settings::new(Method::Full, rows.len(), classes)
    };
    let (times, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let progress = |_: &Progress| {
        if let Ok(mut times) = times.lock() {
            times.push(Instant::now());
        }
    };
    let watch = Watch { progress: &progress, stop: &stop, checkpoint: None, resume: false };
    adapt::train(&builtin::encoder_files(), &all, &settings, &watch)?;
    let times = times.into_inner().map_err(|_| "a thread panicked")?;
    // The first step begins before anything is told.
    let steps: Vec<f64> =
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64() * 1e3).collect();
    println!("{}", serde_json::to_string(&steps)?);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
