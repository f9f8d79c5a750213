//! How far are an encoder's vectors from those of its floating point weights, on real questions?
//!
//! `encoder_parity [--encoder FOLDER]... [--reference FOLDER] [--kernel NAME]`. Reads the test texts of BANKING77 and
//! CLINC150 (`data/banking77`, `data/clinc150`) and the reference weights (`models/all-MiniLM-L6-v2`) in the folder that
//! `SIZEWISE_SHARED` names, and prints the least, the first percentile and the median of the cosines of every text's
//! vector, pooled from the last layer, to that of the reference. The built-in encoder and the reference's own weights in
//! bfloat16 are compared unless folders are named.

#[path = "forms/brains.rs"]
mod brains;

use sizewise_contract::{Embed, Embeddings, task::Overflow};
use sizewise_models::{
    Kernel, builtin,
    encoder::{Encoder, EncoderFiles},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

type Failure = Box<dyn std::error::Error>;

/// Where the texts and the weights are that do not come with the repository.
const SHARED: &str = "SIZEWISE_SHARED";

struct Arguments {
    encoders: Vec<PathBuf>,
    reference: Option<PathBuf>,
    kernel: Kernel,
}

/// The test texts of one data set, and what they look like to the reference.
struct Set {
    name: &'static str,
    texts: Vec<String>,
    expected: Embeddings,
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
    let Some(shared) = std::env::var_os(SHARED).map(PathBuf::from).filter(|folder| folder.is_dir()) else {
        println!("skipped: {SHARED} names no folder with data sets and models");
        return Ok(());
    };
    let reference = arguments.reference.clone().unwrap_or(shared.join("models/all-MiniLM-L6-v2"));
    if !reference.is_dir() {
        println!("skipped: {} is absent", reference.display());
        return Ok(());
    }
    let files = EncoderFiles::read(&reference)?;
    let reference = Encoder::from_files(&files.as_ref())?.with_last_layer_only();
    let sets = sets(&shared, &reference)?;
    let mut encoders = Vec::new();
    for folder in &arguments.encoders {
        encoders.push((folder.display().to_string(), Encoder::load(folder)?));
    }
    if encoders.is_empty() {
        encoders.push((builtin::ENCODER_NAME.to_owned(), builtin::encoder()?));
        encoders.push(("the reference in bfloat16".to_owned(), brains::in_brains(&files.as_ref())?));
    }
    println!("kernel: {}", arguments.kernel.name());
    println!("{:<40}{:<12}{:>7}{:>10}{:>10}{:>10}{:>9}", "", "", "texts", "least", "1 %", "50 %", "< 0.99");
    for (name, encoder) in encoders {
        let encoder = encoder.with_last_layer_only().with_kernel(arguments.kernel);
        for set in &sets {
            println!("{name:<40}{}", compare(&encoder, set)?);
        }
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let mut found = Arguments { encoders: Vec::new(), reference: None, kernel: Kernel::best() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        match word.as_str() {
            "--encoder" => found.encoders.push(value.into()),
            "--reference" => found.reference = Some(value.into()),
            "--kernel" => {
                let here = Kernel::available();
                let named = here.into_iter().find(|kernel| kernel.name() == value);
                found.kernel = named.ok_or(format!("no kernel `{value}` here"))?;
            }
            _ => return Err(format!("`{word}` is not known: --encoder, --reference, --kernel").into()),
        }
    }
    Ok(found)
}

/// The data sets that are there.
fn sets(shared: &Path, reference: &Encoder) -> Result<Vec<Set>, Failure> {
    let mut sets = Vec::new();
    type Reader = fn(&str) -> Result<Vec<String>, Failure>;
    let readers: [(_, _, Reader); 2] = [
        ("BANKING77", "data/banking77/test.csv", banking),
        ("CLINC150", "data/clinc150/data_full.json", clinc),
    ];
    for (name, path, read) in readers {
        let path = shared.join(path);
        if !path.is_file() {
            println!("skipped: {name}, as {} is absent", path.display());
            continue;
        }
        let texts = read(&std::fs::read_to_string(path)?)?;
        let expected = embed(reference, &texts)?;
        sets.push(Set { name, texts, expected });
    }
    Ok(sets)
}

fn embed(encoder: &Encoder, texts: &[String]) -> Result<Embeddings, Failure> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(encoder.embed(&texts, Overflow::HeadTail)?)
}

/// The first column of a table whose fields may be quoted and hold line breaks.
fn banking(table: &str) -> Result<Vec<String>, Failure> {
    let (mut texts, mut field) = (Vec::new(), String::new());
    let (mut quoted, mut closed, mut first) = (false, false, true);
    for character in table.chars() {
        match character {
            '"' => {
                // A doubled quote closes and opens again: one of the two belongs to the text.
                if closed && first {
                    field.push('"');
                }
                closed = quoted;
                quoted = !quoted;
                continue;
            }
            ',' if !quoted => first = false,
            '\n' if !quoted => {
                texts.push(std::mem::take(&mut field));
                first = true;
            }
            other if first => field.push(other),
            _ => {}
        }
        closed = false;
    }
    Ok(texts.into_iter().skip(1).collect())
}

/// The test texts, those out of scope too.
fn clinc(json: &str) -> Result<Vec<String>, Failure> {
    let json: serde_json::Value = serde_json::from_str(json)?;
    let rows = ["test", "oos_test"].into_iter().filter_map(|part| json.get(part)?.as_array()).flatten();
    Ok(rows.filter_map(|row| Some(row.get(0)?.as_str()?.to_owned())).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One line of the table.
fn compare(encoder: &Encoder, set: &Set) -> Result<String, Failure> {
    let found = embed(encoder, &set.texts)?;
    let pairs = found.rows().zip(set.expected.rows());
    let mut cosines: Vec<f32> = pairs.map(|(found, expected)| dot(found, expected)).collect();
    cosines.sort_by(f32::total_cmp);
    let at = |share: usize| cosines.get(cosines.len() * share / 100).copied().unwrap_or(f32::NAN);
    let below = cosines.iter().filter(|cosine| **cosine < 0.99).count();
    Ok(format!(
        "{:<12}{:>7}{:>10.5}{:>10.5}{:>10.5}{:>9}",
        set.name,
        cosines.len(),
        at(0),
        at(1),
        at(50),
        below
    ))
}
