//! Which examples does a task have, and who labelled them?
//!
//! Training rows come out as gold or teacher rows, two types; development rows are gold; and locked rows stay a
//! [`Locked`], which can be opened only by giving it up.

use crate::{
    error::{Error, Result},
    opened::Texts,
    prepare::{SEAL_FILE, Seal, hash_file},
    table::TableReader,
    teach::{
        answers::{ANSWERS_FILE, TeacherAnswer, read_answers},
        written::{self, WRITTEN_FILE},
    },
};
use sizewise_contract::{
    ClassLabel, ContentHash, Diagnose as _, Example, Gold, Label, Question, Task, Teacher, did_you_mean,
    limits,
    task::{LabelSource, Overflow},
};
use sizewise_models::encoder::Encoder;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Labelled rows with the hash of what they say.
#[derive(Debug, Clone)]
pub struct Dataset<L> {
    /// The rows, in the order of the table.
    pub examples: Vec<Example<L>>,
    /// Hash of texts and labels.
    pub hash: ContentHash,
}

/// Training rows, by who labelled them.
#[derive(Debug, Clone)]
pub enum TrainingRows {
    /// People checked the labels.
    Gold(Dataset<Gold>),
    /// A model gave the labels.
    Teacher(Dataset<Teacher>),
    /// Rows that people checked, followed by rows that a teacher was paid for, and those that it wrote.
    Mixed(Dataset<Given>),
}

/// A label with who gave it, where a table of training rows has both kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A person checked it.
    Gold(Gold),
    /// A model gave it.
    Teacher(Teacher),
    /// A model wrote the text for it.
    Written {
        /// The label, and which model wrote when.
        label: Teacher,
        /// The training rows that it was shown, by the keys of their texts.
        shown: Arc<[u64]>,
    },
}

impl Label for Given {
    fn class_label(&self) -> ClassLabel {
        match self {
            Self::Gold(label) => label.class_label(),
            Self::Teacher(label) | Self::Written { label, .. } => label.class_label(),
        }
    }
}

/// Locked gold rows that nobody has looked at.
#[derive(Debug)]
pub struct Locked {
    path: PathBuf,
    rows: u64,
    hash: ContentHash,
}

impl Locked {
    /// Finds the locked rows of a task and checks that they are the ones that were set aside.
    ///
    /// Counts them without looking at a label.
    ///
    /// # Errors
    /// Fails when the file is missing, cannot be read, or is not the one that was sealed.
    pub fn find(task: &Task, folder: &Path) -> Result<Self> {
        let path = folder.join(&task.data.locked);
        let hash = hash_file(&path)?;
        // A task that was written by hand has no seal; its release remembers the rows that it was trained beside.
        if let Ok(text) = std::fs::read(folder.join(SEAL_FILE)) {
            let seal: Option<Seal> = serde_json::from_slice(&text).ok();
            if seal.is_none_or(|seal| seal.locked != hash) {
                return Err(Error::LockedRowsChanged { path });
            }
        }
        let mut table = TableReader::open(&path)?;
        let (mut row, mut rows) = (Vec::new(), 0);
        while table.next_row(&mut row)?.is_some() {
            rows += 1;
        }
        Ok(Self { path, rows, hash })
    }

    /// How many rows are locked.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hash of the file of locked rows.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The table.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the texts, and at no label, so that nothing is opened that then cannot be read: every text must be there, and
    /// the encoder must be able to read it.
    ///
    /// # Errors
    /// Fails at the first row whose text cannot be read, naming the row.
    pub fn check_inputs(&self, task: &Task, encoder: Option<&Encoder>) -> Result<()> {
        let mut table = TableReader::open(&self.path)?;
        let inputs = task.input.fields.iter().map(|f| column(&table, f)).collect::<Result<Vec<_>>>()?;
        task.questions.iter().try_for_each(|question| column(&table, question.label_column()).map(drop))?;
        let mut row = Vec::new();
        while let Some(number) = table.next_row(&mut row)? {
            let cell = |place: usize| row.get(place).map_or("", String::as_str);
            let text = inputs.iter().map(|&place| cell(place)).collect::<Vec<_>>().join("\n");
            check_text(&self.path, number, &text)?;
            check_length("locked", number, &text, (task, encoder))?;
        }
        Ok(())
    }

