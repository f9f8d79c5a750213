//! Which prompts read nearly the same?
//!
//! By the share of runs of three words that two prompts have in common (Broder 1997, resemblance of documents). There are few sites,
//! so all pairs are compared.

use super::template::words;
use std::collections::HashSet;

/// Words of a run.
const RUN: usize = 3;
/// From which resemblance on two prompts are taken for one.
const ALIKE: f64 = 0.6;
/// Most prompts that are compared; the dearest come first.
const MOST: usize = 500;

/// The pairs of prompts that read nearly the same.
pub(super) fn alike(prompts: &[String]) -> Vec<(usize, usize)> {
    let runs: Vec<HashSet<String>> = prompts.iter().take(MOST).map(|prompt| runs(prompt)).collect();
    let mut found = Vec::new();
    for (here, one) in runs.iter().enumerate() {
        for (there, other) in runs.iter().enumerate().skip(here + 1) {
            let both = one.intersection(other).count();
            let any = one.len() + other.len() - both;
            if both > 0 && both as f64 >= ALIKE * any as f64 {
                found.push((here, there));
            }
        }
    }
    found
}

fn runs(prompt: &str) -> HashSet<String> {
    let words: Vec<String> = words(prompt).map(str::to_lowercase).collect();
    words.windows(RUN).map(|run| run.join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_differ_in_a_word_or_a_number_are_alike() {
        let prompts = [
            "You sort tickets of Acme. Answer with the name of the team alone. Today is 2026-01-02.",
            "You sort tickets of Globex. Answer with the name of the team alone. Today is 2026-01-03.",
            "Translate the message into German and keep names of people as they are.",
            "",
            "short",
        ]
        .map(str::to_owned);
        assert_eq!(alike(&prompts), [(0, 1)]);
    }
}
