//! How do the public data sets become tasks?

use sizewise_contract::{ClassLabel, ContentHash, Example, Gold, Task};
use sizewise_learn::{
    dataset::{Dataset, TrainingRows},
    table::TableReader,
    train::{self, Tools, Trained, Unseen},
};
use sizewise_measure::{cascade::RowOutcome, random::Random};
use sizewise_models::{builtin, encoder::Encoder, static_embeddings::StaticEmbeddings};
use std::{collections::BTreeSet, path::Path, sync::atomic::AtomicBool};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The built-in models and the data folder.
pub(crate) struct World {
    shared: std::path::PathBuf,
    encoder: Encoder,
    static_embeddings: StaticEmbeddings,
}

/// A text with its label; none stands for out of scope.
pub(crate) type Row = (String, Option<String>);

/// One data set: rows to learn from and rows to test on.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) train: Vec<Row>,
    pub(crate) test: Vec<Row>,
    /// Share of the traffic that is out of scope, where that is known.
    pub(crate) out_of_scope_share: Option<f64>,
    pub(crate) classes: Vec<String>,
}

impl World {
    pub(crate) fn open(shared: &Path) -> Outcome<Self> {
        Ok(Self {
            shared: shared.to_owned(),
            encoder: builtin::encoder()?,
            static_embeddings: builtin::static_embeddings()?,
        })
    }

    /// The encoder.
    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The static embeddings.
    pub(crate) fn static_embeddings(&self) -> &StaticEmbeddings {
        &self.static_embeddings
    }

    fn file(&self, name: &str) -> Option<std::path::PathBuf> {
        let path = self.shared.join("data").join(name);
        if !path.exists() {
            println!("skipped: {name}: no such file below {}", self.shared.display());
            return None;
        }
        Some(path)
    }

    /// BANKING77 with its official split.
    pub(crate) fn banking77(&self) -> Outcome<Option<Set>> {
        let (Some(train), Some(test)) = (self.file("banking77/train.csv"), self.file("banking77/test.csv"))
        else {
            return Ok(None);
        };
        Ok(Some(Set::new("BANKING77", csv(&train)?, csv(&test)?)))
    }

    /// CLINC150 full: the official training rows with their 200 out-of-scope ones, and the test rows with their 1,000.
    pub(crate) fn clinc150(&self) -> Outcome<Option<Set>> {
        let Some(path) = self.file("clinc150/data_full.json") else { return Ok(None) };
        let json: std::collections::BTreeMap<String, Vec<(String, String)>> =
            serde_json::from_slice(&std::fs::read(path)?)?;
        let part = |names: &[&str]| -> Vec<Row> {
            let rows = names.iter().flat_map(|name| json.get(*name).into_iter().flatten());
            rows.map(|(text, label)| (text.clone(), (label != "oos").then(|| label.clone()))).collect()
        };
        let set = Set::new("CLINC150", part(&["train", "oos_train", "oos_val"]), part(&["test", "oos_test"]));
        // The set's description says so: 1,000 of the 5,500 test queries.
        Ok(Some(Set { out_of_scope_share: Some(0.18), ..set }))
    }

    /// Sentence polarity, half to learn from and half to test on.
    pub(crate) fn polarity(&self) -> Outcome<Option<Set>> {
        let (Some(good), Some(bad)) =
            (self.file("sentence-polarity/rt-polarity.pos"), self.file("sentence-polarity/rt-polarity.neg"))
        else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        for (path, label) in [(good, "positive"), (bad, "negative")] {
            rows.extend(
                String::from_utf8_lossy(&std::fs::read(path)?)
                    .lines()
                    .map(|line| (line.to_owned(), Some(label.to_owned()))),
            );
        }
        Ok(Some(Set::halves("sentence polarity", rows)))
    }