    /// Looks at the columns by which the rows are sliced, and at no label. One list a column, one cell a row.
    ///
    /// # Errors
    /// Fails when a column is missing, or when there are too many values to compare them.
    pub fn slices(&self, columns: &[String]) -> Result<Vec<Vec<String>>> {
        let mut table = TableReader::open(&self.path)?;
        let places = columns.iter().map(|name| column(&table, name)).collect::<Result<Vec<_>>>()?;
        let (mut row, mut cells) = (Vec::new(), vec![Vec::new(); columns.len()]);
        while table.next_row(&mut row)?.is_some() {
            for (list, &place) in cells.iter_mut().zip(&places) {
                list.push(row.get(place).map_or("", |cell| cell.trim()).to_owned());
            }
        }
        let different = |list: &Vec<String>| list.iter().collect::<BTreeSet<_>>().len();
        let values: usize = cells.iter().map(different).sum();
        match values > limits::SLICES {
            true => Err(Error::Unusable {
                path: self.path.clone(),
                problem: format!("the columns under slices have {values} values; at most {} are compared", limits::SLICES),
                hint: Some("name a column with fewer values under slices in [data] of the task file: a region in place of a customer".into()),
            }),
            false => Ok(cells),
        }
    }

    /// The texts, without their labels.
    ///
    /// # Errors
    /// Fails when the table cannot be read.
    pub fn texts(&self, task: &Task) -> Result<Texts> {
        texts(task, &self.path)
    }

    /// Opens the rows. Log the opening in the store first: it spends part of the promise's risk.
    ///
    /// # Errors
    /// Fails when a row cannot be read as the task says, naming the row.
    pub fn open(self, task: &Task) -> Result<Dataset<Gold>> {
        read(task, &self.path, Gold)
    }
}

impl TrainingRows {
    /// Reads a task's training rows: those of its table, after them those that a teacher was paid for, and those that it wrote.
    ///
    /// # Errors
    /// Fails at the first row that cannot be read as the task says, naming the row.
    pub fn read(task: &Task, folder: &Path) -> Result<Self> {
        let written = written::learnable(task, folder)?;
        if written.is_empty() {
            return Self::read_without_written(task, folder);
        }
        let rows = Self::given(task, (&folder.join(&task.data.train), bought(task, folder)?))?;
        Ok(Self::Mixed(rows.followed_by(written, |given| given)))
    }

    /// Reads those of the table and the bought ones alone.
    ///
    /// # Errors
    /// Fails at the first row that cannot be read as the task says, naming the row.
    pub fn read_without_written(task: &Task, folder: &Path) -> Result<Self> {
        let path = folder.join(&task.data.train);
        let bought = bought(task, folder)?;
        match task.data.train_labels {
            LabelSource::Gold if bought.is_empty() => read(task, &path, Gold).map(Self::Gold),
            LabelSource::Gold => {
                let gold = read(task, &path, |label| Given::Gold(Gold(label)))?;
                Ok(Self::Mixed(gold.followed_by(bought, Given::Teacher)))
            }
            LabelSource::Teacher => {
                let source: Arc<str> = task.data.train.as_str().into();
                let rows = read(task, &path, |label| Teacher { label, source: Arc::clone(&source) })?;
                Ok(Self::Teacher(rows.followed_by(bought, |label| label)))
            }
        }
    }

    /// The table's rows and the bought ones, each with who labelled it.
    fn given(task: &Task, (path, bought): (&Path, Vec<Example<Teacher>>)) -> Result<Dataset<Given>> {
        let source: Arc<str> = task.data.train.as_str().into();
        let rows = read(task, path, |label| match task.data.train_labels {
            LabelSource::Gold => Given::Gold(Gold(label)),
            LabelSource::Teacher => Given::Teacher(Teacher { label, source: Arc::clone(&source) }),
        })?;
        Ok(rows.followed_by(bought, Given::Teacher))
    }

