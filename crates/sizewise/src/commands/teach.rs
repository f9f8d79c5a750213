//! `sizewise teach`: which labels are worth buying from a language model, and what do they buy?

pub(super) mod check;
pub(super) mod leave;
pub(super) mod settings;
pub(super) mod told;

pub use settings::TeacherSettings;

use super::{DONE, trained::threads};
use crate::{
    cli::Teach,
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::percent,
};
use serde::Serialize;
use sizewise_contract::{ContentHash, Example, Gold, Task, task::LabelSource, units::MicroUsd};
use sizewise_learn::{
    dataset::{Dataset, read_gold},
    teach::{
        answers::{ANSWERS_FILE, Answers, SPENT_FILE, TeacherAnswer, read_answers},
        ask::{Ended, FIRST_WAIT, Teacher},
        curve::{Point, expected_gain},
        lesson::{Lesson, MOST_TEXTS, Watch},
        pool::Pool,
        purse::Purse,
    },
};
use sizewise_models::builtin;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// From so many answers of earlier calls on their course is looked at again.
const FEWEST_RELIVED: usize = 40;

/// What one round came to.
#[derive(Debug, Serialize)]
struct Round {
    #[serde(flatten)]
    point: Point,
    accuracy: f64,
    expected_gain: Option<f64>,
    spent: MicroUsd,
}

#[derive(Debug, Serialize)]
struct TeachResult {
    task: String,
    model: String,
    server: String,
    pool: Pool,
    to_choose_from: usize,
    /// Texts of the pool that were asked about, now or earlier, and those of them without an answer that fits.
    asked: usize,
    unanswered: usize,
    labels: usize,
    #[serde(flatten)]
    check: check::GoldCheck,
    rounds: Vec<Round>,
    ended: &'static str,
    spent: MicroUsd,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<MicroUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_for_one_text: Option<MicroUsd>,
}

/// One call of the command.
struct Work<'a> {
    task: &'a Task,
    folder: PathBuf,
    arguments: &'a Teach,
    screen: &'a Screen,
    sent: leave::Sent,
}

pub(super) fn run(project: &Project, arguments: &Teach, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let folder = project.task_folder(&task.name);
    let teacher = settings::resolve(project, &arguments.teacher, arguments.labels.is_some())?;
    let sent = leave::permitted(&task, &teacher.chat)?;
    if !arguments.teacher.dry_run {
        leave::terms(project, &teacher.chat, arguments.teacher.accept_terms, screen)?;
    }
    let folders: Vec<_> = project.task_names()?.iter().map(|name| project.task_folder(name)).collect();
    let encoder = builtin::encoder()?.with_threads(threads());
    let mut pool = Pool::read(&task, (&folder, &folders), &arguments.from, &encoder)?;
    let sampled = pool.texts.len().min(MOST_TEXTS);
    let all = std::mem::take(&mut pool.texts);
    pool.texts = (0..sampled).filter_map(|at| all.get(at * all.len() / sampled.max(1)).cloned()).collect();
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
    let mut result = TeachResult {
        task: task.name.clone(),
        model: teacher.model.clone(),
        server: teacher.chat.host().to_owned(),
        asked: 0,
        unanswered: 0,
        labels: 0,
        check: check::GoldCheck::default(),
        rounds: Vec::new(),
        ended: "dry_run",
        spent: purse.spent(),
        budget: (!teacher.prices.is_free()).then_some(teacher.budget),
        most_for_one_text: None,
        to_choose_from: pool.texts.len(),
        pool,
    };
    let work = Work { task: &task, folder, arguments, screen, sent };
    if arguments.teacher.dry_run {
        result.most_for_one_text = result.pool.texts.iter().map(|text| asking.most_cost(&sent(text))).max();
        result.asked = read_answers(&work.folder.join(ANSWERS_FILE))?.len();
    } else {
        let rows = arguments.teacher.gold_check;
        let ended;
        (result.check, ended) = check::check(&asking, (&work.folder, &folders), (rows, sent), screen)?;
        result.ended = name(ended);
        if ended == Ended::Done {
            work.rounds(&asking, &encoder, &mut result)?;
        }
    }
    result.spent = purse.spent();
    screen.result("teach", &result, || told::all(&result, screen));
    match result.ended {
        "stopped" => Err(Error::Interrupted),
        _ => Ok(DONE),
    }
}

