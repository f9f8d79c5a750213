//! What must no bytes from a stranger be able to do?
//!
//! One function per reader of such bytes. Each only has to return: a panic, an overflow, a broken promise (`assert`) or
//! a run without end is a find. `fuzz/` hands them to cargo-fuzz, `tests/seeds.rs` runs them on stable.

pub mod fixture;
mod quiet;

use sizewise::{
    observe::recorded,
    wire::{Protocol, WireError, asked, chat, decisions as decided, systemone},
};
use sizewise_contract::{Decide, Diagnose, Evidence, Fault, Task};
use sizewise_engine::{InputValue, QuestionRef};
use sizewise_learn::table::TableReader;
use sizewise_models::{
    encoder::{adapter_changes, base_of_adapter},
    package::TaskModels,
    static_embeddings::StaticEmbeddings,
    static_reader::StaticReader,
    tensors::Tensors,
    tokenizer::Tokenizer,
};
use std::io::Write;

/// Longest text that a tokenizer under test cuts: a file may allow words of any length, and those take long to cut.
const TEXT_BYTES: usize = 512;
/// Longest file of each target. Limits of the product lie higher, and no fuzzer gets far beyond.
const FILE_BYTES: usize = 64 << 10;

/// A task file.
pub fn task_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Task::parse(text) {
        Ok(task) => {
            let written = toml::to_string(&task).expect("a task can be written");
            assert_eq!(Task::parse(&written).as_ref(), Ok(&task), "what is written is read back");
            assert_eq!(task.contract_hash(), task.clone().contract_hash());
            for question in &task.questions {
                assert!(question.class_values().len() > 1, "a question has classes");
                for value in question.class_values() {
                    let _ = question.class_label(value);
                }
                let _ = (task.promise_of(question), question.label_column());
            }
        }
        Err(error) => is_explained(&error),
    }
}

/// A table: CSV, JSON lines or Parquet, as the first byte says.
pub fn table(data: &[u8]) {
    let Some((format, bytes)) = data.split_first() else { return };
    let Some(bytes) = bytes.get(..bytes.len().min(FILE_BYTES)) else { return };
    match format % 3 {
        0 => read_table(".csv", bytes),
        1 => read_table(".jsonl", bytes),
        _ => quiet::panics_may_be_caught(|| read_table(".parquet", bytes)),
    }
}

fn read_table(ending: &str, bytes: &[u8]) {
    let mut file = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
    file.write_all(bytes).expect("a disk with room");
    let mut table = match TableReader::open(file.path()) {
        Ok(table) => table,
        Err(error) => return is_explained(&error),
    };
    let (mut row, mut read) = (Vec::new(), 0);
    loop {
        match table.next_row(&mut row) {
            Ok(Some(number)) => {
                read += 1;
                assert_eq!((number, row.len()), (read, table.columns().len()), "rows are whole and counted");
            }
            Ok(None) => return,
            Err(error) => return is_explained(&error),
        }
    }
}

/// A file of tensors; then the same bytes in place of one part of a package of models, which the first byte chooses.
pub fn safetensors(data: &[u8]) {
    let Some((chosen, bytes)) = data.split_first() else { return };
    read_tensors(bytes);
    if let Err(error) = StaticEmbeddings::from_files(bytes, fixture::TOKENIZER.as_bytes()) {
        is_explained(&error);
    }
    for changes in [base_of_adapter(bytes).map(drop), adapter_changes(bytes).map(drop)] {
        if let Err(error) = changes {
            is_explained(&error);
        }
    }
    let parts = fixture::parts();
    let hostile = usize::from(*chosen) % parts.len();
    let models = TaskModels::from_parts(|name| {
        let found = parts.iter().enumerate().find(|(_, part)| part.name == name);
        found
            .map(|(position, part)| if position == hostile { bytes.to_vec() } else { part.bytes.clone() })
            .ok_or_else(|| sizewise_models::Error::File { file: name.into(), problem: "missing".into() })
    });
    match models {
        Ok(models) => ask(&models),
        Err(error) => is_explained(&error),
    }
}