    /// Twenty of the languages of Tatoeba, half to learn from and half to test on.
    pub(crate) fn languages(&self) -> Outcome<Option<Set>> {
        const LANGUAGES: [&str; 20] = [
            "dan", "nob", "nno", "swe", "isl", "deu", "nld", "afr", "spa", "glg", "por", "cat", "ita", "fra",
            "ron", "ces", "slk", "pol", "hrv", "srp",
        ];
        let mut rows = Vec::new();
        for language in LANGUAGES {
            let Some(path) = self.file(&format!("tatoeba-langid/tatoeba.{language}-eng.{language}")) else {
                return Ok(None);
            };
            rows.extend(
                std::fs::read_to_string(path)?
                    .lines()
                    .filter(|l| !l.trim().is_empty())
                    .map(|line| (line.to_owned(), Some(language.to_owned()))),
            );
        }
        Ok(Some(Set::halves("Tatoeba, 20 languages", rows)))
    }

    /// Lines of five systems' logs as they came, repeats among them, and the template that each is of, where there are ten lines of it;
    /// three quarters to learn from.
    pub(crate) fn logs(&self) -> Outcome<Option<Set>> {
        let mut rows: Vec<Row> = Vec::new();
        for system in ["Apache", "BGL", "HDFS", "Linux", "OpenSSH"] {
            let Some(path) = self.file(&format!("loghub-2k/{system}/{system}_2k.log_structured.csv")) else {
                return Ok(None);
            };
            let mut table = TableReader::open(&path)?;
            let place =
                |name: &str| table.columns().iter().position(|column| column == name).ok_or("no such column");
            let (line, template) = (place("Content")?, place("EventId")?);
            let mut row = Vec::new();
            while table.next_row(&mut row)?.is_some() {
                rows.push((row[line].clone(), Some(format!("{system} {}", row[template]))));
            }
        }
        let mut lines = std::collections::BTreeMap::new();
        for (_, template) in &rows {
            *lines.entry(template.clone()).or_insert(0) += 1;
        }
        rows.retain(|(_, template)| lines[template] >= 10);
        Random::new(7).shuffle(&mut rows);
        let test = rows.split_off(rows.len() / 4 * 3);
        Ok(Some(Set::new("Loghub, lines of 5 systems", rows, test)))
    }

    /// Trains both tiers on rows.
    pub(crate) fn train(&self, set: &Set, rows: &[Row], seed: u64) -> Outcome<(Task, Trained)> {
        self.train_with(set, rows, (seed, None))
    }

    /// Trains both tiers; `unseen` are the rows that an adapted encoder has not learnt from.
    pub(crate) fn train_with(
        &self,
        set: &Set,
        rows: &[Row],
        (seed, unseen): (u64, Option<Unseen<'_>>),
    ) -> Outcome<(Task, Trained)> {
        let task = set.task()?;
        let dev = Dataset { examples: Vec::new(), hash: ContentHash::of(b"") };
        let stop = AtomicBool::new(false);
        let tools = Tools { unseen, ..self.tools(seed, &stop) };
        let trained = train::train(&task, &set.training_rows(rows)?, &dev, tools)?;
        Ok((task, trained))
    }

    /// Trains the tiers that a task names.
    pub(crate) fn train_task(&self, set: &Set, task: &Task, rows: &[Row], seed: u64) -> Outcome<Trained> {
        let dev = Dataset { examples: Vec::new(), hash: ContentHash::of(b"") };
        let stop = AtomicBool::new(false);
        Ok(train::train(task, &set.training_rows(rows)?, &dev, self.tools(seed, &stop))?)
    }

    /// Trains the tiers that a task names, the static one taught by the encoder where that pays.
    pub(crate) fn train_distilled(
        &self,
        set: &Set,
        task: &Task,
        (rows, unlabelled): (&[Row], &[String]),
        seed: u64,
    ) -> Outcome<Trained> {
        let dev = Dataset { examples: Vec::new(), hash: ContentHash::of(b"") };
        let stop = AtomicBool::new(false);
        let distil = Some(train::Distil { encoder: &self.encoder, unlabelled });
        let tools = Tools { distil, ..self.tools(seed, &stop) };
        Ok(train::train(task, &set.training_rows(rows)?, &dev, tools)?)
    }

    /// The same world with another encoder.
    pub(crate) fn with_encoder(&self, encoder: Encoder) -> Outcome<Self> {
        let static_embeddings = builtin::static_embeddings()?;
        Ok(Self { shared: self.shared.clone(), encoder, static_embeddings })
    }

    /// Lets every tier answer rows.
    pub(crate) fn judge(
        &self,
        set: &Set,
        task: &Task,
        trained: &Trained,
        rows: &[Row],
    ) -> Outcome<Vec<RowOutcome>> {
        Ok(self.judged(set, task, trained, rows)?.into_iter().filter_map(|judged| judged.outcome).collect())
    }

    /// What every tier says of rows.
    pub(crate) fn judged(
        &self,
        set: &Set,
        task: &Task,
        trained: &Trained,
        rows: &[Row],
    ) -> Outcome<Vec<train::Judged>> {
        let stop = AtomicBool::new(false);
        let judged = train::judge(task, &trained.models, &set.examples(rows)?, self.tools(0, &stop))?;
        Ok(judged.into_iter().flatten().collect())
    }

    fn tools<'a>(&'a self, seed: u64, stop: &'a AtomicBool) -> Tools<'a> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Tools {
            static_embeddings: &self.static_embeddings,
            encoder: Some(&self.encoder),
            threads,
            seed,
            balance: false,
            progress: &|_, _, _| (),
            stop,
            unseen: None,
            distil: None,
        }
    }
}

