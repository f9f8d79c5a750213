//! What do the targets need besides the bytes?

use sizewise_contract::{
    Answer, ContentHash, Decision, Disposition, EscalationReason, Task, Tier, answer::EscalatedTo,
    units::MicroUsd,
};
use sizewise_engine::QuestionRef;
use sizewise_models::{
    calibrator::Calibrator,
    linear_head::LinearHead,
    neighbours::Neighbours,
    package::{Part, QuestionModels, TaskModels},
    static_embeddings::StaticEmbeddings,
    static_head::StaticHead,
    tiers::{EncoderTier, LabelledNeighbours, NO_CLASS, StaticTier},
    vocabulary::Vocabulary,
};
use std::sync::{Arc, LazyLock};

/// A tokenizer of a handful of pieces.
pub const TOKENIZER: &str = r###"{"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},
"model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"lost":3,"card":4,"##s":5}}}"###;

const EVERY_TYPE: &str = r#"
schema = 1
name = "support"
[input]
fields = ["subject", "message"]
[[question]]
name = "team"
type = "choice"
instructions = "Which team should handle this message?"
choices = [{ value = "billing", description = "Invoices" }, { value = "delivery" }, { value = "7" }]
out_of_scope = "other"
[[question]]
name = "urgent"
type = "predicate"
instructions = "Does waiting a day do harm?"
[[question]]
name = "mood"
type = "score"
levels = [{ label = "calm" }, { label = "cross" }, { label = "furious", description = "Shouts" }]
"#;

const SINGLE: &str = r#"
schema = 1
name = "spam"
[[question]]
name = "spam"
type = "predicate"
"#;

const CALIBRATOR: &str =
    r#"{"signals":[{"name":"log-odds","mean":0.5,"deviation":0.25,"weight":1.5}],"bias":0.5}"#;

/// Length of the vectors of the small models.
const DIMENSIONS: usize = 2;

/// A task with one question of each type, and one with a single question.
pub(crate) fn tasks() -> &'static [Task] {
    static TASKS: LazyLock<Vec<Task>> = LazyLock::new(|| {
        [EVERY_TYPE, SINGLE]
            .map(|text| Task::parse(text).expect("the tasks of the targets are valid"))
            .to_vec()
    });
    &TASKS
}

/// Decisions about the questions that a request plans to ask: all answered, and every second one escalated.
pub(crate) fn decisions(task: &Task, asked: Option<&[QuestionRef]>) -> [Decision; 2] {
    let all: Vec<QuestionRef> = (0..task.questions.len()).map(QuestionRef).collect();
    let asked = asked.unwrap_or(&all);
    let answer = |QuestionRef(position): &QuestionRef| {
        let question = task.questions.get(*position).expect("a plan asks what the task has");
        let classes = question.class_values();
        Answer {
            question: question.name.clone(),
            disposition: Disposition::Answered,
            value: classes[classes.len() - 1].to_owned(),
            class: classes.len() - 1,
            confidence: Some(0.875),
            threshold: Some(0.75),
            probabilities: vec![1.0 / classes.len() as f32; classes.len()],
            tier: Tier::Static,
            certified: true,
            handed_on: None,
            remote: None,
            path: Vec::new(),
        }
    };
    let answered = Decision {
        id: "d-1".into(),
        task: task.name.clone(),
        release: ContentHash::of(b"release"),
        certified: true,
        answers: asked.iter().map(answer).collect(),
        elapsed_us: 12,
        cost_micro_usd: MicroUsd(0),
        input_tokens: 7,
    };
    let mut escalated = answered.clone();
    for answer in escalated.answers.iter_mut().step_by(2) {
        answer.disposition =
            Disposition::Escalated { reason: EscalationReason::BelowThreshold, to: EscalatedTo::Person };
    }
    [answered, escalated]
}

/// The parts of a small package of models, in the order in which a package is written.
#[must_use]
pub fn parts() -> &'static [Part] {
    static PARTS: LazyLock<Vec<Part>> =
        LazyLock::new(|| models().to_parts().expect("small models can be taken apart"));
    &PARTS
}

/// Static embeddings as long as those the small package was made for.
pub(crate) fn embeddings() -> &'static StaticEmbeddings {
    static EMBEDDINGS: LazyLock<StaticEmbeddings> = LazyLock::new(|| {
        StaticEmbeddings::from_files(&embeddings_table(), TOKENIZER.as_bytes()).expect("they fit each other")
    });
    &EMBEDDINGS
}

/// The table of the small static embeddings as bytes.
#[must_use]
pub fn embeddings_table() -> Vec<u8> {
    let vectors = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0, 1.0, 1.0];
    StaticEmbeddings::table_to_bytes(&vectors, DIMENSIONS).expect("whole rows")
}

fn models() -> TaskModels {
    let calibrator: Calibrator = serde_json::from_str(CALIBRATOR).expect("a calibrator in its form on disk");
    let static_tier = StaticTier {
        head: StaticHead::quantize(
            &[0.5, -0.5, 0.25, 1.0],
            &[0.1; DIMENSIONS * 2],
            vec![0.0, 0.1],
            &[1.0, 0.0, 0.0, 1.0],
        ),
        calibrator: calibrator.clone(),
        classes: 2,
    };
    let encoder_tier = EncoderTier {
        head: LinearHead::from_standardised(&[1.0; DIMENSIONS * 2], &[0.0; 2], &[0.0; DIMENSIONS], 1.0),
        calibrator,
        classes: 2,
        neighbours: LabelledNeighbours {
            neighbours: Arc::new(Neighbours::new(&[0.1, 0.2, 0.2, 0.1], DIMENSIONS)),
            classes: Arc::new([1, NO_CLASS]),
        },
        blend: 0.25,
    };
    let hash = ContentHash::of(b"models");
    TaskModels {
        known: None,
        vocabulary: Vocabulary::new(&[(9, 1), (1 << 40, 2)], 3),
        static_embeddings: hash,
        encoder: Some(hash),
        questions: vec![QuestionModels {
            name: "team".into(),
            classes: 2,
            static_tier: Some(static_tier),
            encoder_tier: Some(encoder_tier),
        }],
    }
}
