//! How fast is the static tier on one core, how large, and how accurate?

use crate::{
    public::{Outcome, World},
    quality::accuracy,
};
use sizewise_contract::{Decide, Evidence, Tier, task::Tiers};
use sizewise_models::{builtin, static_reader::StaticReader};
use std::time::Instant;

const ROUNDS: usize = 9;

pub(crate) fn run(world: &World) -> Outcome<()> {
    println!("\nThe static tier on one core, texts of the official test, median of {ROUNDS} rounds");
    println!("{:<24}{:>12}{:>14}{:>12}{:>16}", "", "accuracy", "n-grams", "MB", "decisions/s");
    let embeddings = builtin::static_embeddings()?;
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let mut task = set.task()?;
        task.cascade.tiers = Tiers::List(vec![Tier::Static]);
        let trained = world.train_task(&set, &task, &set.train, 1)?;
        let rows = world.judge(&set, &task, &trained, &set.test)?;
        let parts = trained.models.to_parts()?;
        let of_tier =
            |name: &str| ["vocabulary", "static-head", "models"].iter().any(|p| name.starts_with(p));
        let bytes: usize = parts.iter().filter(|p| of_tier(&p.name)).map(|p| p.bytes.len()).sum();
        let Some(tier) = trained.models.questions.first().and_then(|q| q.static_tier.as_ref()) else {
            continue;
        };
        let mut reader = StaticReader::default();
        let mut answered = 0usize;
        let mut paces = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for (text, _) in &set.test {
                let features = reader.read(&embeddings, &trained.models.vocabulary, text);
                let evidence = Evidence { text, features: Some(features), embedding: None, earlier: &[] };
                answered += usize::from(tier.decide(evidence)?.confidence > 0.5);
            }
            paces.push(set.test.len() as f64 / began.elapsed().as_secs_f64());
        }
        paces.sort_by(f64::total_cmp);
        assert!(answered > 0, "a model that is never sure is no model");
        println!(
            "{:<24}{:>12.4}{:>14}{:>12.2}{:>16.0}",
            set.name,
            accuracy(&rows, Tier::Static),
            trained.models.vocabulary.len(),
            bytes as f64 / 1e6,
            paces[ROUNDS / 2]
        );
    }
    Ok(())
}
