//! How often would a larger model's answer be given again to similar texts, and how often wrongly, over many draws of the gold rows?
//!
//! A larger model that is always right is asked about everything, or about what the cascade is not sure of. On each draw of gold rows the likeness
//! is certified as the server does; then the rows that were not drawn are asked of what was remembered in that test, and of all others that were
//! asked before them, in an order by chance.

use crate::public::{Outcome, Row, Set, World};
use sizewise_contract::{
    Embed,
    task::{Overflow, Promise},
};
use sizewise_measure::{
    binomial,
    cascade::RowOutcome,
    random::Random,
    similar::{Pair, Split, test},
};
use sizewise_models::neighbours::UnitVector;

/// Gold rows of one draw, as many as certificates are measured with.
const GOLD: usize = 1_500;
/// Rows that are asked one after the other.
const ASKED: usize = 2_000;

/// A text as it is compared.
struct Text {
    vector: UnitVector,
    label: Option<String>,
    /// The confidence of the tier that would answer.
    sure: f64,
}

pub(crate) fn run(world: &World, resamples: usize) -> Outcome<()> {
    println!(
        "\nAnswers given again to similar texts, certified at 95 % on {GOLD} gold rows drawn {resamples} times; hits and wrong ones among rows not drawn"
    );
    println!(
        "{:<12}{:>9}{:>14}{:>8}{:>8}{:>10}{:>9}{:>9}{:>17}{:>13}{:>12}",
        "",
        "promise",
        "handed on",
        "rows",
        "opened",
        "likeness",
        "hits",
        "wrong",
        "above by chance",
        "growing hits",
        "wrong"
    );
    for set in [world.banking77()?, world.clinc150()?] {
        let Some(set) = set else { continue };
        let (task, trained) = world.train(&set, &set.train, 1)?;
        let judged = world.judge(&set, &task, &trained, &set.test)?;
        let texts = texts(world, &set.test, &judged)?;
        for error in [0.02, 0.05, 0.1] {
            for all in [true, false] {
                report(&set, &texts, (error, all), resamples);
            }
        }
    }
    Ok(())
}

fn texts(world: &World, rows: &[Row], judged: &[RowOutcome]) -> Outcome<Vec<Text>> {
    let dimensions = world.encoder().last_layer_dimensions();
    let mut texts = Vec::with_capacity(rows.len());
    for (rows, judged) in rows.chunks(256).zip(judged.chunks(256)) {
        let inputs: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
        let embedded = world.encoder().embed(&inputs, Overflow::Window)?;
        for ((vector, (_, label)), outcome) in embedded.rows().zip(rows).zip(judged) {
            let sure = outcome.tiers.iter().map(|tier| tier.confidence).fold(0.0, f64::max);
            let vector = UnitVector::of(&vector[..dimensions]);
            texts.push(Text { vector, label: label.clone(), sure });
        }
    }
    Ok(texts)
}

fn pair(text: &Text, remembered: &[&Text]) -> Option<Pair> {
    let (place, cosine) = text.vector.nearest(remembered.iter().map(|one| &one.vector))?;
    Some(Pair { likeness: f64::from(cosine), same: remembered[place].label == text.label })
}

fn pairs(texts: &[&Text], remembered: &[&Text]) -> Vec<Pair> {
    texts.iter().filter_map(|text| pair(text, remembered)).collect()
}

/// Counts of hits and of wrong ones.
fn hits(pairs: &[Pair], threshold: f64) -> (u64, u64) {
    let hits = pairs.iter().filter(|pair| pair.likeness >= threshold);
    hits.fold((0, 0), |(hits, wrong), pair| (hits + 1, wrong + u64::from(!pair.same)))
}

fn report(set: &Set, texts: &[Text], (error, all): (f64, bool), resamples: usize) {
    let promise = Promise { max_served_error: error, ..Promise::default() };
    let mut handed_on: Vec<&Text> = texts.iter().filter(|text| all || text.sure < 1.0 - error).collect();
    // As many of those that are handed on as there are among the gold rows of all.
    let gold = GOLD * handed_on.len() / texts.len().max(1);
    let mut random = Random::new(17);
    let (mut opened, mut above, mut likeness) = (0, 0, 0.0);
    let (mut fixed, mut growing) = ([0_u64; 3], [0_u64; 3]);
    for _ in 0..resamples {
        random.shuffle(&mut handed_on);
        let (drawn, rest) = handed_on.split_at(gold);
        // Rows are in an order by chance already.
        let split = Split::by(&(0..drawn.len() as u64).collect::<Vec<u64>>());
        let of = |places: &[usize]| -> Vec<&Text> { places.iter().map(|place| drawn[*place]).collect() };
        let (remembered, planned, asked) = (of(&split.remembered), of(&split.planned), of(&split.tested));
        let quarter: Vec<&Text> = remembered.iter().step_by(4).copied().collect();
        let sets = [pairs(&asked, &remembered), pairs(&asked, &quarter)];
        let found = test(&pairs(&planned, &remembered), &sets, &promise, drawn.len() as u64);
        let Some(threshold) = found.threshold else { continue };
        opened += 1;
        likeness += threshold;
        let rest = &rest[..rest.len().min(ASKED)];
        let (hit, wrong) = hits(&pairs(rest, &remembered), threshold);
        for (sum, more) in fixed.iter_mut().zip([rest.len() as u64, hit, wrong]) {
            *sum += more;
        }
        // More than chance does to so many hits at the promised rate, in one of twenty.
        above += u64::from(wrong > 0 && 1.0 - binomial::cdf(wrong - 1, hit, error) < 0.05);
        // Only what was asked of the larger model is remembered.
        let mut said: Vec<&Text> = Vec::new();
        for text in rest {
            let pair = pair(text, &said).filter(|pair| pair.likeness >= threshold);
            growing[0] += 1;
            match pair {
                Some(pair) => {
                    growing[1] += 1;
                    growing[2] += u64::from(!pair.same);
                }
                None => said.push(text),
            }
        }
    }
    let share = |of: u64, all: u64| of as f64 / all.max(1) as f64;
    println!(
        "{:<12}{:>7.0} %{:>14}{:>8}{:>8.2}{:>10.3}{:>9.3}{:>9.4}{:>17.3}{:>13.3}{:>12.4}",
        set.name,
        error * 100.0,
        if all { "everything" } else { "the unsure" },
        gold,
        opened as f64 / resamples.max(1) as f64,
        likeness / f64::from(opened.max(1)),
        share(fixed[1], fixed[0]),
        share(fixed[2], fixed[1]),
        above as f64 / resamples.max(1) as f64,
        share(growing[1], growing[0]),
        share(growing[2], growing[1]),
    );
}
