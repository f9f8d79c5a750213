//! How does somebody's table become a task?
//!
//! Four passes over the file, each holding one row at a time: which columns are what, what is odd about the rows,
//! which row goes into which split, and the writing. The locked rows are set aside here, before anything is fitted.

mod columns;
mod findings;
pub(crate) mod near;
mod split;
mod task_file;

pub use columns::{ColumnGuess, LabelGuess, Role};
pub use findings::{Conflict, Findings, NearDuplicate, SpellingVariants, language};
pub use split::{Shares, SplitSizes};
pub(crate) use task_file::{LIVE, quoted};

use crate::{
    error::{Error, Result, at},
    opened::Texts,
    table::{TableReader, TableWriter, TableWriterOptions},
};
use findings::Collector;
use serde::Serialize;
use sizewise_contract::{ContentHash, Task, did_you_mean, task::LabelSource};
use split::{Assignment, Splitter};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What the user said about the new task; everything else is guessed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The task's name.
    pub name: String,
    /// The labelled rows.
    pub from: PathBuf,
    /// Rows that people checked, kept apart from `from`; without it the gold rows are drawn from `from`.
    pub gold: Option<PathBuf>,
    /// The input columns; guessed when empty.
    pub text: Vec<String>,
    /// The label columns; guessed when empty.
    pub labels: Vec<String>,
    /// The label that marks out-of-scope rows; guessed when none.
    pub out_of_scope: Option<String>,
    /// A column whose values stay on one side of a split.
    pub group: Option<String>,
    /// A column with the time: the locked rows are the latest.
    pub time: Option<String>,
    /// Columns that are kept so that every value of them can be judged for itself.
    pub slices: Vec<String>,
    /// Who labelled the rows of `from`.
    pub label_source: LabelSource,
    /// The largest share of wrong answers that the task will promise.
    pub max_served_error: f64,
    /// How the gold rows are divided.
    pub shares: Shares,
    /// Decides which rows are locked.
    pub seed: u64,
    /// Keeps labels apart that differ only by case.
    pub keep_case: bool,
    /// Texts of rows that were opened before: they are never locked again.
    pub opened: Texts,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Prepared {
    /// The task's file.
    pub task_file: PathBuf,
    /// What every column was taken for.
    pub columns: Vec<ColumnGuess>,
    /// What is odd about the rows.
    pub findings: Findings,
    /// How many rows went where.
    pub splits: SplitSizes,
    /// Hash of the file of locked rows.
    pub locked: ContentHash,
}

/// What `init` writes beside the splits, so that a changed locked file is noticed.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct Seal {
    /// Hash of the file of locked rows as it was set aside.
    pub locked: ContentHash,
    /// The seed that chose the rows.
    pub seed: u64,
    /// How many rows went where.
    pub splits: SplitSizes,
}

/// Name of the seal, beside the splits.
pub const SEAL_FILE: &str = "data/seal.json";

/// Makes a task out of a table: guesses, checks, sets rows aside and writes `task.toml` into `folder`.
///
/// # Errors
/// Fails when the table cannot be read, when no text or label column can be found, or when the folder cannot be written.
/// Nothing is written before the whole table has been read once.
pub fn prepare(options: &Options, folder: &Path) -> Result<Prepared> {
    let plan = columns::plan(options)?;
    let mut collector = Collector::new(&plan, sizewise_models::builtin::encoder()?);
    let mut splitter = Splitter::new(options);
    let mut sources = vec![(&options.from, false)];
    sources.extend(options.gold.iter().map(|gold| (gold, true)));
    for (path, is_gold) in &sources {
        each_row(path, &plan, |row| {
            let facts = collector.see(row, *is_gold)?;
            splitter.see(row, facts, *is_gold);
            Ok(())
        })?;
    }
    let findings = collector.finish(options)?;
    check_out_of_scope(options, &findings)?;
    let assignment = splitter.assign();
    check_sizes(options, &assignment.sizes())?;
    let task_text = task_file::render(options, &plan, &findings);
    let task = Task::parse(&task_text).map_err(|error| Error::Unusable {
        path: options.from.clone(),
        problem: format!("no task can be made of it: {error}"),
        hint: Some("name the columns with --text and --label, or clean the labels".into()),
    })?;
    write_splits(&task, folder, (&sources, &plan, &findings), &assignment)?;
    let splits = assignment.sizes();
    let locked = hash_file(&folder.join(&task.data.locked))?;
    let seal = Seal { locked, seed: options.seed, splits: splits.clone() };
    let seal_text =
        serde_json::to_vec_pretty(&seal).map_err(|_| Error::Internal("a seal has a JSON form"))?;
    write(&folder.join(SEAL_FILE), &seal_text)?;
    let task_file = folder.join("task.toml");
    write(&task_file, task_text.as_bytes())?;
    Ok(Prepared { task_file, columns: plan.guesses, findings, splits, locked })
}

