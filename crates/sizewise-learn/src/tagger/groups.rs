//! Which words are used alike?
//!
//! The built-in static embeddings know some twenty thousand whole words; those whose vectors point the same way are one group (k-means
//! on the sphere, in two steps: 32 coarse groups of 16 each). A word that no template holds is then still one like those that do.

use crate::fit::Random;
use sizewise_models::{
    Result, builtin,
    tagger::{LISTS, entries, word_hash},
};
use std::collections::{BTreeMap, BTreeSet};

const COARSE: usize = 32;
const FINE: usize = 16;
const ROUNDS: usize = 8;

/// Words that are used alike.
#[derive(Debug)]
pub struct Alike {
    groups: BTreeMap<String, u16>,
    members: BTreeMap<u16, Vec<String>>,
}

impl Alike {
    /// Groups the words that the built-in static embeddings know.
    ///
    /// # Errors
    /// Fails only where the program was built from damaged files.
    pub fn new() -> Result<Self> {
        let groups = groups()?;
        // A word that could name something does not stand for one that names nothing.
        let listed: BTreeSet<String> =
            LISTS.iter().flat_map(|(list, _)| entries(list)).map(str::to_lowercase).collect();
        let mut members: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for (word, group) in groups.iter().filter(|(word, _)| !listed.contains(*word)) {
            members.entry(*group).or_default().push(word.clone());
        }
        Ok(Self { groups, members })
    }

    /// Every word by its hash, in order, with its group.
    #[must_use]
    pub fn by_hash(&self) -> Vec<(u32, u16)> {
        let hashed: BTreeMap<u32, u16> =
            self.groups.iter().map(|(word, group)| (word_hash(word), *group)).collect();
        hashed.into_iter().collect()
    }

    /// Some words with capitals, as in the name of a book.
    pub(super) fn heading(&self, random: &mut Random) -> String {
        let count = 1 + random.below(4);
        let word = |random: &mut Random| {
            let members = self.members.values().nth(random.below(self.members.len()))?;
            members.get(random.below(members.len())).map(|word| super::invent::capital(word))
        };
        let words: Vec<String> = (0..count).filter_map(|_| word(random)).collect();
        format!("{}{}", random.of("|||The |A |My "), words.join(random.of(" | | | of the | and ")))
    }

    /// A text in which one word in five is another one.
    pub(super) fn varied(&self, text: &str, random: &mut Random) -> String {
        let mut out = String::with_capacity(text.len());
        for part in text.split_inclusive(|letter: char| !letter.is_alphabetic()) {
            let word = part.trim_end_matches(|letter: char| !letter.is_alphabetic());
            let lower = word.to_lowercase();
            // Mostly one of its group, now and then any word at all.
            let chance = if word.len() > 3 { random.below(40) } else { 40 };
            let others = match chance {
                0..8 => self.groups.get(&lower).and_then(|group| self.members.get(group)),
                8 => self.members.values().nth(random.below(self.members.len())),
                _ => None,
            };
            match others.filter(|others| !others.is_empty()) {
                Some(others) => {
                    let other = others.get(random.below(others.len())).map_or("", String::as_str);
                    let capital = word.starts_with(char::is_uppercase);
                    out.push_str(&if capital { super::invent::capital(other) } else { other.to_owned() });
                    out.push_str(part.get(word.len()..).unwrap_or_default());
                }
                None => out.push_str(part),
            }
        }
        out
    }
}

fn groups() -> Result<BTreeMap<String, u16>> {
    let embeddings = builtin::static_embeddings()?;
    let file: serde_json::Value =
        serde_json::from_slice(builtin::encoder_files().tokenizer).unwrap_or_default();
    let whole = |word: &&String| word.chars().count() > 1 && word.chars().all(char::is_alphabetic);
    let words: Vec<String> = file
        .pointer("/model/vocab")
        .and_then(serde_json::Value::as_object)
        .map(|vocabulary| vocabulary.keys().filter(whole).cloned().collect())
        .unwrap_or_default();
    let mut ids = Vec::new();
    let vectors: Vec<Vec<f32>> = words
        .iter()
        .map(|word| {
            let mut vector = Vec::new();
            embeddings.embed_into(word, &mut ids, &mut vector);
            unit(&mut vector);
            vector
        })
        .collect();
    let all: Vec<usize> = (0..vectors.len()).collect();
    let coarse = clusters(&vectors, &all, COARSE);
    let mut found = BTreeMap::new();
    for group in 0..COARSE {
        let members: Vec<usize> =
            all.iter().copied().filter(|word| coarse.get(*word).copied() == Some(group)).collect();
        for (word, fine) in members.iter().zip(clusters(&vectors, &members, FINE)) {
            if let Some(word) = words.get(*word) {
                found.insert(word.clone(), (group * FINE + fine) as u16);
            }
        }
    }
    Ok(found)
}

/// The cluster of every member. Centres begin at members that lie evenly in the vocabulary's order, which is that of frequency.
fn clusters(vectors: &[Vec<f32>], members: &[usize], count: usize) -> Vec<usize> {
    let vector = |member: usize| vectors.get(member).map_or(&[][..], Vec::as_slice);
    let mut centres: Vec<Vec<f32>> = (0..count)
        .filter_map(|place| members.get(place * members.len() / count))
        .map(|member| vector(*member).to_vec())
        .collect();
    let mut nearest = Vec::new();
    for _ in 0..ROUNDS {
        nearest = members
            .iter()
            .map(|member| {
                let near = |centre: &Vec<f32>| -> f32 { product(centre, vector(*member)) };
                let best = centres.iter().map(near).enumerate();
                best.fold((0, f32::MIN), |best, next| if next.1 > best.1 { next } else { best }).0
            })
            .collect();
        centres.iter_mut().for_each(|centre| centre.fill(0.0));
        for (member, place) in members.iter().zip(&nearest) {
            if let Some(centre) = centres.get_mut(*place) {
                centre.iter_mut().zip(vector(*member)).for_each(|(sum, value)| *sum += value);
            }
        }
        centres.iter_mut().for_each(|centre| unit(centre));
    }
    nearest
}

/// Eight sums side by side, always in the same order.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

fn unit(vector: &mut [f32]) {
    let length = product(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