impl Work<'_> {
    /// Chooses, asks and learns until another round is not worth it.
    fn rounds(
        &self,
        asking: &Teacher<'_>,
        encoder: &sizewise_models::encoder::Encoder,
        result: &mut TeachResult,
    ) -> Result<()> {
        let gold = match self.task.data.train_labels {
            LabelSource::Gold => read_gold(self.task, &self.folder.join(&self.task.data.train))?,
            // Labels that nobody knows the source of teach a quick model nothing that can be relied on.
            LabelSource::Teacher => Dataset { examples: Vec::new(), hash: ContentHash::of(b"") },
        };
        let dev: Vec<Example<Gold>> = read_gold(self.task, &self.folder.join(&self.task.data.dev))?.examples;
        let pool = result.pool.texts.clone();
        let texts: Vec<&str> = pool.iter().map(String::as_str).collect();
        let progress = self.screen.progress();
        let watch = Watch { progress: &|step, done, of| progress.at(step, done, of), stop: asking.stop };
        let mut lesson = Lesson::new(self.task, encoder, (&gold.examples, &texts, &dev), watch)?;
        let places: HashMap<&str, usize> =
            texts.iter().enumerate().map(|(place, text)| (*text, place)).collect();
        let (answers, known) = Answers::open(&self.folder.join(ANSWERS_FILE))?;
        let learn = |lesson: &mut Lesson, answers: &[TeacherAnswer]| {
            for answer in answers {
                if let Some(place) = places.get(answer.text.as_str()) {
                    lesson.learn(self.task, *place, &answer.class_labels(self.task));
                }
            }
        };
        let mut points: Vec<Point> = Vec::new();
        // What earlier calls bought shows how the curve went.
        for part in [known.len() / 4, known.len() / 2] {
            if part >= FEWEST_RELIVED {
                learn(&mut lesson, known.get(..part).unwrap_or_default());
                points.push(lesson.fit(asking.stop)?);
            }
        }
        learn(&mut lesson, &known);
        let mut ended = Ended::Done;
        result.ended = "pool_used_up";
        loop {
            let point = lesson.fit(asking.stop)?;
            if point.labels + lesson.gold() > 0 {
                points.push(point);
            }
            let room = self.arguments.labels.map_or(usize::MAX, |most| most.saturating_sub(lesson.asked()));
            let count = lesson.round().min(room);
            let gain = expected_gain(&points, lesson.gold(), point.labels + count);
            self.heard(result, (point, gain, asking.purse.spent()));
            if ended != Ended::Done {
                result.ended = name(ended);
                break;
            }
            if count == 0 {
                result.ended = "labels";
                break;
            }
            if gain.is_some_and(|gain| gain < self.arguments.least_gain) {
                result.ended = "gain";
                break;
            }
            let chosen = lesson.choose(count, self.arguments.seed);
            if chosen.is_empty() {
                break;
            }
            let chosen: Vec<&str> = chosen.iter().filter_map(|place| texts.get(*place)).copied().collect();
            let (came, total) = (Mutex::new(Vec::new()), chosen.len());
            let keep = |answer: TeacherAnswer| -> sizewise_learn::Result<()> {
                answers.keep(&answer)?;
                let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
                came.push(answer);
                progress.at("ask", came.len(), total);
                Ok(())
            };
            let outcome = asking.ask(&chosen, &|text| (self.sent)(text), &keep);
            learn(&mut lesson, &came.into_inner().unwrap_or_else(PoisonError::into_inner));
            ended = outcome?;
            if ended == Ended::Stopped {
                result.ended = name(ended);
                break;
            }
        }
        progress.end();
        (result.asked, result.labels) = (lesson.asked(), lesson.labelled());
        result.unanswered = result.asked - result.labels;
        Ok(())
    }

    fn heard(&self, result: &mut TeachResult, (point, gain, spent): (Point, Option<f64>, MicroUsd)) {
        if !self.screen.is_json() {
            let gain = gain.map_or(String::new(), |gain| {
                format!(", another round is expected to add {}", percent(gain))
            });
            let reached =
                if point.of == 0 { "no development rows".into() } else { percent(point.accuracy()) };
            self.screen.remark(&format!("{} labels: {reached}{gain} ({spent})", point.labels));
        }
        result.rounds.push(Round { point, accuracy: point.accuracy(), expected_gain: gain, spent });
    }
}

pub(super) fn name(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Budget => "budget",
        Ended::Stopped => "stopped",
    }
}
