//! Do the targets survive their seeds, and 2,000 damaged copies of them?
//!
//! A short fuzzing on stable, the same on every machine and at every run; the long one is cargo-fuzz's.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");

/// Damaged copies of each target's seeds, besides those that are cut off.
const MUTATIONS: usize = 2_000;
/// Seeds up to this length are cut off at every position, longer ones at this many.
const CUTS: usize = 512;
/// Longest damaged copy.
const LONGEST: usize = 16 << 10;
/// What no single input may take, on a slow machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pseudo-random numbers (Marsaglia 2003).
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The seeds of a target in the order of their names; what a fuzzer has found is named by a hash and left out.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(CORPUS).join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a folder of seeds")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.len() != 40 || !name.iter().all(u8::is_ascii_hexdigit)
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.iter().map(|path| fs::read(path).expect("a readable seed")).collect()
}

/// One to four changes to one seed.
fn mutated(seeds: &[Vec<u8>], random: &mut XorShift) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
        let (from, to) = (from.min(to), from.max(to) + 1);
        match random.below(7) {
            0 | 1 => bytes[from] ^= 1 << random.below(8),
            // Bytes that steer: ends, quotation marks, brackets, the largest and smallest numbers.
            2 => bytes[from] = b"\0\xff\x7f\x80\"\\{}[],.:\n\r-09e"[random.below(19)],
            3 => bytes.truncate(from),
            4 => drop(bytes.drain(from..to)),
            5 => {
                let copy = bytes[from..to].to_vec();
                bytes.splice(to..to, copy);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let begin = random.below(other.len().max(1));
                bytes.splice(from..to, other.iter().skip(begin).copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

fn survives(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let cut_off = seeds.iter().flat_map(|seed| {
        let step = seed.len().div_ceil(CUTS).max(1);
        (0..seed.len()).step_by(step).map(|length| seed[..length].to_vec())
    });
    let damaged = (0..MUTATIONS).map(|_| mutated(&seeds, &mut random));
    for bytes in seeds.iter().cloned().chain(cut_off).chain(damaged) {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(outcome.is_ok(), "{name} panics on b\"{}\"", bytes.escape_ascii());
        assert!(begun.elapsed() < PATIENCE, "{name} takes too long on b\"{}\"", bytes.escape_ascii());
    }
}

macro_rules! targets {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            survives(stringify!($target), sizewise_fuzz::$target);
        })*

        #[test]
        fn every_folder_of_seeds_has_a_target() {
            let corpus = Path::new(CORPUS);
            let found = fs::read_dir(corpus).expect("a folder of seeds");
            let mut names: Vec<_> = found.map(|entry| entry.expect("a readable folder").file_name()).collect();
            names.sort();
            let mut known = [$(stringify!($target)),*];
            known.sort_unstable();
            assert_eq!(names, known);
        }
    };
}

targets!(task_file, table, safetensors, tokenizer, decisions, system_one, chat, observe, written);
