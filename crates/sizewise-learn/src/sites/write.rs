//! How does a call site become a task?
//!
//! What the model answered becomes teacher labels, a line for each different text, as `teach` writes them; labels of people, where
//! there are some, become development and locked rows. A text that was answered in two ways keeps what more than half of its answers
//! say, and nothing where none does. Teacher labels train and never prove: without labels of people there are no locked rows.

use super::{Asked, Call, Labels, Site, task_file};
use crate::{
    dataset::{column, read_gold},
    error::{Error, Result, at},
    opened::Texts,
    prepare::{SEAL_FILE, Seal, SplitSizes, hash_file, text_key},
    table::{TableReader, TableWriter, TableWriterOptions},
    teach::answers::{ANSWERS_FILE, CHECK_FILE, TeacherAnswer, read_answers},
    train::LEAST_ROWS_PER_CLASS,
};
use serde::Serialize;
use sizewise_contract::{Task, units::UnixMillis};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Where the texts are that people may label, beside the splits.
const TO_LABEL_FILE: &str = "data/to-label.csv";
/// How many texts people are asked to label.
const TO_LABEL: usize = 500;

/// What the user said about the new task.
pub struct FromSite<'a> {
    /// Its name.
    pub name: &'a str,
    /// The largest share of wrong answers that it will promise.
    pub max_served_error: f64,
    /// The provider that answered until now, where the settings have it.
    pub remote: Option<&'a str>,
    /// What that may cost: keys of `[budget]` with their dollars.
    pub budget: Vec<(&'static str, String)>,
    /// Rows that people labelled.
    pub gold: Option<&'a Path>,
    /// Texts that were opened before: they are never locked again.
    pub opened: Texts,
    /// The day of a moment, as YYYY-MM-DD.
    pub day: &'a dyn Fn(UnixMillis) -> String,
}

/// Rows that people labelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gold {
    /// That became development rows.
    pub dev: u64,
    /// That are locked.
    pub locked: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// The task's file.
    pub task_file: PathBuf,
    /// The call site.
    pub site: String,
    /// What the task asks.
    pub questions: Vec<Asked>,
    /// Calls that were kept.
    pub calls: usize,
    /// Different texts among them.
    pub texts: usize,
    /// Texts with an answer to learn from.
    pub examples: usize,
    /// Texts that came more than once.
    pub repeated: usize,
    /// Those of them that were not always answered alike: the teacher's noise.
    pub contradicted: usize,
    /// Texts that no more than half of their answers agree on, or whose answer is no label.
    pub without_answer: usize,
    /// Labels with too few texts to learn, by question: they are left out of the contract.
    pub rare: Vec<(String, String)>,
    /// Rows that people labelled.
    pub gold: Gold,
    /// Texts that wait to be labelled by people, beside the splits.
    pub to_label: PathBuf,
}

/// Writes the task of a call site into `folder`.
///
/// # Errors
/// Fails when nothing of what is answered there can be a task's question, when a gold row cannot be read as the task says, or when the
/// folder cannot be written. Nothing is written before the contract is known to be one.
pub fn write(site: &Site, from: &FromSite<'_>, folder: &Path) -> Result<Written> {
    let unusable = |problem: String, hint: &str| Error::Unusable {
        path: PathBuf::from(format!("call site {}", site.facts.name.as_ref().unwrap_or(&site.id))),
        problem,
        hint: Some(hint.into()),
    };
    let mut texts = by_text(site);
    let (questions, rare) = learnable(site, &mut texts);
    if !questions.iter().any(|asked| asked.kind.is_question()) {
        return Err(unusable(
            "nothing is answered there again and again with the same few labels".into(),
            "`sizewise discover` says what is answered where; wait for more calls, or choose another site",
        ));
    }
    let asked: Vec<&Asked> = questions.iter().filter(|asked| asked.kind.is_question()).collect();
    let input = if asked.iter().any(|asked| asked.name == "text") { "input" } else { "text" };
    let contract = Site { questions: questions.clone(), ..site.clone() };
    let task_text = task_file::render(&contract, from, input);
    let task = Task::parse(&task_text).map_err(|error| {
        unusable(format!("no task can be made of it: {error}"), "look at it with `sizewise discover --show`")
    })?;
    let gold_rows = from.gold.map(|gold| gold_rows(&task, gold)).transpose()?.unwrap_or_default();
    std::fs::create_dir_all(folder.join("data")).map_err(at(folder))?;
    let names: Vec<&str> = task.questions.iter().map(|question| question.name.as_str()).collect();
    let answers: Vec<TeacherAnswer> =
        texts.iter().filter_map(|text| text.answer(&questions, from.day)).collect();
    keep_answers(&folder.join(ANSWERS_FILE), answers.iter().collect(), &texts)?;
    let (gold, dev) = write_splits(&task, (folder, &names), gold_rows, &from.opened)?;
    // What it answered to development rows says how good it is, and how many of its labels `train` may doubt.
    let checks = answers.iter().filter(|answer| dev.contains(&answer.text)).collect();
    keep_answers(&folder.join(CHECK_FILE), checks, &texts)?;
    let to_label = folder.join(TO_LABEL_FILE);
    // Somebody may have begun to label.
    if !to_label.exists() {
        ask_people(&to_label, (&task, &names), &texts)?;
    }
    let task_file = folder.join("task.toml");
    replace(&task_file, task_text.as_bytes())?;
    Ok(Written {
        task_file,
        site: site.id.clone(),
        calls: site.rows.len(),
        texts: texts.len(),
        examples: answers.len(),
        repeated: texts.iter().filter(|text| text.calls.len() > 1).count(),
        contradicted: texts.iter().filter(|text| text.contradicted).count(),
        without_answer: texts.len() - answers.len(),
        questions,
        rare,
        gold,
        to_label,
    })
}