/// A label that the user named must be there.
fn check_out_of_scope(options: &Options, findings: &Findings) -> Result<()> {
    let Some(label) = &options.out_of_scope else { return Ok(()) };
    let known: Vec<&str> =
        findings.classes.iter().flat_map(|(_, counts)| counts.keys()).map(String::as_str).collect();
    if known.contains(&label.as_str()) {
        return Ok(());
    }
    let meant = did_you_mean(label, known.iter().copied());
    Err(Error::Unusable {
        path: options.from.clone(),
        problem: format!("no row has the label `{label}`"),
        hint: Some(meant.map_or_else(
            || "--out-of-scope takes a label of the table".into(),
            |m| format!("did you mean `{m}`?"),
        )),
    })
}

/// There must be rows to learn from, and gold rows where the user said there are.
fn check_sizes(options: &Options, sizes: &SplitSizes) -> Result<()> {
    let unusable = |path: &Path, problem: &str, hint: &str| {
        Err(Error::Unusable { path: path.to_owned(), problem: problem.into(), hint: Some(hint.into()) })
    };
    match &options.gold {
        Some(gold) if sizes.dev + sizes.locked == 0 => {
            unusable(gold, "it holds no row that can be used", "name a table of labelled rows with --gold")
        }
        Some(gold) if sizes.train == 0 => unusable(
            gold,
            "it holds the same texts as the rows to learn from",
            "leave --gold out: the gold rows are then drawn from --from and kept apart",
        ),
        _ if sizes.train == 0 => {
            unusable(&options.from, "it holds no row to learn from", "name a table of labelled rows")
        }
        _ => Ok(()),
    }
}

/// One row as the plan reads it.
struct PlannedRow<'a> {
    number: u64,
    text: String,
    /// One cell per question, trimmed. `[questions]`
    labels: Vec<&'a str>,
    group: Option<&'a str>,
    time: Option<&'a str>,
}

fn each_row(
    path: &Path,
    plan: &columns::Plan,
    mut see: impl FnMut(&PlannedRow<'_>) -> Result<()>,
) -> Result<()> {
    let mut table = TableReader::open(path)?;
    let places = plan.places(&table)?;
    let mut row = Vec::new();
    while let Some(number) = table.next_row(&mut row)? {
        let cell = |place: usize| row.get(place).map_or("", String::as_str);
        let text = places.text.iter().map(|&place| cell(place)).collect::<Vec<_>>().join("\n");
        see(&PlannedRow {
            number,
            text,
            labels: places.labels.iter().map(|&place| cell(place).trim()).collect(),
            group: places.group.map(cell),
            time: places.time.map(cell),
        })?;
    }
    Ok(())
}

/// Writes every row of every source into its split, labels in their usual spelling.
fn write_splits(
    task: &Task,
    folder: &Path,
    (sources, plan, findings): (&[(&PathBuf, bool)], &columns::Plan, &Findings),
    assignment: &Assignment,
) -> Result<()> {
    std::fs::create_dir_all(folder.join("data")).map_err(at(folder))?;
    let columns = plan.written_columns();
    let create =
        |path: &str| TableWriter::create(&folder.join(path), &columns, &TableWriterOptions::default());
    let mut writers = [create(&task.data.train)?, create(&task.data.dev)?, create(&task.data.locked)?];
    let mut position = 0;
    for (path, _) in sources {
        let mut table = TableReader::open(path)?;
        let places = plan.places(&table)?;
        let (mut row, mut written) = (Vec::new(), Vec::new());
        while table.next_row(&mut row)?.is_some() {
            if let Some(writer) =
                assignment.split_of(position).and_then(|split| writers.get_mut(split as usize))
            {
                written.clear();
                written.extend(places.text.iter().map(|&place| row.get(place).cloned().unwrap_or_default()));
                for (question, &place) in places.labels.iter().enumerate() {
                    let label = row.get(place).map_or("", |cell| cell.trim());
                    written.push(findings.usual_spelling(question, label).to_owned());
                }
                let extra = places.group.iter().chain(&places.time).chain(&places.slices);
                written.extend(extra.map(|&place| row.get(place).cloned().unwrap_or_default()));
                writer.write(&written)?;
            }
            position += 1;
        }
    }
    writers.into_iter().try_for_each(TableWriter::finish)
}

/// Hashes a file's bytes.
///
/// # Errors
/// Fails when the file cannot be read.
pub fn hash_file(path: &Path) -> Result<ContentHash> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(at(path))?;
    let mut builder = ContentHash::builder();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(at(path))?;
        if read == 0 {
            return Ok(builder.finish());
        }
        builder.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Writes a small file so that it is never seen half done.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = crate::table::part_path(path);
    std::fs::write(&part, bytes).map_err(at(&part))?;
    std::fs::rename(&part, path).map_err(at(path))
}