fn csv(path: &Path) -> Outcome<Vec<Row>> {
    let mut table = TableReader::open(path)?;
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row)?.is_some() {
        rows.push((row[0].clone(), Some(row[1].clone())));
    }
    Ok(rows)
}

impl Set {
    fn new(name: &'static str, train: Vec<Row>, test: Vec<Row>) -> Self {
        let classes: BTreeSet<String> = train.iter().filter_map(|(_, label)| label.clone()).collect();
        Self { name, train, test, out_of_scope_share: None, classes: classes.into_iter().collect() }
    }

    fn halves(name: &'static str, mut rows: Vec<Row>) -> Self {
        Random::new(7).shuffle(&mut rows);
        let test = rows.split_off(rows.len() / 2);
        Self::new(name, rows, test)
    }

    /// Rows as a table of gold labels.
    pub(crate) fn training_rows(&self, rows: &[Row]) -> Outcome<TrainingRows> {
        Ok(TrainingRows::Gold(Dataset { examples: self.examples(rows)?, hash: ContentHash::of(b"") }))
    }

    pub(crate) fn task(&self) -> Outcome<Task> {
        self.task_with("")
    }

    /// A task with more in its file.
    pub(crate) fn task_with(&self, more: &str) -> Outcome<Task> {
        let choices: Vec<String> =
            self.classes.iter().map(|class| format!("{{ value = {class:?} }}")).collect();
        let share = self
            .out_of_scope_share
            .map_or_else(String::new, |share| format!("[data]\nout_of_scope_share = {share}\n"));
        Ok(Task::parse(&format!(
            "schema = 1\nname = \"public\"\n[[question]]\nname = \"label\"\ntype = \"choice\"\nchoices = [{}]\n{share}{more}",
            choices.join(", ")
        ))?)
    }

    pub(crate) fn examples(&self, rows: &[Row]) -> Outcome<Vec<Example<Gold>>> {
        let example = |(number, (text, label)): (usize, &Row)| {
            let class = match label {
                Some(label) => ClassLabel::Class(
                    self.classes.binary_search(label).map_err(|_| format!("unknown label {label}"))? as u16,
                ),
                None => ClassLabel::OutOfScope,
            };
            Ok(Example {
                row: number as u64 + 1,
                text: text.clone(),
                labels: vec![Some(Gold(class))],
                group: None,
                time: None,
            })
        };
        rows.iter().enumerate().map(example).collect()
    }

    /// At most `count` rows of every label, drawn with a seed.
    pub(crate) fn few(&self, count: usize, seed: u64) -> Vec<Row> {
        let mut rows: Vec<&Row> = self.train.iter().filter(|(_, label)| label.is_some()).collect();
        Random::new(seed).shuffle(&mut rows);
        let mut taken = std::collections::BTreeMap::new();
        rows.retain(|(_, label)| {
            let seen: &mut usize = taken.entry(label.clone()).or_default();
            *seen += 1;
            *seen <= count
        });
        rows.into_iter().cloned().collect()
    }
}
