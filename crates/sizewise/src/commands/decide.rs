//! `sizewise decide`: what does a task answer to one input, and how did it get there?

use super::{
    DONE, privacy,
    trained::{store, threads},
};
use crate::{
    cli::Decide,
    clock,
    error::{Error, Result},
    project::Project,
    providers::{PATIENCE, Providers},
    screen::Screen,
    table::{Align, Table, percent, shortened},
};
use serde::Serialize;
use sizewise_contract::{Answer, Decision, Disposition, Example, Label, Task, Tier, limits};
use sizewise_engine::{Engine, InputValue, Ledgers, Request, Settings};
use sizewise_learn::dataset::TrainingRows;
use std::{fmt::Write, io::Read, sync::Arc};

#[derive(Serialize)]
struct DecideResult {
    decision: Decision,
    nearest: Vec<Near>,
}

/// A training row like the input.
#[derive(Serialize)]
pub(crate) struct Near {
    row: u64,
    cosine: f32,
    text: String,
    labels: Vec<Option<String>>,
}

pub(super) fn run(project: &Project, arguments: &Decide, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let text = read_input(&arguments.input)?;
    let store = Arc::new(store(project)?);
    let settings = Settings {
        allow_uncertified: arguments.allow_uncertified,
        encoder_workers: threads(),
        record: arguments.record,
    };
    let engine = Engine::start(Arc::clone(&store), settings)?;
    if let Some((_, error)) = engine.load(std::slice::from_ref(&task.name)).pop() {
        return Err(error.into());
    }
    let ledgers = Ledgers::start(Arc::clone(&store));
    engine.escalate_to(Providers::new(project).only(project, &task.name, (&ledgers, PATIENCE))?);
    engine.keep(privacy::keeping(project, std::slice::from_ref(&task.name)));
    let request = Request {
        task: task.name.clone(),
        inputs: vec![InputValue::Text(text.clone())],
        dry_run: !arguments.record,
        ..Request::default()
    };
    let runtime = runtime()?;
    let decisions = runtime.block_on(engine.decide(request))?;
    let Some(decision) = decisions.into_iter().next() else {
        return Err(sizewise_engine::Error::Internal("one input has one decision").into());
    };
    let near = runtime.block_on(engine.nearest(&task.name, &text, arguments.nearest))?;
    let contract = engine.task(&task.name)?.task;
    let nearest = match near.is_empty() {
        true => Vec::new(),
        // The answer does not hang on them: they may be gone, or belong to another contract than the release's.
        false => training_rows(project, &contract, &near).unwrap_or_else(|error| {
            screen.remark(&format!("the nearest training rows cannot be shown: {error}"));
            Vec::new()
        }),
    };
    let result = DecideResult { decision, nearest };
    screen.result("decide", &result, || told(&contract, &result, screen));
    Ok(DONE)
}

/// A small runtime for commands that ask the engine.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::Serve(crate::serve::ServeError::Threads(cause)))
}

fn read_input(input: &str) -> Result<String> {
    if input != "-" {
        return Ok(input.to_owned());
    }
    let mut bytes = Vec::new();
    let most = limits::INPUT_BYTES as u64 + 1;
    std::io::stdin()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|cause| Error::file(std::path::Path::new("standard input"), cause))?;
    String::from_utf8(bytes)
        .map_err(|error| Error::usage(format!("standard input is not text in UTF-8: {error}")))
}

/// The texts and labels of training rows by their position.
pub(crate) fn training_rows(
    project: &Project,
    task: &Task,
    near: &[sizewise_models::neighbours::Neighbour],
) -> Result<Vec<Near>> {
    fn of<L: Label>(
        task: &Task,
        rows: &[Example<L>],
        near: &[sizewise_models::neighbours::Neighbour],
    ) -> Vec<Near> {
        let found = |near: &sizewise_models::neighbours::Neighbour| {
            let example = rows.get(near.row as usize)?;
            let label = |(position, question): (usize, &sizewise_contract::Question)| {
                let label = example.class_label(position)?;
                let values = question.class_values();
                Some(
                    label
                        .class()
                        .map_or("(out of scope)", |class| values.get(class).copied().unwrap_or_default())
                        .to_owned(),
                )
            };
            Some(Near {
                row: example.row,
                cosine: near.cosine,
                text: example.text.clone(),
                labels: task.questions.iter().enumerate().map(label).collect(),
            })
        };
        near.iter().filter_map(found).collect()
    }
    Ok(match TrainingRows::read(task, &project.task_folder(&task.name))? {
        TrainingRows::Gold(rows) => of(task, &rows.examples, near),
        TrainingRows::Teacher(rows) => of(task, &rows.examples, near),
        TrainingRows::Mixed(rows) => of(task, &rows.examples, near),
    })
}