/// Finds a column by name, or says which name was probably meant.
fn find_column(table: &TableReader, name: &str) -> Result<usize> {
    table.columns().iter().position(|column| column == name).ok_or_else(|| {
        let known = table.columns();
        let meant = did_you_mean(name, known.iter().map(String::as_str));
        Error::Unusable {
            path: table.path().to_owned(),
            problem: format!("it has no column `{name}`"),
            hint: Some(match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its columns are: {}", known.join(", ")),
            }),
        }
    })
}

/// Hash of a text with case and punctuation aside: what makes two rows the same row.
pub(crate) fn text_key(text: &str) -> u64 {
    findings::text_key(text)
}

/// Counts things by name, in the order of the names.
type Counts = BTreeMap<String, u64>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn options(from: PathBuf) -> Options {
        Options {
            name: "support".into(),
            from,
            gold: None,
            text: vec![],
            labels: vec![],
            out_of_scope: None,
            group: None,
            time: None,
            slices: vec![],
            label_source: LabelSource::Gold,
            max_served_error: 0.05,
            shares: Shares::default(),
            seed: 1,
            keep_case: false,
            opened: Texts::default(),
        }
    }

    /// A made-up desk: 300 rows, two teams and strays, urgency, ids and customers.
    fn desk() -> String {
        let mut table = String::from("id,customer,message,team,urgent\n");
        for i in 0..300 {
            let (team, what) = match i % 10 {
                0 => ("none", "buy our cheap backlinks today"),
                1..=5 => ("billing", "my invoice is wrong, please check number"),
                _ => ("Delivery", "the parcel never came to my house at number"),
            };
            let team = if i == 7 { "delivery " } else { team };
            let urgent = if i % 4 == 0 { "yes" } else { "no" };
            writeln!(table, "T{i},c{},\"{what} {i} {}\",{team},{urgent}", i / 3, "really ".repeat(i % 5))
                .unwrap();
        }
        table
    }

    fn prepared(
        table: &str,
        change: impl FnOnce(&mut Options),
    ) -> Result<(tempfile::TempDir, Prepared, Task)> {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("tickets.csv");
        std::fs::write(&from, table).unwrap();
        let mut options = options(from);
        change(&mut options);
        let prepared = prepare(&options, &folder.path().join("support"))?;
        let task = Task::parse(&std::fs::read_to_string(&prepared.task_file).unwrap()).unwrap();
        Ok((folder, prepared, task))
    }

    fn rows(path: &Path) -> Vec<Vec<String>> {
        let mut table = TableReader::open(path).unwrap();
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        while table.next_row(&mut row).unwrap().is_some() {
            rows.push(row.clone());
        }
        rows
    }

    #[test]
    fn a_plain_table_becomes_a_task_without_a_word_said() {
        let (_folder, prepared, task) = prepared(&desk(), |_| {}).unwrap();
        assert_eq!(task.input.fields, ["message"]);
        assert_eq!(task.questions.len(), 2);
        assert_eq!(task.questions[0].class_values(), ["Delivery", "billing"]);
        assert_eq!(task.questions[0].out_of_scope_label.as_deref(), Some("none"));
        assert_eq!(task.questions[1].kind, sizewise_contract::QuestionKind::Predicate);
        assert_eq!(prepared.splits.train + prepared.splits.dev + prepared.splits.locked, 300);
        assert_eq!(prepared.findings.spellings[0].usual, "Delivery");
    }

    #[test]
    fn the_splits_hold_every_row_once_in_the_usual_spelling() {
        let (folder, prepared, task) = prepared(&desk(), |_| {}).unwrap();
        let base = folder.path().join("support");
        let mut all: Vec<_> = [&task.data.train, &task.data.dev, &task.data.locked]
            .iter()
            .flat_map(|path| rows(&base.join(path)))
            .collect();
        assert_eq!(all.len(), 300);
        assert!(all.iter().all(|row| ["billing", "Delivery", "none"].contains(&row[1].as_str())));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 300);
        assert_eq!(prepared.locked, hash_file(&base.join(&task.data.locked)).unwrap());
    }

    #[test]
    fn a_group_never_stands_on_both_sides() {
        let (folder, _, task) = prepared(&desk(), |o| o.group = Some("customer".into())).unwrap();
        let base = folder.path().join("support");
        let groups = |path: &str| {
            rows(&base.join(path))
                .into_iter()
                .map(|row| row[3].clone())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (train, locked) = (groups(&task.data.train), groups(&task.data.locked));
        assert!(!locked.is_empty() && train.is_disjoint(&locked));
    }

    #[test]
    fn with_a_time_column_the_locked_rows_are_the_latest() {
        let mut table = String::from("at,message,team\n");
        for i in 0..200 {
            writeln!(
                table,
                "2026-01-{:02}T{:02}:00:00Z,\"message number {i} about {}\",{}",
                i / 10 + 1,
                i % 10,
                if i % 2 == 0 { "money" } else { "parcels" },
                if i % 2 == 0 { "billing" } else { "delivery" }
            )
            .unwrap();
        }
        let (folder, _, task) = prepared(&table, |o| o.time = Some("at".into())).unwrap();
        let base = folder.path().join("support");
        let latest_seen =
            rows(&base.join(&task.data.train)).into_iter().map(|row| row[2].clone()).max().unwrap();
        let first_locked =
            rows(&base.join(&task.data.locked)).into_iter().map(|row| row[2].clone()).min().unwrap();
        assert!(latest_seen <= first_locked, "{latest_seen} {first_locked}");
    }

    #[test]
    fn duplicates_conflicts_and_near_duplicates_are_found() {
        let mut table = desk();
        table.push_str("X1,c900,please send me the invoice for march again,billing,no\n");
        table.push_str("X2,c901,Please send me the invoice for March again!,billing,no\n");
        table.push_str("X3,c902,please send me the invoice for march again,Delivery,no\n");
        table.push_str("X4,c903,please send me the invoice for march again ok,Delivery,no\n");
        table.push_str("X5,c904,,Delivery,no\n");
        let (_folder, prepared, _) = prepared(&table, |o| o.labels = vec!["team".into()]).unwrap();
        let findings = &prepared.findings;
        assert_eq!(findings.duplicates, 2);
        assert_eq!(findings.conflicts.len(), 1);
        assert_eq!(findings.empty_inputs, 1);
        assert!(
            findings.near_duplicates.iter().any(|n| n.rows == (301, 304) || n.rows == (302, 304)),
            "{findings:?}"
        );
    }

    #[test]
    fn a_table_without_labels_names_the_way_out() {
        let error = prepared("message\nhello there my friend\nhow are you today\n", |_| {}).unwrap_err();
        assert!(error.to_string().contains("no label column"), "{error}");
        let error = prepared(&desk(), |o| o.labels = vec!["teem".into()]).unwrap_err();
        assert_eq!(sizewise_contract::Diagnose::hint(&error).unwrap(), "did you mean `team`?");
    }

    #[test]
    fn a_separate_gold_file_gives_the_locked_rows() {
        let folder = tempfile::tempdir().unwrap();
        let gold = folder.path().join("gold.csv");
        std::fs::write(&gold, desk().replace("T", "G").replace("number", "no.")).unwrap();
        let (_folder, prepared, _) = prepared(&desk(), |o| o.gold = Some(gold)).unwrap();
        assert_eq!(prepared.splits.dev + prepared.splits.locked, 300);
        // The thirty strays read the same in both files.
        assert_eq!((prepared.splits.train, prepared.splits.left_out), (270, 30));
    }
}
