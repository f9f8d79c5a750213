//! How are the models of a task stored and put together again?
//!
//! As named parts of bytes, each with a checked format of its own; the store keeps them by content hash. What is small
//! (calibrators, which encoder, which classes) is one JSON part, so that a person can read it.

use crate::{
    calibrator::Calibrator,
    error::{Error, Result},
    known_inputs::KnownInputs,
    linear_head::LinearHead,
    memory::{InMemory, each},
    neighbours::Neighbours,
    static_head::StaticHead,
    tensors::{self, Output, Tensors},
    tiers::{EncoderTier, LabelledNeighbours, StaticTier},
    vocabulary::Vocabulary,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::ContentHash;
use std::sync::Arc;

/// Version of the package.
const SCHEMA: u32 = 1;
/// Name of the JSON part.
const INDEX: &str = "models.json";

/// All models of one task.
#[derive(Debug)]
pub struct TaskModels {
    /// The n-grams that its static tiers know.
    pub vocabulary: Vocabulary,
    /// The static embeddings they were fitted with.
    pub static_embeddings: ContentHash,
    /// The encoder that its encoder tiers were fitted with.
    pub encoder: Option<ContentHash>,
    /// One entry per question, in contract order.
    pub questions: Vec<QuestionModels>,
    /// What a new kind of input is told by; none where there were too few rows that the encoder has not learnt from.
    pub known: Option<Known>,
}

/// The inputs that a task knows, in both spaces in which live ones have vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// By the encoder's last layer, of unit length.
    pub encoder: KnownInputs,
    /// By the static embeddings.
    pub fixed: KnownInputs,
}

/// The parts with known inputs.
const KNOWN: [&str; 2] = ["known/encoder", "known/static"];

/// The models of one question.
#[derive(Debug)]
pub struct QuestionModels {
    /// The question's name.
    pub name: String,
    /// How many classes it has.
    pub classes: usize,
    /// The static tier, when the cascade has one.
    pub static_tier: Option<StaticTier>,
    /// The encoder tier, when the cascade has one.
    pub encoder_tier: Option<EncoderTier>,
}