fn told(task: &Task, result: &DecideResult, screen: &Screen) -> String {
    let mut out = String::new();
    for answer in &result.decision.answers {
        let _ = write_answer(&mut out, task, answer, screen);
    }
    if !result.nearest.is_empty() {
        let _ = writeln!(out, "{}", screen.bold(&format!("Nearest rows of {}", task.data.train)));
        for near in &result.nearest {
            let labels: Vec<&str> = near.labels.iter().map(|label| label.as_deref().unwrap_or("–")).collect();
            let text = shortened(&near.text, 90);
            let _ = writeln!(out, "  {:.2}  row {:<6} {}: {text}", near.cosine, near.row, labels.join(", "));
        }
    }
    let decision = &result.decision;
    let _ = writeln!(
        out,
        "\nRelease {} in {}",
        decision.release.short(),
        clock::duration(decision.elapsed_us as f64 / 1e6)
    );
    out
}

fn write_answer(out: &mut String, task: &Task, answer: &Answer, screen: &Screen) -> std::fmt::Result {
    let name = screen.bold(&answer.question);
    match answer.disposition {
        Disposition::Answered if answer.certified => {
            writeln!(out, "{name}: {}", screen.good(&answer.value))?;
        }
        Disposition::Answered if answer.tier == Tier::Remote => {
            writeln!(out, "{name}: {} (a remote model's answer)", answer.value)?;
        }
        Disposition::Answered => {
            writeln!(out, "{name}: {} {}", answer.value, screen.bad("(not certified)"))?;
        }
        Disposition::Escalated { reason, to } => {
            let to = match to {
                sizewise_contract::answer::EscalatedTo::Person => "a person",
                sizewise_contract::answer::EscalatedTo::None => "nobody",
            };
            let reason = reason.name().replace('_', " ");
            let told = format!("escalated to {to} ({reason})");
            writeln!(out, "{name}: {}; it would say `{}`", screen.bad(&told), answer.value)?;
        }
    }
    let threshold = answer.threshold.map_or("none certified".to_owned(), |value| format!("{value:.4}"));
    let confidence = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    writeln!(out, "  confidence {}, threshold {threshold}", confidence(answer.confidence))?;
    if let Some(remote) = &answer.remote {
        let came = remote.problem.map_or_else(
            || format!("answered ({})", remote.model),
            |problem| format!("gave no answer: {}", problem.name().replace('_', " ")),
        );
        let calls = if remote.attempts == 1 { "" } else { "s" };
        writeln!(out, "  provider {}, {} call{calls}: {came}", remote.provider, remote.attempts)?;
    }
    let mut path = Table::new(&[
        ("tier", Align::Left),
        ("answer", Align::Left),
        ("confidence", Align::Right),
        ("novelty", Align::Right),
        ("time", Align::Right),
    ]);
    for step in &answer.path {
        path.row([
            step.tier.to_string(),
            step.value.clone(),
            confidence(step.confidence),
            format!("{:.2}", step.novelty),
            clock::duration(step.elapsed_us as f64 / 1e6),
        ]);
    }
    out.push_str(&path.render());
    if answer.tier == Tier::Remote {
        return Ok(());
    }
    let values = task.question(&answer.question).map_or(Vec::new(), |(_, question)| question.class_values());
    let mut likely: Vec<(&str, f32)> = values.into_iter().zip(answer.probabilities.iter().copied()).collect();
    likely.sort_by(|a, b| b.1.total_cmp(&a.1));
    let likely: Vec<String> =
        likely.iter().take(3).map(|(value, p)| format!("{value} {}", percent(f64::from(*p)))).collect();
    writeln!(out, "  shares of the last model, before calibration: {}\n", likely.join(", "))
}