fn read_tensors(bytes: &[u8]) {
    let tensors = match Tensors::parse("f", bytes) {
        Ok(tensors) => tensors,
        Err(error) => return is_explained(&error),
    };
    let _ = (tensors.metadata("format"), tensors.expect_format("f"));
    for name in tensors.names() {
        assert!(tensors.has(&name));
        let shape = tensors.shape(&name).expect("a tensor has a shape");
        let count: usize = shape.iter().product();
        if let Ok(floats) = tensors.floats(&name, &shape) {
            assert!(floats.len() == count && floats.iter().all(|value| value.is_finite()));
        }
        let _ = (tensors.dtype(&name), tensors.bytes(&name, &shape));
        let _ = (tensors.longs(&name, &shape), tensors.integers(&name, &shape));
        if let Ok(&[rows, columns]) = tensors.matrix_shape(&name).as_deref()
            && let Ok(floats) = tensors.matrix_floats(&name, (rows, columns))
        {
            assert!(floats.len() == rows * columns, "every row is whole");
        }
        assert!(tensors.floats(&name, &[usize::MAX, 2]).is_err(), "no tensor has every shape");
    }
}

/// Asks models that were read: whatever their numbers are, an answer is a class with a probability.
fn ask(models: &TaskModels) {
    models.to_parts().expect("what was read can be written");
    let mut reader = StaticReader::default();
    let features = reader.read(fixture::embeddings(), &models.vocabulary, "Lost cards, lost again");
    for question in &models.questions {
        let mut evidence =
            Evidence { text: "", features: Some(features), embedding: Some(&[0.6, 0.8]), earlier: &[] };
        let mut earlier = Vec::new();
        if let Some(tier) = &question.static_tier {
            earlier.push(tier.decide(evidence).expect("the features are there"));
        }
        if let Some(tier) = &question.encoder_tier {
            evidence.earlier = &earlier;
            let judgement = tier.decide(evidence).expect("the embedding is there");
            earlier.push(judgement);
        }
        for judgement in &earlier {
            assert!(judgement.class < question.classes, "{judgement:?}");
            assert!((0.0..1.0).contains(&judgement.confidence), "{judgement:?}");
        }
    }
}

/// A tokenizer file (WordPiece, byte-level BPE or Unigram) and, after a zero byte, a text to cut.
pub fn tokenizer(data: &[u8]) {
    let data = data.get(..FILE_BYTES).unwrap_or(data);
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let (file, text) = (halves.next().unwrap_or_default(), halves.next().unwrap_or(b"Lost cards!"));
    let tokenizer = match Tokenizer::from_tokenizer_json("t", file) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return is_explained(&error),
    };
    let text = String::from_utf8_lossy(text.get(..TEXT_BYTES).unwrap_or(text));
    let mut ids = vec![tokenizer.cls(), tokenizer.sep()];
    ids.extend(tokenizer.unknown());
    tokenizer.encode_into(&text, &mut ids);
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.ids()), "every id is below the largest");
}

/// A body of the OpenAI Decisions protocol.
pub fn decisions(data: &[u8]) {
    let Some(request) = granted(decided::Request::read(data), Protocol::OpenAi) else { return };
    for task in fixture::tasks() {
        if let Some(input) = granted(request.input(task), Protocol::OpenAi) {
            can_be_rendered(task, &input);
        }
        let Some(plan) = granted(request.plan(task), Protocol::OpenAi) else { continue };
        is_possible(task, &plan);
        for decision in fixture::decisions(task, plan.questions.as_deref()) {
            is_json(&request.answer(task, &plan, &decision));
        }
    }
}

/// A body of the TypeSafe System One protocol.
pub fn system_one(data: &[u8]) {
    let Some(request) = granted(systemone::Request::read(data), Protocol::SystemOne) else { return };
    for task in fixture::tasks() {
        if let Some(input) = granted(request.input(task), Protocol::SystemOne) {
            can_be_rendered(task, &input);
        }
        let Some(plan) = granted(request.plan(task), Protocol::SystemOne) else { continue };
        is_possible(task, &plan);
        for decision in fixture::decisions(task, plan.questions.as_deref()) {
            is_json(&request.answer(task, &plan, &decision));
        }
    }
}