/// One part of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name within the release.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    schema: u32,
    static_embeddings: ContentHash,
    encoder: Option<ContentHash>,
    questions: Vec<QuestionIndex>,
    /// Earlier releases have none.
    #[serde(default, skip_serializing_if = "is_false")]
    known: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionIndex {
    name: String,
    classes: usize,
    #[serde(rename = "static")]
    static_tier: Option<Calibrator>,
    encoder: Option<EncoderIndex>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncoderIndex {
    calibrator: Calibrator,
    blend: f32,
}

impl TaskModels {
    /// Takes the models apart.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut add = |name: String, bytes: Vec<u8>| parts.push(Part { name, bytes });
        add("vocabulary".into(), self.vocabulary.to_bytes()?);
        let mut questions = Vec::new();
        for (position, question) in self.questions.iter().enumerate() {
            if let Some(tier) = &question.static_tier {
                add(format!("static-head/{position}"), tier.head.to_bytes()?);
            }
            if let Some(tier) = &question.encoder_tier {
                add(format!("encoder-head/{position}"), tier.head.to_bytes()?);
                add(format!("neighbour-classes/{position}"), classes_to_bytes(&tier.neighbours.classes)?);
            }
            questions.push(QuestionIndex {
                name: question.name.clone(),
                classes: question.classes,
                static_tier: question.static_tier.as_ref().map(|tier| tier.calibrator.clone()),
                encoder: question
                    .encoder_tier
                    .as_ref()
                    .map(|tier| EncoderIndex { calibrator: tier.calibrator.clone(), blend: tier.blend }),
            });
        }
        if let Some(tier) = self.questions.iter().find_map(|question| question.encoder_tier.as_ref()) {
            add("neighbours".into(), tier.neighbours.neighbours.to_bytes()?);
        }
        if let Some(known) = &self.known {
            let [encoder, fixed] = KNOWN;
            add(encoder.into(), known.encoder.to_bytes()?);
            add(fixed.into(), known.fixed.to_bytes()?);
        }
        let index = Index {
            schema: SCHEMA,
            static_embeddings: self.static_embeddings,
            encoder: self.encoder,
            questions,
            known: self.known.is_some(),
        };
        let bytes =
            serde_json::to_vec_pretty(&index).map_err(|_| Error::Internal("an index has a JSON form"))?;
        add(INDEX.into(), bytes);
        Ok(parts)
    }

    /// Puts models together from their parts; `part` hands out a part's bytes by name.
    ///
    /// # Errors
    /// Fails when a part is missing, damaged or does not fit the others, naming the part.
    pub fn from_parts<E: From<Error>>(
        part: impl Fn(&str) -> std::result::Result<Vec<u8>, E>,
    ) -> std::result::Result<Self, E> {
        let broken = |problem: String| Error::File { file: INDEX.into(), problem };
        let index: Index =
            serde_json::from_slice(&part(INDEX)?).map_err(|error| broken(error.to_string()))?;
        if index.schema != SCHEMA {
            return Err(broken(format!("schema {}; this build reads {SCHEMA}", index.schema)).into());
        }
        let vocabulary = Vocabulary::from_bytes("vocabulary", &part("vocabulary")?)?;
        let neighbours = match index.questions.iter().any(|question| question.encoder.is_some()) {
            true => Some(Arc::new(Neighbours::from_bytes("neighbours", &part("neighbours")?)?)),
            false => None,
        };
        let known = |name: &str| Ok::<_, E>(KnownInputs::from_bytes(name, &part(name)?)?);
        let [encoder, fixed] = KNOWN;
        let known =
            if index.known { Some(Known { encoder: known(encoder)?, fixed: known(fixed)? }) } else { None };
        let mut questions = Vec::with_capacity(index.questions.len());
        for (position, question) in index.questions.into_iter().enumerate() {
            let classes = question.classes;
            let static_tier = match question.static_tier {
                Some(calibrator) => {
                    let name = format!("static-head/{position}");
                    let head = StaticHead::from_bytes(&name, &part(&name)?)?;
                    check_classes(&name, head.classes(), classes)?;
                    Some(StaticTier { head, calibrator, classes })
                }
                None => None,
            };
            let encoder_tier = match (question.encoder, &neighbours) {
                (Some(EncoderIndex { calibrator, blend }), Some(neighbours)) => {
                    let name = format!("encoder-head/{position}");
                    let head = LinearHead::from_bytes(&name, &part(&name)?)?;
                    check_classes(&name, head.classes(), classes)?;
                    let name = format!("neighbour-classes/{position}");
                    let labels = classes_from_bytes(&name, &part(&name)?)?;
                    let neighbours =
                        LabelledNeighbours { neighbours: Arc::clone(neighbours), classes: labels };
                    Some(EncoderTier { head, calibrator, classes, neighbours, blend: blend.clamp(0.0, 1.0) })
                }
                _ => None,
            };
            questions.push(QuestionModels { name: question.name, classes, static_tier, encoder_tier });
        }
        Ok(Self {
            vocabulary,
            static_embeddings: index.static_embeddings,
            encoder: index.encoder,
            questions,
            known,
        })
    }
}

/// A head has one output per class, and may have one more for what is outside.
fn check_classes(name: &str, found: usize, classes: usize) -> Result<()> {
    if classes > 0 && (found == classes || found == classes + 1) {
        return Ok(());
    }
    Err(Error::File { file: name.into(), problem: format!("it has {found} outputs for {classes} classes") })
}

const CLASSES_FORMAT: &str = "sizewise-classes/1";

fn classes_to_bytes(classes: &[u16]) -> Result<Vec<u8>> {
    let wide: Vec<u32> = classes.iter().map(|class| u32::from(*class)).collect();
    tensors::write(CLASSES_FORMAT, &[Output::integers("classes", &[wide.len()], &wide)])
}

