//! How fast is an encoder here, on one thread: texts one by one, and all of them in one call?
//!
//! `encoder_speed [--texts FILE] [--encoder DIR] [--kernel NAME] [--rounds N] [--json] [--vectors FILE]`. A file has one text
//! per line; without one a built-in list of questions of mixed length is read. `--encoder` takes another encoder's folder. Every
//! kernel of this machine takes its turn in every round, with the weights as they are and, where it multiplies them in a way of
//! its own, with the same weights in bfloat16, so that noise falls on all of them; medians over rounds are printed.
//! `--vectors` writes the last layer's
//! vectors, which other programs can be compared with, as little-endian float32.

#[path = "forms/brains.rs"]
mod brains;

use sizewise_contract::{Embed, task::Overflow};
use sizewise_models::{
    Kernel, builtin,
    encoder::{Encoder, EncoderFiles},
};
use std::{path::PathBuf, process::ExitCode, time::Instant};

type Failure = Box<dyn std::error::Error>;

/// The text of twelve words that is always timed.
const TEXT: &str = "i still have not received the new card that i ordered yesterday";

/// Questions of three to thirty words, about as long as those that people write to a bank.
const TEXTS: [&str; 16] = [
    "where is it",
    "how do i change my pin",
    "i lost my card",
    TEXT,
    "can i have two accounts in different currencies and move money between them whenever i like",
    "why was i charged twice",
    "the machine kept my card and showed a message that i could not read before it went dark",
    "please close my account",
    "what is the exchange rate for euros today",
    "i would like to know which documents you need before somebody who has just moved here can open an account, \
     and how long it usually takes until everything is checked",
    "my transfer has been pending since monday",
    "is there a fee for taking out cash abroad",
    "someone has my phone, block everything",
    "how old must my daughter be to have a card of her own",
    "top up failed again",
    "the name on my card is misspelled, how can i get a new one without paying for it",
];

/// How often the twelve words are timed in a round.
const TIMES: usize = 100;
/// How many texts of the list are timed one by one in a round.
const ONE_BY_ONE: usize = 100;

struct Arguments {
    texts: Vec<String>,
    kernels: Vec<Kernel>,
    rounds: usize,
    json: bool,
    vectors: Option<String>,
    encoder: Option<PathBuf>,
}