    /// The same rows without those that a teacher wrote: for whatever must know them only as they came.
    #[must_use]
    pub fn without_written(&self) -> std::borrow::Cow<'_, Self> {
        match self {
            Self::Mixed(rows) if rows.written() > 0 => {
                let examples = rows.examples.get(..rows.examples.len() - rows.written()).unwrap_or_default();
                let (examples, hash) = (examples.to_vec(), rows.hash);
                std::borrow::Cow::Owned(Self::Mixed(Dataset { examples, hash }))
            }
            rows => std::borrow::Cow::Borrowed(rows),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Gold(rows) => rows.examples.len(),
            Self::Teacher(rows) => rows.examples.len(),
            Self::Mixed(rows) => rows.examples.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Dataset<Given> {
    /// How many rows a teacher wrote; they are the last ones.
    #[must_use]
    pub fn written(&self) -> usize {
        let is_written = |row: &&Example<Given>| row.group.as_deref() == Some(written::GROUP);
        self.examples.iter().rev().take_while(is_written).count()
    }
}

impl<L: Label> Dataset<L> {
    fn followed_by<G: Label>(mut self, more: Vec<Example<G>>, label: impl Fn(G) -> L) -> Self {
        let mut hash = ContentHash::builder();
        hash.field(self.hash.as_bytes());
        for example in more {
            hash.field(example.text.as_bytes());
            let said: Vec<_> =
                example.labels.iter().map(|l| l.as_ref().map(|l| l.class_label().class())).collect();
            hash.field(format!("{said:?}").as_bytes());
            let labels = example.labels.into_iter().map(|given| given.map(&label)).collect();
            self.examples.push(Example {
                row: example.row,
                text: example.text,
                labels,
                group: example.group,
                time: None,
            });
        }
        self.hash = hash.finish();
        self
    }
}

/// What a teacher was paid for, as far as it may be learnt from: no text that is locked, for development or in the table by now.
fn bought(task: &Task, folder: &Path) -> Result<Vec<Example<Teacher>>> {
    let answers = read_answers(&folder.join(ANSWERS_FILE))?;
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let elsewhere = [&task.data.train, &task.data.dev, &task.data.locked]
        .map(|path| texts(task, &folder.join(path)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let row = |(row, answer): (usize, TeacherAnswer)| {
        let labels = answer.class_labels(task);
        let learnt = labels.iter().any(Option::is_some)
            && check_text(folder, 0, &answer.text).is_ok()
            && !elsewhere.iter().any(|texts| texts.contains(&answer.text));
        let source: Arc<str> = format!("{} {}", answer.model, answer.date).into();
        let label =
            |label: Option<ClassLabel>| label.map(|label| Teacher { label, source: Arc::clone(&source) });
        learnt.then(|| Example {
            row: row as u64 + 1,
            labels: labels.into_iter().map(label).collect(),
            text: answer.text,
            group: None,
            time: None,
        })
    };
    Ok(answers.into_iter().enumerate().filter_map(row).collect())
}

/// The texts of a task's training rows, bought and written ones among them.
///
/// # Errors
/// Fails when a table cannot be read.
pub fn training_texts(task: &Task, folder: &Path) -> Result<Texts> {
    let mut known = texts(task, &folder.join(&task.data.train))?;
    read_answers(&folder.join(ANSWERS_FILE))?.iter().for_each(|answer| known.insert(&answer.text));
    written::read_written(&folder.join(WRITTEN_FILE))?.iter().for_each(|row| known.insert(&row.text));
    Ok(known)
}

pub(crate) fn texts(task: &Task, path: &Path) -> Result<Texts> {
    let mut texts = Texts::default();
    each_text(task, path, &mut |text| texts.insert(text))?;
    Ok(texts)
}

/// Hands the texts of a table on, and looks at no label.
pub(crate) fn each_text(task: &Task, path: &Path, with: &mut dyn FnMut(&str)) -> Result<()> {
    let mut table = TableReader::open(path)?;
    let inputs = task.input.fields.iter().map(|f| column(&table, f)).collect::<Result<Vec<_>>>()?;
    let mut row = Vec::new();
    while table.next_row(&mut row)?.is_some() {
        let cell = |place: usize| row.get(place).map_or("", String::as_str);
        with(&inputs.iter().map(|&place| cell(place)).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// Reads gold rows that may be looked at: development rows, or a file to evaluate against.
///
/// # Errors
/// Fails at the first row that cannot be read as the task says, naming the row.
pub fn read_gold(task: &Task, path: &Path) -> Result<Dataset<Gold>> {
    read(task, path, Gold)
}

fn read<L: Label>(task: &Task, path: &Path, label: impl Fn(ClassLabel) -> L) -> Result<Dataset<L>> {
    let mut table = TableReader::open(path)?;
    let find = |name: &str| column(&table, name);
    let inputs = task.input.fields.iter().map(|field| find(field)).collect::<Result<Vec<_>>>()?;
    let labels =
        task.questions.iter().map(|question| find(question.label_column())).collect::<Result<Vec<_>>>()?;
    let group = task.data.group.as_deref().and_then(|name| find(name).ok());
    let time = task.data.time.as_deref().and_then(|name| find(name).ok());
    let mut hash = ContentHash::builder();
    let (mut examples, mut row) = (Vec::new(), Vec::new());
    while let Some(number) = table.next_row(&mut row)? {
        let cell = |place: usize| row.get(place).map_or("", String::as_str);
        let text = inputs.iter().map(|&place| cell(place)).collect::<Vec<_>>().join("\n");
        check_text(path, number, &text)?;
        hash.field(text.as_bytes());
        let mut row_labels = Vec::with_capacity(labels.len());
        for (question, &place) in task.questions.iter().zip(&labels) {
            let written = cell(place).trim();
            hash.field(written.as_bytes());
            row_labels.push(match written.is_empty() {
                true => None,
                false => Some(label(
                    question
                        .class_label(written)
                        .ok_or_else(|| unknown_label(path, number, question, written))?,
                )),
            });
        }
        let optional = |place: Option<usize>| place.map(|place| cell(place).to_owned());
        examples.push(Example {
            row: number,
            text,
            labels: row_labels,
            group: optional(group),
            time: optional(time),
        });
    }
    Ok(Dataset { examples, hash: hash.finish() })
}

pub(crate) fn column(table: &TableReader, name: &str) -> Result<usize> {
    table.columns().iter().position(|column| column == name).ok_or_else(|| {
        let columns = table.columns();
        let meant = did_you_mean(name, columns.iter().map(String::as_str));
        Error::Unusable {
            path: table.path().to_owned(),
            problem: format!("it has no column `{name}`, which the task file names"),
            hint: Some(meant.map_or_else(
                || format!("its columns are: {}", columns.join(", ")),
                |m| format!("did you mean `{m}`?"),
            )),
        }
    })
}

pub(crate) fn check_text(path: &Path, row: u64, text: &str) -> Result<()> {
    let problem = if text.trim().is_empty() {
        format!("row {row} has no text")
    } else if text.len() > limits::INPUT_BYTES {
        format!("row {row} has a text of {} bytes; at most {} are read", text.len(), limits::INPUT_BYTES)
    } else {
        return Ok(());
    };
    Err(Error::Unusable {
        path: path.to_owned(),
        problem,
        hint: Some("remove the row, or shorten its text".into()),
    })
}

/// Whether the encoder can read a text, as the task wants it read.
pub(crate) fn check_length(
    what: &'static str,
    row: u64,
    text: &str,
    (task, encoder): (&Task, Option<&Encoder>),
) -> Result<()> {
    let Some(encoder) = encoder.filter(|_| task.input.on_overflow == Overflow::Error) else { return Ok(()) };
    let limit = encoder.token_limit();
    // No word piece is shorter than a byte.
    if text.len() + 2 <= limit {
        return Ok(());
    }
    match encoder.count_tokens(text) {
        tokens if tokens > limit => Err(Error::LongText { what, row, tokens, limit }),
        _ => Ok(()),
    }
}

fn unknown_label(path: &Path, row: u64, question: &Question, written: &str) -> Error {
    let known: Vec<&str> =
        question.class_values().into_iter().chain(question.out_of_scope_label.as_deref()).collect();
    let shown: String = written.chars().take(60).collect();
    let meant = did_you_mean(written, known.iter().copied());
    Error::Unusable {
        path: path.to_owned(),
        problem: format!("row {row}: `{shown}` is no answer to `{}`", question.name),
        hint: Some(meant.map_or_else(
            || format!("add it to the choices in the task file, or correct the row; known: {}", list(&known)),
            |meant| format!("did you mean `{meant}`?"),
        )),
    }
}

/// The first few of many names.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown} and {} more", names.len() - 12) } else { shown }
}

/// Reads a task file.
///
/// # Errors
/// Fails when the file is missing or is no task file; the message names the place.
pub fn read_task(path: &Path) -> Result<Task> {
    let text = std::fs::read_to_string(path).map_err(crate::error::at(path))?;
    Task::parse(&text).map_err(|error| Error::TaskFile {
        path: path.to_owned(),
        hint: error.hint(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::Diagnose;

    const TASK: &str = "schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"billing\" }, { value = \"delivery\" }]\nout_of_scope_label = \"none\"\n";

    fn folder(rows: &str) -> (tempfile::TempDir, Task) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for name in ["train", "locked"] {
            std::fs::write(folder.path().join(format!("data/{name}.csv")), rows).unwrap();
        }
        (folder, Task::parse(TASK).unwrap())
    }

    #[test]
    fn training_rows_carry_the_type_of_their_labels() {
        let (folder, mut task) =
            folder("text,team\nwhere is my invoice,billing\nhello,none\nno label yet,\n");
        let TrainingRows::Gold(gold) = TrainingRows::read(&task, folder.path()).unwrap() else {
            panic!("gold by default")
        };
        assert_eq!(gold.examples[1].labels, [Some(Gold(ClassLabel::OutOfScope))]);
        assert_eq!(gold.examples[2].labels, [None]);
        task.data.train_labels = LabelSource::Teacher;
        assert!(matches!(TrainingRows::read(&task, folder.path()).unwrap(), TrainingRows::Teacher(_)));
    }

    #[test]
    fn bought_rows_come_after_the_tables_own_and_never_from_locked_or_development_rows() {
        let (folder, mut task) = folder("text,team\nwhere is my invoice,billing\n");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("data/dev.csv", "text,team\nfor development,billing\n");
        write("data/locked.csv", "text,team\nlocked away,delivery\n");
        let line = |text: &str, label: &str| {
            format!(
                "{{\"text\":\"{text}\",\"labels\":{{{label}}},\"asked\":\"m\",\"model\":\"m\",\"date\":\"2026-01-02\"}}\n"
            )
        };
        let delivery = "\"team\":\"delivery\"";
        let lines = ["For development!", "locked away", "Where is my invoice?", "lost parcel"];
        let mut all: String = lines.iter().map(|text| line(text, delivery)).collect();
        all += &line("unanswered", "");
        all += &line("of an older contract", "\"team\":\"sales\"");
        write("data/teacher.jsonl", &all);
        let TrainingRows::Mixed(rows) = TrainingRows::read(&task, folder.path()).unwrap() else {
            panic!("both kinds")
        };
        let texts: Vec<&str> = rows.examples.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["where is my invoice", "lost parcel"]);
        assert!(matches!(&rows.examples[0].labels[0], Some(Given::Gold(_))));
        let Some(Given::Teacher(given)) = &rows.examples[1].labels[0] else { panic!("a teacher's") };
        assert_eq!((&*given.source, given.label), ("m 2026-01-02", ClassLabel::Class(1)));
        task.data.train_labels = LabelSource::Teacher;
        let rows = TrainingRows::read(&task, folder.path()).unwrap();
        assert!(matches!(&rows, TrainingRows::Teacher(_)) && rows.len() == 2);
        assert!(training_texts(&task, folder.path()).unwrap().contains("lost parcel"));
    }

    #[test]
    fn a_row_that_cannot_be_used_is_named() {
        for (rows, expected, way_out) in [
            ("text,team\nhi,biling\n", "row 1: `biling` is no answer to `team`", "did you mean `billing`?"),
            ("text,team\nhi,billing\n ,billing\n", "row 2 has no text", "remove the row"),
            ("txt,team\nhi,billing\n", "no column `text`", "did you mean `txt`?"),
        ] {
            let (folder, task) = folder(rows);
            let error = TrainingRows::read(&task, folder.path()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().unwrap().contains(way_out), "{:?}", error.hint());
        }
    }

    #[test]
    fn locked_rows_that_changed_are_refused() {
        let (folder, task) = folder("text,team\nwhere is my invoice,billing\n");
        let locked = Locked::find(&task, folder.path()).unwrap();
        assert_eq!(locked.rows(), 1);
        let seal = Seal { locked: locked.hash(), seed: 1, splits: crate::prepare::SplitSizes::default() };
        std::fs::write(folder.path().join(SEAL_FILE), serde_json::to_vec(&seal).unwrap()).unwrap();
        assert_eq!(Locked::find(&task, folder.path()).unwrap().open(&task).unwrap().examples.len(), 1);
        std::fs::write(folder.path().join("data/locked.csv"), "text,team\nwhere is my invoice,delivery\n")
            .unwrap();
        assert!(matches!(Locked::find(&task, folder.path()), Err(Error::LockedRowsChanged { .. })));
    }
}