/// A text with all of its answers.
struct Text<'s> {
    calls: Vec<&'s Call>,
    /// What more than half of the answers say. `[questions]`
    labels: Vec<Option<String>>,
    contradicted: bool,
}

fn by_text(site: &Site) -> Vec<Text<'_>> {
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    let mut found: Vec<(Vec<&Call>, Vec<&Labels>)> = Vec::new();
    for (call, labels) in site.rows.iter().zip(&site.labels) {
        let place = *places.entry(text_key(&call.text)).or_insert_with(|| {
            found.push((Vec::new(), Vec::new()));
            found.len() - 1
        });
        if let Some((calls, answers)) = found.get_mut(place) {
            calls.push(call);
            answers.push(labels);
        }
    }
    found.into_iter().map(|(calls, answers)| text(calls, &answers, site.questions.len())).collect()
}

fn text<'s>(calls: Vec<&'s Call>, answers: &[&Labels], questions: usize) -> Text<'s> {
    let label = |question: usize| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for label in answers.iter().filter_map(|labels| labels.get(question)?.as_deref()) {
            *counts.entry(label).or_default() += 1;
        }
        let (label, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (2 * count > answers.len()).then(|| label.to_owned())
    };
    let contradicted = answers.iter().collect::<BTreeSet<_>>().len() > 1;
    Text { calls, labels: (0..questions).map(label).collect(), contradicted }
}

/// The questions with the labels that can be learnt; other labels are taken off the texts.
fn learnable(site: &Site, texts: &mut [Text<'_>]) -> (Vec<Asked>, Vec<(String, String)>) {
    let mut rare = Vec::new();
    let mut questions = site.questions.clone();
    for (place, asked) in questions.iter_mut().enumerate() {
        if !asked.kind.is_question() {
            continue;
        }
        let count = |label: &str| {
            texts
                .iter()
                .filter(|text| text.labels.get(place).is_some_and(|one| one.as_deref() == Some(label)))
                .count()
        };
        let counts: Vec<(String, usize)> =
            asked.kind.labels().iter().map(|(label, _)| (label.clone(), count(label))).collect();
        let few = |count: usize| count < LEAST_ROWS_PER_CLASS;
        rare.extend(
            counts
                .iter()
                .filter(|(_, count)| few(*count))
                .map(|(label, _)| (asked.name.clone(), label.clone())),
        );
        asked.kind.keep(|label| counts.iter().any(|(known, count)| known == label && !few(*count)));
        for text in texts.iter_mut() {
            if let Some(label) = text.labels.get_mut(place)
                && label
                    .as_ref()
                    .is_some_and(|label| !asked.kind.labels().iter().any(|(known, _)| known == label))
            {
                *label = None;
            }
        }
    }
    (questions, rare)
}

impl Text<'_> {
    fn answer(&self, questions: &[Asked], day: &dyn Fn(UnixMillis) -> String) -> Option<TeacherAnswer> {
        let labels: BTreeMap<String, String> = questions
            .iter()
            .zip(&self.labels)
            .filter(|(asked, _)| asked.kind.is_question())
            .filter_map(|(asked, label)| Some((asked.name.clone(), label.clone()?)))
            .collect();
        let call = self.calls.last()?;
        (!labels.is_empty()).then(|| TeacherAnswer {
            text: call.text.clone(),
            labels,
            problem: None,
            asked: call.asked.clone(),
            model: call.model.clone(),
            date: day(call.at),
            request: call.request.clone(),
        })
    }
}