fn classes_from_bytes(file: &str, bytes: &[u8]) -> Result<Arc<[u16]>> {
    let tensors = Tensors::parse(file, bytes)?;
    tensors.expect_format(CLASSES_FORMAT)?;
    let wide = tensors.integers("classes", &tensors.shape("classes")?)?;
    wide.iter()
        .map(|class| u16::try_from(*class).map_err(|_| tensors.damaged(format!("{class} is no class"))))
        .collect()
}

impl InMemory for TaskModels {
    fn held_bytes(&self) -> usize {
        let heads = each(&self.questions, self.questions.capacity(), |question| {
            let fixed = question.static_tier.as_ref();
            let fixed = fixed.map_or(0, |tier| tier.head.held_bytes() + tier.calibrator.held_bytes());
            let encoder = question.encoder_tier.as_ref().map_or(0, |tier| {
                let rows = tier.neighbours.classes.held_bytes();
                tier.head.held_bytes() + tier.calibrator.held_bytes() + rows
            });
            question.name.held_bytes() + fixed + encoder
        });
        // All questions compare with the same rows.
        let tier = self.questions.iter().find_map(|question| question.encoder_tier.as_ref());
        let rows = tier.map_or(0, |tier| tier.neighbours.neighbours.held_bytes());
        let known = self.known.as_ref();
        let known = known.map_or(0, |known| known.encoder.held_bytes() + known.fixed.held_bytes());
        self.vocabulary.held_bytes() + heads + rows + known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn models() -> TaskModels {
        let calibrator = Calibrator { signals: vec![], bias: 0.5 };
        let head = StaticHead::quantize(&[0.5, -0.5], &[0.1; 4], vec![0.0, 0.0], &[1.0, 0.0, 0.0, 1.0]);
        let neighbours = LabelledNeighbours {
            neighbours: Arc::new(Neighbours::new(&[0.1, 0.2], 2)),
            classes: Arc::new([crate::tiers::NO_CLASS]),
        };
        let encoder_head = LinearHead::from_standardised(&[1.0; 4], &[0.0; 2], &[0.0; 2], 1.0);
        let question = QuestionModels {
            name: "team".into(),
            classes: 2,
            static_tier: Some(StaticTier { head, calibrator: calibrator.clone(), classes: 2 }),
            encoder_tier: Some(EncoderTier {
                head: encoder_head,
                calibrator,
                classes: 2,
                neighbours,
                blend: 0.25,
            }),
        };
        let hash = ContentHash::of(b"x");
        TaskModels {
            vocabulary: Vocabulary::new(&[(9, 1)], 1),
            static_embeddings: hash,
            encoder: Some(hash),
            questions: vec![question],
            known: Some(Known { encoder: inputs(), fixed: inputs() }),
        }
    }

    fn inputs() -> KnownInputs {
        KnownInputs {
            width: 1,
            precision: vec![1.0],
            directions: vec![0.5],
            offsets: vec![0.5],
            references: vec![0.25, 1.0],
        }
    }

    fn load(parts: &BTreeMap<String, Vec<u8>>) -> Result<TaskModels> {
        TaskModels::from_parts(|name| {
            parts
                .get(name)
                .cloned()
                .ok_or_else(|| Error::File { file: name.into(), problem: "missing".into() })
        })
    }

    #[test]
    fn models_are_put_together_as_they_were() {
        let parts: BTreeMap<_, _> =
            models().to_parts().unwrap().into_iter().map(|part| (part.name, part.bytes)).collect();
        let again = load(&parts).unwrap().to_parts().unwrap();
        assert_eq!(again.into_iter().map(|part| (part.name, part.bytes)).collect::<BTreeMap<_, _>>(), parts);
    }

    #[test]
    fn a_missing_or_cut_part_is_named() {
        let parts: BTreeMap<_, _> =
            models().to_parts().unwrap().into_iter().map(|part| (part.name, part.bytes)).collect();
        for name in parts.keys() {
            let mut damaged = parts.clone();
            damaged.get_mut(name).unwrap().pop();
            assert!(load(&damaged).unwrap_err().to_string().contains(name.as_str()), "{name}");
            damaged.remove(name);
            assert!(load(&damaged).unwrap_err().to_string().contains("missing"), "{name}");
        }
    }
}