/// What a teacher wrote: the texts of one call, for messages of one part and of two.
pub fn written(data: &[u8]) {
    let content = String::from_utf8_lossy(data);
    for fields in [&["text"][..], &["subject", "the body"]] {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let Ok(texts) = sizewise_learn::teach::write::read(&fields, &content, 8) else { continue };
        assert!((1..=8).contains(&texts.len()), "as many as were wanted, or fewer");
        let steers = |sign: char| sign.is_control() && sign != '\n';
        assert!(!texts.iter().any(|text| text.contains(steers)), "nothing steers a terminal");
    }
}

/// A chat completion, with its schema.
pub fn chat(data: &[u8]) {
    let Some(request) = granted(chat::Request::read(data), Protocol::OpenAi) else { return };
    for task in fixture::tasks() {
        let Some(plan) = granted(request.plan(task), Protocol::OpenAi) else { continue };
        can_be_rendered(task, &plan.input);
        are_of(task, plan.questions.as_deref().unwrap_or_default());
        for decision in fixture::decisions(task, plan.questions.as_deref()) {
            match chat::reply::write(&plan, &decision, 1_700_000_000) {
                chat::reply::Reply::Whole(body) => is_json(&body),
                chat::reply::Reply::Stream(events) => are_events(&events),
            }
        }
    }
}

/// A relayed call as the recorder reads it: the first byte says in which protocol, whether streamed and whether masked; then the request and,
/// after a zero byte, its answer.
pub fn observe(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut halves =
        bytes.get(..bytes.len().min(FILE_BYTES)).unwrap_or_default().splitn(2, |byte| *byte == 0);
    let (request, answer) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let protocol = ["chat", "responses", "messages"][usize::from(how & 3) % 3];
    let (streamed, redacted) = (how & 4 != 0, how & 8 != 0);
    let Some((place, call)) = recorded(protocol, request, (answer, streamed), redacted) else { return };
    is_json(place.as_bytes());
    is_json(call.as_bytes());
    let again = recorded(protocol, request, (answer, streamed), redacted);
    assert_eq!(again, Some((place, call)), "the same call is the same row");
}

/// What a request was read as; a refusal has to be one that a caller can be told.
fn granted<T>(outcome: Result<T, WireError>, protocol: Protocol) -> Option<T> {
    outcome
        .map_err(|error| {
            is_explained(&error);
            is_json(&error.body(protocol, 400));
        })
        .ok()
}

/// An error says something, and puts the blame where the bytes came from.
fn is_explained(error: &dyn Diagnose) {
    assert!(!error.to_string().is_empty());
    assert!(error.hint().is_none_or(|hint| !hint.is_empty()));
    assert_eq!(error.code().facts().fault, Fault::Caller, "{error}");
}

fn is_json(body: &[u8]) {
    let told: serde_json::Value = serde_json::from_slice(body).expect("a reply is JSON");
    assert!(told.is_object());
}

fn are_events(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("events are UTF-8");
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    let data = events.iter().map(|event| event.strip_prefix("data: ").expect("an event has data"));
    let (chunks, end) = data.clone().zip(1..).partition::<Vec<_>, _>(|(_, number)| *number < events.len());
    chunks.iter().for_each(|(chunk, _)| is_json(chunk.as_bytes()));
    assert_eq!(end.first().map(|(last, _)| *last), Some("[DONE]"));
}

fn can_be_rendered(task: &Task, input: &InputValue) {
    input.render(&task.input.fields).expect("an input that was accepted has every field");
}

fn are_of(task: &Task, questions: &[QuestionRef]) {
    assert!(questions.iter().all(|QuestionRef(position)| *position < task.questions.len()));
}

/// Every question of the request has an answer, and every value of it a class.
fn is_possible(task: &Task, plan: &asked::Plan) {
    let all: Vec<QuestionRef> = (0..task.questions.len()).map(QuestionRef).collect();
    let questions = plan.questions.as_deref().unwrap_or(&all);
    are_of(task, questions);
    for placed in &plan.placed {
        let QuestionRef(position) = questions.get(placed.answer).expect("an answer for each question");
        let classes = task.questions[*position].class_values().len();
        let mut order = placed.order.clone().unwrap_or_else(|| (0..classes).collect());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..classes), "each class has one place");
    }
}