/// Writes what the model answered; answers to other texts, which `teach` bought, stay.
fn keep_answers(path: &Path, answers: Vec<&TeacherAnswer>, texts: &[Text<'_>]) -> Result<()> {
    let ours: BTreeSet<u64> =
        texts.iter().filter_map(|text| text.calls.first()).map(|call| text_key(&call.text)).collect();
    let bought = read_answers(path)?.into_iter().filter(|answer| !ours.contains(&text_key(&answer.text)));
    let mut lines = Vec::new();
    for answer in bought.collect::<Vec<_>>().iter().chain(answers) {
        serde_json::to_writer(&mut lines, answer)
            .map_err(|_| Error::Internal("an answer has a JSON form"))?;
        lines.push(b'\n');
    }
    replace(path, &lines)
}

/// The labelled rows of a table that people filled in: text, then the label of each question.
fn gold_rows(task: &Task, path: &Path) -> Result<Vec<Vec<String>>> {
    // Refuses, naming the row, what the task does not know.
    read_gold(task, path)?;
    let mut table = TableReader::open(path)?;
    let names = task.input.fields.iter().map(String::as_str);
    let names = names.chain(task.questions.iter().map(|question| question.label_column()));
    let places = names.map(|name| column(&table, name)).collect::<Result<Vec<_>>>()?;
    let (mut row, mut rows) = (Vec::new(), Vec::new());
    while table.next_row(&mut row)?.is_some() {
        let cells: Vec<String> =
            places.iter().map(|&place| row.get(place).cloned().unwrap_or_default()).collect();
        if cells.iter().skip(1).any(|label| !label.trim().is_empty()) {
            rows.push(cells);
        }
    }
    Ok(rows)
}

/// Writes the tables, and returns how many rows people labelled and which texts are for development. A quarter of the gold rows is for development, the rest is locked; copies of a text stay together.
fn write_splits(
    task: &Task,
    (folder, questions): (&Path, &[&str]),
    gold: Vec<Vec<String>>,
    opened: &Texts,
) -> Result<(Gold, BTreeSet<String>)> {
    let columns = columns(task, questions);
    let create =
        |path: &str| TableWriter::create(&folder.join(path), &columns, &TableWriterOptions::default());
    let (train, mut dev, mut locked) =
        (create(&task.data.train)?, create(&task.data.dev)?, create(&task.data.locked)?);
    let (mut counts, mut dev_texts) = (Gold::default(), BTreeSet::new());
    for row in gold {
        let text = row.first().map_or("", String::as_str);
        // What was opened proves nothing any more.
        let is_dev = opened.contains(text) || spread(text_key(text)).is_multiple_of(4);
        let (writer, count) =
            if is_dev { (&mut dev, &mut counts.dev) } else { (&mut locked, &mut counts.locked) };
        if is_dev {
            dev_texts.insert(text.to_owned());
        }
        writer.write(&row)?;
        *count += 1;
    }
    [train, dev, locked].into_iter().try_for_each(TableWriter::finish)?;
    let splits = SplitSizes { train: 0, dev: counts.dev, locked: counts.locked, ..SplitSizes::default() };
    let seal = Seal { locked: hash_file(&folder.join(&task.data.locked))?, seed: 0, splits };
    let seal = serde_json::to_vec_pretty(&seal).map_err(|_| Error::Internal("a seal has a JSON form"))?;
    replace(&folder.join(SEAL_FILE), &seal)?;
    Ok((counts, dev_texts))
}

/// Writes texts without labels, an even draw of all.
fn ask_people(path: &Path, (task, questions): (&Task, &[&str]), texts: &[Text<'_>]) -> Result<()> {
    let mut table = TableWriter::create(path, &columns(task, questions), &TableWriterOptions::default())?;
    let mut drawn: Vec<&str> =
        texts.iter().filter_map(|text| text.calls.first()).map(|call| call.text.as_str()).collect();
    drawn.sort_by_key(|text| spread(text_key(text)));
    for text in drawn.into_iter().take(TO_LABEL) {
        let mut row = vec![text.to_owned()];
        row.resize(1 + questions.len(), String::new());
        table.write(&row)?;
    }
    table.finish()
}

fn columns(task: &Task, questions: &[&str]) -> Vec<String> {
    task.input.fields.iter().cloned().chain(questions.iter().map(|name| (*name).to_owned())).collect()
}

/// Another order than that of the keys, whose bits hang on the text's letters (Fibonacci hashing, Knuth, volume 3, 6.4).
fn spread(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Writes a file so that it is never seen half done.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = crate::table::part_path(path);
    std::fs::write(&part, bytes).map_err(at(&part))?;
    std::fs::rename(&part, path).map_err(at(path))
}
