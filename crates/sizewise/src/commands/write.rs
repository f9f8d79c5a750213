//! `sizewise write`: what would people send who get a label that has few rows?

mod told;

use super::{
    DONE,
    teach::{
        check::{GoldCheck, check},
        leave::{self, Sent},
        name,
        settings::{self, Resolved},
    },
    trained::{store, threads},
};
use crate::{
    cli::{Manners, TeacherCall, Write},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use sizewise_contract::{StoredInput, Task, units::MicroUsd};
use sizewise_learn::{
    dataset::TrainingRows,
    teach::{
        answers::{Answers, SPENT_FILE, TeacherAnswer},
        ask::{Ended, FIRST_WAIT, Teacher},
        purse::Purse,
        settle::{LeftOut, OfLabel, Plan, Settler, Wanting, longest, wanting},
        sieve::{CopyOf, Sieve},
        write::{DRAFTS_FILE, Draft, LABELS_FILE, read_drafts},
        written::{Manner, WRITTEN_FILE, keep_written},
    },
};
use sizewise_models::{builtin, encoder::Encoder};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Fewest calls between two looks at what came: what is written last may find no money left to be looked at.
const TOGETHER: usize = 8;

#[derive(Debug, Serialize)]
struct WriteResult {
    task: String,
    model: String,
    server: String,
    /// Rows that every label is to have.
    per_label: usize,
    /// Labels that have fewer.
    labels: Vec<OfLabel>,
    /// Labels with too few rows to show any, or to learn them at all.
    too_few: Vec<String>,
    written: usize,
    kept: usize,
    left_out: LeftOut,
    /// Written, and the teacher was not asked about them yet.
    open: usize,
    #[serde(flatten)]
    check: GoldCheck,
    ended: &'static str,
    spent: MicroUsd,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<MicroUsd>,
    /// Calls that would be made next, and the most that all of them can cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    planned: Option<Planned>,
}

impl WriteResult {
    /// Nothing is done yet.
    fn begun(asking: &Teacher<'_>, (teacher, per_label): (&Resolved, usize), too_few: Vec<String>) -> Self {
        Self {
            task: asking.task.name.clone(),
            model: teacher.model.clone(),
            server: teacher.chat.host().to_owned(),
            per_label,
            labels: Vec::new(),
            too_few,
            written: 0,
            kept: 0,
            left_out: LeftOut::default(),
            open: 0,
            check: GoldCheck::default(),
            ended: "dry_run",
            spent: asking.purse.spent(),
            budget: (!teacher.prices.is_free()).then_some(teacher.budget),
            planned: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Planned {
    calls: usize,
    texts: usize,
    at_most: MicroUsd,
}

/// One call of the command.
struct Work<'a> {
    asking: Teacher<'a>,
    folder: PathBuf,
    screen: &'a Screen,
    sent: Sent,
    wanting: Vec<Wanting>,
    /// Most bytes of a text.
    longest: usize,
    plan: Plan<'a>,
}

pub(super) fn run(project: &Project, arguments: &Write, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let folder = project.task_folder(&task.name);
    let call = &arguments.teacher;
    let teacher = settings::resolve(project, call, true)?;
    let sent = leave::permitted(&task, &teacher.chat)?;
    if !call.dry_run {
        leave::terms(project, &teacher.chat, call.accept_terms, screen)?;
    }
    let folders: Vec<_> = project.task_names()?.iter().map(|name| project.task_folder(name)).collect();
    let mut sieve = Sieve::of_all(&task, &folder, &folders)?;
    answered(project, &task)?.iter().for_each(|text| sieve.add(CopyOf::Answered, text));
    let goal = usize::from(arguments.per_label);
    let rows = TrainingRows::read_without_written(&task, &folder)?;
    let (wanting, too_few) = wanting(&task, &rows, &sieve, goal);
    let encoder = builtin::encoder()?.with_threads(threads());
    let purse = Purse::open(&folder.join(SPENT_FILE), teacher.budget)?;
    let (date, stop) = (clock::date(u64::try_from(clock::now().0 / 1_000).unwrap_or(0)), screen.stop());
    let asking = Teacher {
        task: &task,
        chat: &teacher.chat,
        model: &teacher.model,
        purse: &purse,
        prices: teacher.prices,
        most_tokens: teacher.max_tokens,
        date: &date,
        parallel: teacher.parallel,
        first_wait: FIRST_WAIT,
        stop: &stop,
    };
    let manners: &[Manner] = match arguments.how {
        Manners::New => &[Manner::New],
        Manners::Paraphrase => &[Manner::Paraphrase],
        Manners::Both => &[Manner::New, Manner::Paraphrase],
    };
    let mut result = WriteResult::begun(&asking, (&teacher, goal), too_few);
    let plan = Plan { goal, manners, seed: arguments.seed };
    let work = Work { asking, folder, screen, sent, wanting, longest: longest(&rows), plan };
    work.run((&task, &encoder), (sieve, &folders), call, &mut result)?;
    result.spent = purse.spent();
    screen.result("write", &result, || told::all(&result, screen));
    match result.ended {
        "stopped" => Err(Error::Interrupted),
        _ => Ok(DONE),
    }
}

/// What people answered in the queue: gold that may prove before long.
fn answered(project: &Project, task: &Task) -> Result<Vec<String>> {
    let text = |input| match input {
        StoredInput::Redacted(text) | StoredInput::Full(text) => Some(text),
        _ => None,
    };
    Ok(store(project)?.gold(&task.name)?.into_iter().filter_map(|gold| text(gold.item.input)).collect())
}

/// What the teacher said of texts, by text.
type Known = HashMap<String, TeacherAnswer>;

impl Work<'_> {
    /// Checks the teacher, has texts written, and puts what is kept into its file.
    fn run(
        &self,
        (task, encoder): (&Task, &Encoder),
        (sieve, folders): (Sieve, &[PathBuf]),
        arguments: &TeacherCall,
        result: &mut WriteResult,
    ) -> Result<()> {
        let (mut settler, answers, known) = self.begin((task, encoder), sieve)?;
        if arguments.dry_run {
            result.planned = Some(self.planned(&settler, &known));
            self.tell(result, &settler, &known);
            return Ok(());
        }
        let (known, mut outcome) = (Mutex::new(known), Ok(()));
        result.ended = "enough";
        if !self.wanting.is_empty() {
            let on_gold = (arguments.gold_check, self.sent);
            let (found, ended) = check(&self.asking, (&self.folder, folders), on_gold, self.screen)?;
            (result.check, result.ended) = (found, name(ended));
            if ended == Ended::Done {
                outcome = self.rounds(&mut settler, (&answers, &known)).map(|why| result.ended = why);
            }
        }
        let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Whatever ended the work: what was paid for is there.
        if settler.written() > 0 {
            keep_written(&self.folder.join(WRITTEN_FILE), &settler.settled(&known).0)?;
        }
        if let Some((problem, count)) = settler.problem() {
            self.screen
                .remark(&format!("{count} answers of the teacher could not be used; the last: {problem}"));
        }
        self.tell(result, &settler, &known);
        outcome
    }

    /// What earlier calls left.
    fn begin<'b>(
        &self,
        (task, encoder): (&'b Task, &'b Encoder),
        sieve: Sieve,
    ) -> Result<(Settler<'b>, Answers, Known)> {
        let drafts = read_drafts(&self.folder.join(DRAFTS_FILE))?;
        let settler = Settler::new((task, Some(encoder)), sieve, self.longest, drafts);
        let (answers, known) = Answers::open(&self.folder.join(LABELS_FILE))?;
        Ok((settler, answers, known.into_iter().map(|answer| (answer.text.clone(), answer)).collect()))
    }

    /// Has texts written and looks at them, label by label, until none lacks any; says why it ended.
    fn rounds(
        &self,
        settler: &mut Settler<'_>,
        (answers, known): (&Answers, &Mutex<Known>),
    ) -> Result<&'static str> {
        let drafts = Answers::lines(&self.folder.join(DRAFTS_FILE))?;
        let progress = self.screen.progress();
        let mut ended = Ended::Done;
        loop {
            let looked =
                self.look(settler, (answers, known), &|done, of| progress.at("check texts", done, of))?;
            if ended != Ended::Done || looked != Ended::Done {
                return Ok(name(if looked == Ended::Done { ended } else { looked }));
            }
            let mut calls = {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                settler.plan(&self.wanting, &known, self.plan)
            };
            if calls.is_empty() {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let lacks = |label: &OfLabel| label.rows + label.kept < self.plan.goal;
                let any = settler.labels(&self.wanting, &known).iter().any(lacks);
                return Ok(if any { "repeats" } else { "enough" });
            }
            calls.truncate((2 * self.asking.parallel).max(TOGETHER));
            let came = Mutex::new(Vec::new());
            let keep = |draft: Draft| -> sizewise_learn::Result<()> {
                drafts.keep(&draft)?;
                let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
                came.push(draft);
                progress.at("write texts", came.len(), calls.len());
                Ok(())
            };
            let outcome = self.asking.write(&calls, &self.sent, &keep);
            let mut came = came.into_inner().unwrap_or_else(PoisonError::into_inner);
            came.sort_by_key(|draft| draft.order);
            came.into_iter().for_each(|draft| settler.take(draft));
            ended = outcome?;
            if ended == Ended::Stopped {
                return Ok(name(ended));
            }
        }
    }

    /// Asks what the teacher would say of the texts, as of any others.
    fn look(
        &self,
        settler: &Settler<'_>,
        (answers, known): (&Answers, &Mutex<Known>),
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Ended> {
        let open: Vec<String> = {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            settler.open(&known).into_iter().map(str::to_owned).collect()
        };
        let open: Vec<&str> = open.iter().map(String::as_str).collect();
        let before = known.lock().unwrap_or_else(PoisonError::into_inner).len();
        let keep = |answer: TeacherAnswer| -> sizewise_learn::Result<()> {
            answers.keep(&answer)?;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(answer.text.clone(), answer);
            progress(known.len() - before, open.len());
            Ok(())
        };
        Ok(self.asking.ask(&open, &self.sent, &keep)?)
    }

    fn planned(&self, settler: &Settler<'_>, known: &Known) -> Planned {
        let calls = settler.plan(&self.wanting, known, self.plan);
        let texts: usize = calls.iter().map(|call| call.wanted).sum();
        // Each text is asked about once; the longest that may come has so many bytes.
        let look = self.asking.most_cost(&"x".repeat(self.longest)).0.saturating_mul(texts as u64);
        let write = calls.iter().map(|call| self.asking.most_cost_of_writing(call, &self.sent).0);
        Planned { calls: calls.len(), texts, at_most: MicroUsd(write.fold(look, u64::saturating_add)) }
    }

    fn tell(&self, result: &mut WriteResult, settler: &Settler<'_>, known: &Known) {
        let (rows, left_out) = settler.settled(known);
        result.labels = settler.labels(&self.wanting, known);
        (result.kept, result.left_out) = (rows.len(), left_out);
        result.open = settler.open(known).len();
        result.written = settler.written();
    }
}
