//! What will a new kind of input be told by?
//!
//! By how the rows lie that the release was trained on, in the encoder's space and in that of the static embeddings. An encoder that learnt
//! from a row draws it towards its class, so rows that an adapted encoder learnt from say nothing of what live inputs look like: then
//! only those that it never saw count, and where each row taught one of its forms there are none.

use super::{Labels, Tools, Unseen};
use sizewise_contract::Embeddings;
use sizewise_measure::kinds::{Known, KnownParts};
use sizewise_models::{known_inputs::KnownInputs, package, tiers::NO_CLASS};

/// Most rows that are looked at; of more an even sample.
const MOST: usize = 12_000;

/// The known inputs of a task; none where there are too few rows that the encoder has not learnt from.
///
/// **Shapes.** `rows` are the training rows that the encoder read, `embeddings` what it made of them, of which the first `part` dimensions
/// are its last layer.
pub(super) fn known(
    texts: &[&str],
    (rows, embeddings, part): (&[usize], &Embeddings, usize),
    labels: &[Labels],
    tools: Tools<'_>,
) -> Option<package::Known> {
    // The question that tells most inputs apart.
    let labels = labels.iter().max_by_key(|labels| labels.classes)?;
    let counts = |row: usize| match tools.unseen {
        None => true,
        Some(Unseen::Rows(unseen)) => unseen.get(row).copied().unwrap_or(false),
        Some(Unseen::Folds { .. }) => false,
    };
    let honest: Vec<(usize, &[f32])> =
        rows.iter().copied().zip(embeddings.rows()).filter(|(row, _)| counts(*row)).collect();
    let step = honest.len().div_ceil(MOST).max(1);
    let (mut vectors, mut fixed, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ids, mut own) = (Vec::new(), Vec::new());
    for (row, embedding) in honest.into_iter().step_by(step) {
        let target = labels.targets.get(row).copied().flatten();
        classes.push(target.filter(|target| usize::from(*target) < labels.classes).unwrap_or(NO_CLASS));
        vectors.extend(unit(embedding.get(..part)?));
        tools.static_embeddings.embed_into(texts.get(row)?, &mut ids, &mut own);
        fixed.extend_from_slice(&own);
    }
    Some(package::Known {
        encoder: inputs(Known::fit(&vectors, part, &classes)?),
        fixed: inputs(Known::fit(&fixed, tools.static_embeddings.dimensions(), &classes)?),
    })
}

/// A vector of length one.
fn unit(vector: &[f32]) -> impl Iterator<Item = f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
    vector.iter().map(move |value| value / length)
}

fn inputs(known: Known) -> KnownInputs {
    let KnownParts { width, precision, directions, offsets, references } = known.parts();
    KnownInputs { width, precision, directions, offsets, references }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_measure::random::Random;
    use sizewise_models::builtin;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn rows_that_an_encoder_learnt_from_are_left_out_and_too_few_make_nothing() {
        let static_embeddings = builtin::static_embeddings().unwrap();
        let mut random = Random::new(1);
        let rows: Vec<usize> = (0..600).collect();
        let texts: Vec<String> =
            rows.iter().map(|row| format!("number {} of {}", random.below(900), row % 3)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let values = rows
            .iter()
            .flat_map(|row| [(row % 3) as f32 + 1.0, random.uniform() as f32, random.uniform() as f32, 9.0])
            .collect();
        let embeddings = Embeddings { values, dimensions: 4, tokens: vec![1; 600] };
        let labels = Labels {
            classes: 3,
            outputs: 3,
            targets: rows.iter().map(|row| Some((row % 3) as u16)).collect(),
            outside_weight: 1.0,
            names: Vec::new(),
            rows: 600,
            often: 1,
        };
        let labels = [labels];
        let found = |unseen: Option<Unseen<'_>>| {
            let tools = Tools {
                static_embeddings: &static_embeddings,
                encoder: None,
                threads: 1,
                seed: 1,
                balance: false,
                progress: &|_, _, _| (),
                stop: &AtomicBool::new(false),
                unseen,
                distil: None,
            };
            known(&texts, (&rows, &embeddings, 3), &labels, tools)
        };
        let all = found(None).unwrap();
        assert_eq!((all.encoder.width, all.encoder.offsets.len()), (3, 3));
        assert!(all.encoder.references.len() > 3 * 100);
        let half: Vec<bool> = rows.iter().map(|row| row % 2 == 0).collect();
        let fewer = found(Some(Unseen::Rows(&half))).unwrap();
        assert!(fewer.encoder.references.len() * 3 < all.encoder.references.len() * 2);
        let tenth: Vec<bool> = rows.iter().map(|row| row % 10 == 0).collect();
        assert_eq!(found(Some(Unseen::Rows(&tenth))), None);
        assert_eq!(found(Some(Unseen::Folds { of: &[], encoders: &[] })), None);
    }
}
