//! `sizewise batch`: how is a whole table answered, so that a stop loses nothing?
//!
//! Rows are answered in chunks. After each chunk the part file is synced and a small file beside it says how far it goes;
//! a later run cuts the part file back to that place and goes on. The output takes its name when the last row is in it. A
//! row that cannot be read is marked as such and stops nothing.

use super::{
    DONE,
    trained::{store, threads},
};
use crate::{
    cli::Batch,
    clock,
    commands::decide::runtime,
    error::{Error, Result},
    project::Project,
    providers::Providers,
    screen::Screen,
    table::percent,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sizewise_contract::{
    Answer, Code, ContentHash, Decision, Diagnose, Disposition, Task, Tier, answer::RemoteProblem,
};
use sizewise_engine::{Engine, InputValue, Ledgers, Request, Settings};
use sizewise_learn::{
    prepare::hash_file,
    table::{Format, TableReader, TableWriter, TableWriterOptions},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// How long the rows of one step may wait for a larger model.
const BATCH_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
/// Rows that are answered together.
const CHUNK: usize = 256;
/// The same where a larger model is asked: Ctrl-C waits for that many.
const CHUNK_WITH_LARGER: usize = 32;

/// How far an interrupted run got.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Progress {
    schema: u32,
    input: ContentHash,
    release: ContentHash,
    rows: u64,
    bytes: u64,
    answered: Vec<u64>,
    unreadable: u64,
}

#[derive(Serialize)]
struct BatchResult {
    output: PathBuf,
    release: ContentHash,
    rows: u64,
    /// Rows whose text is missing or too long; their disposition says which.
    unreadable: u64,
    /// Rows that an earlier, interrupted run had answered.
    resumed_at: u64,
    questions: Vec<QuestionCount>,
    seconds: f64,
}

#[derive(Serialize)]
struct QuestionCount {
    question: String,
    answered: u64,
    coverage: f64,
}

pub(super) fn run(project: &Project, arguments: &Batch, screen: &Screen) -> Result<u8> {
    let began = Instant::now();
    let output =
        screen.file().ok_or_else(|| Error::usage("say where to: -o out.csv (or .jsonl, .parquet)"))?;
    if output.exists() && !arguments.force {
        return Err(Error::Exists {
            path: output,
            hint: "choose another name, or replace it with --force".into(),
        });
    }
    let same =
        |a: std::io::Result<PathBuf>, b: std::io::Result<PathBuf>| matches!((a, b), (Ok(a), Ok(b)) if a == b);
    if output == arguments.input || same(output.canonicalize(), arguments.input.canonicalize()) {
        return Err(Error::usage("the output would replace the input"));
    }
    if output.is_dir() {
        return Err(Error::usage(format!("{} is a folder; name a file in it", output.display())));
    }
    let name = project.task(&arguments.task)?.name;
    let store = Arc::new(store(project)?);
    let engine = Engine::start(
        Arc::clone(&store),
        Settings {
            allow_uncertified: arguments.allow_uncertified,
            encoder_workers: threads(),
            record: false,
        },
    )?;
    if let Some((_, error)) = engine.load(std::slice::from_ref(&name)).pop() {
        return Err(error.into());
    }
    let info = engine.task(&name)?;
    // Rows can wait longer for a larger model than callers do.
    let ledgers = Ledgers::start(Arc::clone(&store));
    engine.escalate_to(Providers::new(project).only(project, &name, (&ledgers, BATCH_PATIENCE))?);
    if !arguments.allow_uncertified && !info.certificates.iter().any(|c| c.may_answer()) {
        return Err(Error::Policy {
            message: format!(
                "no question of task `{name}` has a certificate, so every row would be escalated"
            ),
            code: Code::NotCertified,
            hint: format!("run `sizewise certify {name}` first, or add --allow-uncertified"),
        });
    }
    let total = count_rows(&arguments.input)?;
    let mut job = Job::open((&engine, &info.task), info.release, (&arguments.input, &output))?;
    let resumed_at = job.progress.rows;
    if resumed_at > 0 {
        screen.remark(&format!("going on after row {resumed_at}"));
    }
    let (bar, stop) = (screen.progress(), screen.stop());
    while job.step()? {
        bar.at("rows", job.progress.rows as usize, total as usize);
        if stop.load(Ordering::Relaxed) {
            job.save()?;
            return Err(Error::Interrupted);
        }
    }
    bar.end();
    let (progress, task) = job.finish()?;
    let questions = task.questions.iter().zip(&progress.answered).map(|(question, answered)| QuestionCount {
        question: question.name.clone(),
        answered: *answered,
        coverage: *answered as f64 / progress.rows.max(1) as f64,
    });
    let result = BatchResult {
        questions: questions.collect(),
        output,
        release: progress.release,
        rows: progress.rows,
        unreadable: progress.unreadable,
        resumed_at,
        seconds: began.elapsed().as_secs_f64(),
    };
    screen.result("batch", &result, || text(&result));
    Ok(DONE)
}

fn text(result: &BatchResult) -> String {
    let fresh = (result.rows - result.resumed_at) as f64;
    let mut out = format!(
        "{} rows in {} ({:.0} a second). {}\n",
        result.rows,
        clock::duration(result.seconds),
        fresh / result.seconds.max(1e-9),
        result.output.display()
    );
    match result.unreadable {
        0 => {}
        1 => out += "  one row has no text or too long a one; it is marked so\n",
        rows => out += &format!("  {rows} rows have no text or too long a one; they are marked so\n"),
    }
    for question in &result.questions {
        out += &format!(
            "  {}: {} answered, the rest escalated\n",
            question.question,
            percent(question.coverage)
        );
    }
    out
}

fn count_rows(path: &Path) -> Result<u64> {
    let mut table = TableReader::open(path)?;
    let (mut row, mut rows) = (Vec::new(), 0);
    while table.next_row(&mut row)?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

/// A table that is being answered.
struct Job<'a> {
    engine: &'a Engine,
    task: Arc<Task>,
    runtime: tokio::runtime::Runtime,
    table: TableReader,
    /// Places of the task's input fields.
    fields: Vec<usize>,
    writer: TableWriter,
    progress: Progress,
    note: PathBuf,
}

impl<'a> Job<'a> {
    fn open(
        (engine, task): (&'a Engine, &Arc<Task>),
        release: ContentHash,
        (input, output): (&Path, &Path),
    ) -> Result<Self> {
        let mut table = TableReader::open(input)?;
        let fields =
            task.input.fields.iter().map(|field| place(&table, field)).collect::<Result<Vec<_>>>()?;
        let fresh = Progress {
            schema: 1,
            input: hash_file(input)?,
            release,
            rows: 0,
            bytes: 0,
            answered: vec![0; task.questions.len()],
            unreadable: 0,
        };
        let mut note = output.as_os_str().to_owned();
        note.push(".progress");
        let note = PathBuf::from(note);
        let mut part = output.as_os_str().to_owned();
        part.push(".part");
        let progress = match resumable(&note, &fresh, output)? {
            Some(earlier) if std::fs::metadata(&part).is_ok_and(|facts| facts.len() >= earlier.bytes) => {
                earlier
            }
            _ => fresh,
        };
        let mut skipped = Vec::new();
        for _ in 0..progress.rows {
            table.next_row(&mut skipped)?;
        }
        let keep_bytes = (progress.rows > 0).then_some(progress.bytes);
        let columns = columns(&table, task);
        let writer = TableWriter::create(output, &columns, &TableWriterOptions { keep_bytes })?;
        Ok(Self {
            engine,
            task: Arc::clone(task),
            runtime: runtime()?,
            table,
            fields,
            writer,
            progress,
            note,
        })
    }

    /// Answers the next chunk; false at the end of the table.
    fn step(&mut self) -> Result<bool> {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        let chunk = if self.engine.providers().is_empty() { CHUNK } else { CHUNK_WITH_LARGER };
        while rows.len() < chunk {
            let mut row = Vec::new();
            if self.table.next_row(&mut row)?.is_none() {
                break;
            }
            values.push(self.values(&row));
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let decided = self.decide(&rows)?;
        if let Some(problem) = stuck(decided.iter().filter_map(|row| row.as_ref().ok())) {
            return Err(Error::Policy {
                message: format!("the larger model does not answer ({}); {} rows are done", problem.name().replace('_', " "), self.progress.rows),
                code: if problem == RemoteProblem::BudgetSpent { Code::BudgetSpent } else { Code::SourceUnavailable },
                hint: "run the same command again when it does: it goes on there; or take `remote` out of the task file".into(),
            });
        }
        for (mut row, decided) in values.into_iter().zip(decided) {
            match decided {
                Ok(decision) => {
                    for (count, answer) in self.progress.answered.iter_mut().zip(&decision.answers) {
                        *count += u64::from(answer.answered());
                    }
                    row.extend(decision.answers.iter().flat_map(cells));
                }
                Err(code) => {
                    self.progress.unreadable += 1;
                    let none = || [Value::Null, Value::Null, Value::Null, code.name().into()];
                    row.extend(self.task.questions.iter().flat_map(|_| none()));
                }
            }
            self.writer.write_values(&row)?;
            self.progress.rows += 1;
        }
        self.save()?;
        Ok(true)
    }

    /// The columns of the row that was read last, with the types that its file gave them.
    fn values(&self, row: &[String]) -> Vec<Value> {
        let object = self.table.last_object();
        let value = |(column, cell): (&String, &String)| match object {
            Some(object) => object.get(column).cloned().unwrap_or(Value::Null),
            None => cell.as_str().into(),
        };
        self.table.columns().iter().zip(row).map(value).collect()
    }

    /// Decides rows together; where one of them cannot be read, one by one, so that it spoils no other.
    fn decide(&self, rows: &[Vec<String>]) -> Result<Vec<std::result::Result<Decision, Code>>> {
        match self.ask(rows) {
            Ok(decisions) => Ok(decisions.into_iter().map(Ok).collect()),
            Err(error) if is_about_an_input(&error) => {
                let alone = |row: &Vec<String>| match self.ask(std::slice::from_ref(row)) {
                    Ok(mut decisions) => decisions
                        .pop()
                        .map(Ok)
                        .ok_or_else(|| sizewise_engine::Error::Internal("one input has one decision").into()),
                    Err(error) if is_about_an_input(&error) => Ok(Err(error.code())),
                    Err(error) => Err(error.into()),
                };
                rows.iter().map(alone).collect()
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ask(&self, rows: &[Vec<String>]) -> std::result::Result<Vec<Decision>, sizewise_engine::Error> {
        let text = |row: &Vec<String>| {
            let cells: Vec<&str> =
                self.fields.iter().map(|place| row.get(*place).map_or("", String::as_str)).collect();
            InputValue::Text(cells.join("\n"))
        };
        let request = Request {
            task: self.task.name.clone(),
            inputs: rows.iter().map(text).collect(),
            dry_run: true,
            ..Request::default()
        };
        self.runtime.block_on(self.engine.decide(request))
    }

    fn save(&mut self) -> Result<()> {
        self.progress.bytes = self.writer.sync()?;
        if self.progress.bytes == 0 {
            // A format that cannot be continued.
            return Ok(());
        }
        let failed = |cause| Error::file(&self.note, cause);
        let text = serde_json::to_vec(&self.progress).map_err(|error| failed(error.into()))?;
        let mut aside = self.note.as_os_str().to_owned();
        aside.push(".part");
        std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &self.note)).map_err(failed)
    }

    fn finish(self) -> Result<(Progress, Arc<Task>)> {
        self.writer.finish()?;
        match std::fs::remove_file(&self.note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file(&self.note, error));
            }
            _ => {}
        }
        Ok((self.progress, self.task))
    }
}

fn is_about_an_input(error: &sizewise_engine::Error) -> bool {
    matches!(error.code(), Code::InputInvalid | Code::InputTooLong)
}

/// What an earlier run left, if it was about the same input and release.
fn resumable(note: &Path, fresh: &Progress, output: &Path) -> Result<Option<Progress>> {
    if Format::of(output)? == Format::Parquet {
        return Ok(None);
    }
    let Ok(text) = std::fs::read(note) else { return Ok(None) };
    let earlier: Option<Progress> = serde_json::from_slice(&text).ok();
    Ok(earlier.filter(|earlier| {
        earlier.schema == fresh.schema
            && earlier.input == fresh.input
            && earlier.release == fresh.release
            && earlier.answered.len() == fresh.answered.len()
    }))
}

fn place(table: &TableReader, field: &str) -> Result<usize> {
    table.columns().iter().position(|column| column == field).ok_or_else(|| {
        let columns = table.columns();
        let meant = sizewise_contract::did_you_mean(field, columns.iter().map(String::as_str));
        Error::Learn(sizewise_learn::Error::Unusable {
            path: table.path().to_owned(),
            problem: format!("it has no column `{field}`, which the task reads"),
            hint: Some(meant.map_or_else(
                || format!("its columns are: {}", columns.join(", ")),
                |meant| format!("did you mean `{meant}`? Rename it, or change `fields` in the task file"),
            )),
        })
    })
}

/// The input's columns and four for every question; a name that is taken gets a mark.
fn columns(table: &TableReader, task: &Task) -> Vec<String> {
    let mut columns = table.columns().to_vec();
    for question in &task.questions {
        for suffix in ["answer", "confidence", "tier", "disposition"] {
            let mut name = format!("{}_{suffix}", question.name);
            while columns.contains(&name) {
                name.push('_');
            }
            columns.push(name);
        }
    }
    columns
}

/// Why it makes no sense to go on: the budget is spent, or nobody answered any of the questions that were handed on.
fn stuck<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Option<RemoteProblem> {
    let problems: Vec<Option<RemoteProblem>> = decisions
        .flat_map(|decision| &decision.answers)
        .filter_map(|answer| answer.remote.as_ref())
        .map(|remote| remote.problem)
        .collect();
    let all = |problem| !problems.is_empty() && problems.iter().all(|found| *found == Some(problem));
    let spent = problems.contains(&Some(RemoteProblem::BudgetSpent));
    if spent {
        return Some(RemoteProblem::BudgetSpent);
    }
    all(RemoteProblem::Unavailable).then_some(RemoteProblem::Unavailable)
}

/// The cells of one answer; the first is empty where the question was escalated.
fn cells(answer: &Answer) -> [Value; 4] {
    let given = || Value::from(answer.value.as_str());
    let (value, disposition) = match answer.disposition {
        Disposition::Answered if answer.certified => (given(), "answered".to_owned()),
        Disposition::Answered if answer.tier == Tier::Remote => (given(), "answered_remotely".to_owned()),
        Disposition::Answered => (given(), "answered_uncertified".to_owned()),
        Disposition::Escalated { reason, .. } => {
            // Why a larger model did not answer tells whether to ask again.
            let problem = answer.remote.as_ref().and_then(|remote| remote.problem);
            let problem = problem.map_or_else(String::new, |problem| format!("/{}", problem.name()));
            (Value::Null, format!("{}{problem}", reason.name()))
        }
    };
    // Six digits, as a number: more would only differ in noise.
    let confidence = answer.confidence.map(|confidence| (confidence * 1e6).round() / 1e6);
    [value, confidence.into(), answer.tier.to_string().into(), disposition.into()]
}