/// One kernel's measurements with one form of the weights, one for each round.
struct Figures {
    name: String,
    encoder: Encoder,
    twelve_words_ms: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    texts_per_s: Vec<f64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments = arguments()?;
    let texts: Vec<&str> = arguments.texts.iter().map(String::as_str).collect();
    let began = Instant::now();
    let encoder = load(&arguments)?;
    let load_ms = began.elapsed().as_secs_f64() * 1e3;
    if let Some(file) = &arguments.vectors {
        let encoder = encoder.with_last_layer_only();
        let values = encoder.embed(&texts, Overflow::HeadTail)?.values;
        std::fs::write(file, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    let mut figures = Vec::new();
    for kernel in &arguments.kernels {
        figures.push(Figures::new(kernel.name().to_owned(), *kernel, load(&arguments)?));
        if kernel.has_brains() {
            let encoder = match &arguments.encoder {
                Some(folder) => brains::in_brains(&EncoderFiles::read(folder)?.as_ref())?,
                None => brains::in_brains(&builtin::encoder_files())?,
            };
            figures.push(Figures::new(format!("{}, bf16", kernel.name()), *kernel, encoder));
        }
    }
    for _ in 0..arguments.rounds {
        figures.iter_mut().try_for_each(|figures| figures.measure(&texts))?;
    }
    if arguments.json {
        println!("{}", json(&figures, load_ms, texts.len()));
    } else {
        println!("load: {load_ms:.1} ms; {} texts, {} rounds, one thread", texts.len(), arguments.rounds);
        println!("{:<18}{:>14}{:>10}{:>10}{:>12}", "kernel", "12 words ms", "p50 ms", "p99 ms", "texts/s");
        for Figures { name, twelve_words_ms, p50_ms, p99_ms, texts_per_s, .. } in &figures {
            let [twelve, p50, p99, rate] = [twelve_words_ms, p50_ms, p99_ms, texts_per_s].map(|f| median(f));
            println!("{name:<18}{twelve:>14.3}{p50:>10.3}{p99:>10.3}{rate:>12.0}");
        }
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let repeated = TEXTS.iter().cycle().take(1024).map(|text| (*text).to_owned()).collect();
    let (kernels, rounds) = (Kernel::available(), 5);
    let mut found = Arguments { texts: repeated, kernels, rounds, json: false, vectors: None, encoder: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--texts" => {
                found.texts = std::fs::read_to_string(value()?)?.lines().map(str::to_owned).collect()
            }
            "--kernel" => {
                let name = value()?;
                found.kernels.retain(|kernel| kernel.name() == name);
                if found.kernels.is_empty() {
                    let here: Vec<_> = Kernel::available().iter().map(|kernel| kernel.name()).collect();
                    return Err(format!("no kernel `{name}` here; there are: {}", here.join(", ")).into());
                }
            }
            "--rounds" => found.rounds = value()?.parse::<usize>()?.max(1),
            "--encoder" => found.encoder = Some(value()?.into()),
            "--vectors" => found.vectors = Some(value()?),
            "--json" => found.json = true,
            _ => {
                return Err(format!(
                    "`{word}` is not known: --texts, --kernel, --encoder, --rounds, --vectors, --json"
                )
                .into());
            }
        }
    }
    if found.texts.is_empty() {
        return Err("there are no texts".into());
    }
    Ok(found)
}

fn load(arguments: &Arguments) -> Result<Encoder, Failure> {
    let encoder = match &arguments.encoder {
        Some(folder) => Encoder::load(folder)?,
        None => builtin::encoder()?,
    };
    Ok(encoder.with_threads(1))
}

impl Figures {
    fn new(name: String, kernel: Kernel, encoder: Encoder) -> Self {
        let encoder = encoder.with_threads(1).with_kernel(kernel);
        let [twelve_words_ms, p50_ms, p99_ms, texts_per_s] = [const { Vec::new() }; 4];
        Self { name, encoder, twelve_words_ms, p50_ms, p99_ms, texts_per_s }
    }

    fn measure(&mut self, texts: &[&str]) -> Result<(), Failure> {
        let twelve = self.one_by_one(std::iter::repeat_n(TEXT, TIMES))?;
        self.twelve_words_ms.push(median(&twelve));
        let times = self.one_by_one(texts.iter().copied().take(ONE_BY_ONE))?;
        self.p50_ms.push(median(&times));
        self.p99_ms.push(times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN));
        let began = Instant::now();
        self.encoder.embed(texts, Overflow::HeadTail)?;
        self.texts_per_s.push(texts.len() as f64 / began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Milliseconds of each text, sorted.
    fn one_by_one<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Result<Vec<f64>, Failure> {
        let mut times = Vec::new();
        for text in texts {
            let began = Instant::now();
            self.encoder.embed(&[text], Overflow::HeadTail)?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn json(figures: &[Figures], load_ms: f64, texts: usize) -> serde_json::Value {
    let kernels: serde_json::Map<String, serde_json::Value> = figures
        .iter()
        .map(|figures| {
            let values = serde_json::json!({
                "twelve_words_ms": median(&figures.twelve_words_ms),
                "p50_ms": median(&figures.p50_ms),
                "p99_ms": median(&figures.p99_ms),
                "texts_per_s": median(&figures.texts_per_s),
            });
            (figures.name.clone(), values)
        })
        .collect();
    serde_json::json!({ "load_ms": load_ms, "texts": texts, "kernels": kernels })
}
