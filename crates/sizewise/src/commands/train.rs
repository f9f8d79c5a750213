//! `sizewise train`: what does each tier buy?

use super::{
    DONE,
    adapt::{self, AdaptSummary},
    distil,
    recipe::{ModelUsed, RECIPE, Recipe},
    trained::{ADAPTED, DEVELOPMENT, SUMMARY, store, threads},
};
use crate::{
    cli::{Doubted, Train},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent, shortened, with_interval},
};
use serde::Serialize;
use sizewise_contract::{ContentHash, Task, Tier};
use sizewise_engine::{ENCODER_ADAPTER, ENCODER_PARTS};
use sizewise_learn::{
    dataset::{Dataset, Locked, TrainingRows, read_gold},
    teach::{
        doubted::{SetAside, error_rates, set_aside},
        lesson::Watch,
    },
    train::{self, Tools, TrainSummary, Unseen, WrittenSummary},
};
use sizewise_measure::cascade::RowOutcome;
use sizewise_models::{
    builtin,
    encoder::{Encoder, EncoderFiles},
};
use sizewise_store::{NewRelease, Release};
use std::{fmt::Write, path::Path};

/// Most rows that a certificate's plan needs; of more an even sample is kept.
const PLANNED_ROWS: usize = 50_000;

#[derive(Serialize)]
struct TrainResult<'a> {
    task: &'a str,
    release: ContentHash,
    in_force: bool,
    summary: &'a TrainSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapted: Option<&'a AdaptSummary>,
    /// Labels of a teacher that were not learnt from.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<&'a [SetAside]>,
}

pub(super) fn run(project: &Project, arguments: &Train, screen: &Screen) -> Result<u8> {
    make(project, arguments, screen).map(|_| DONE)
}

/// Makes a release, tells what came of it, and returns both.
pub(super) fn make(project: &Project, arguments: &Train, screen: &Screen) -> Result<(Release, TrainSummary)> {
    let task = project.task(&arguments.task)?;
    let folder = project.task_folder(&task.name);
    let file = folder.join("task.toml");
    let task_file = std::fs::read_to_string(&file).map_err(|cause| Error::file(&file, cause))?;
    let mut rows = TrainingRows::read(&task, &folder)?;
    let dev = read_gold(&task, &folder.join(&task.data.dev))?;
    let locked = Locked::find(&task, &folder)?;
    let wants_encoder = task.cascade.tiers.allowed().contains(&Tier::Encoder);
    let own_files = match &arguments.encoder {
        Some(named) => Some(super::models::encoder_files(project, named)?),
        None => None,
    };
    let threads = arguments.threads.unwrap_or_else(threads).max(1);
    let set_aside = doubted(&task, &mut rows, (&folder, arguments, threads), screen)?;
    let adapted = match (arguments.adapt.method, wants_encoder) {
        (Some(method), true) => Some(adapt::run(
            project,
            (&task, &rows.without_written()),
            (arguments, method, threads),
            own_files.as_ref(),
            screen,
        )?),
        (Some(_), false) => return Err(Error::usage("the task's cascade has no encoder tier to adapt")),
        (None, _) => None,
    };
    let frozen = match &own_files {
        _ if !wants_encoder => None,
        Some(files) => Some(Encoder::from_files(&files.as_ref())?),
        None => Some(builtin::encoder()?),
    };
    let frozen = frozen.map(|encoder| encoder.with_threads(threads));
    let encoder = adapted.as_ref().map(|adapted| &adapted.encoder);
    let static_embeddings = builtin::static_embeddings()?;
    let mut models = vec![ModelUsed::static_embeddings(&static_embeddings)];
    match (&arguments.encoder, &own_files) {
        _ if !wants_encoder => {}
        (Some(named), Some(files)) => {
            models.push(ModelUsed::named_encoder(&super::trained::store(project)?, named, files)?);
        }
        _ => models.push(ModelUsed::builtin_encoder()),
    }
    let recipe = Recipe::of_train(arguments, (&task, &folder), models)?;
    let unseen = adapted.as_ref().and_then(adapt::AdaptedEncoder::unseen);
    // Encoders of folds know each other's rows, so the one that knows none teaches there.
    let teacher = match (encoder, &frozen, unseen) {
        (Some(encoder), _, None | Some(Unseen::Rows(_))) => Some(encoder),
        (_, frozen, _) => frozen.as_ref(),
    };
    let builtin_teacher = match teacher {
        None if arguments.distil.distil => Some(builtin::encoder()?.with_threads(threads)),
        _ => None,
    };
    let teacher = teacher.or(builtin_teacher.as_ref());
    let unlabelled = match teacher {
        Some(teacher) => distil::unlabelled(project, &task, (&arguments.distil, teacher), screen)?,
        None => None,
    };
    let (progress, stop) = (screen.progress(), screen.stop());
    let tools = Tools {
        static_embeddings: &static_embeddings,
        encoder: encoder.or(frozen.as_ref()),
        threads,
        seed: arguments.seed,
        balance: arguments.balance,
        progress: &|step, done, of| progress.at(step, done, of),
        stop: &stop,
        unseen,
        distil: unlabelled
            .as_deref()
            .and_then(|unlabelled| Some(train::Distil { encoder: teacher?, unlabelled })),
    };
    let trained = train::train(&task, &rows, &dev, tools)?;
    let bought = match &adapted {
        Some(adapted) => {
            // The same rows judge the encoder as it was.
            let unseen = tools.unseen.filter(|unseen| matches!(unseen, Unseen::Rows(_)));
            let tools = Tools { encoder: frozen.as_ref(), unseen, distil: None, ..tools };
            let before =
                train::train(&task, &rows, &Dataset { examples: Vec::new(), hash: dev.hash }, tools)?;
            Some(adapted.summary(arguments.seed, &before.summary))
        }
        None => None,
    };
    progress.end();
    let mut parts = Vec::new();
    if let Some(summary) = &bought {
        parts.push((ADAPTED.to_owned(), json(summary)?));
    }
    let checkpoint = adapted.as_ref().map(|adapted| adapted.checkpoint.clone());
    let (encoder, adapter) = match adapted {
        Some(adapted) => (adapted.files, adapted.adapter),
        None => (own_files.filter(|_| wants_encoder), None),
    };
    let made = Made {
        task: &task,
        task_file: &task_file,
        trained: &trained,
        locked: &locked,
        encoder,
        adapter,
        recipe,
        parts,
    };
    let (release, in_force) = made.publish(project)?;
    if let Some(checkpoint) = checkpoint {
        // The release holds what came of it; a folder that stays behind only takes room.
        let _ = std::fs::remove_dir_all(checkpoint);
    }
    let result = TrainResult {
        task: &task.name,
        release: release.id,
        in_force,
        summary: &trained.summary,
        adapted: bought.as_ref(),
        set_aside: set_aside.as_deref(),
    };
    screen.result("train", &result, || {
        let text = text(&task, &release, (&trained.summary, in_force), screen);
        let of_teacher =
            set_aside.as_deref().map_or_else(String::new, |rows| told_doubted(rows, arguments.doubted));
        let bought = bought.iter().map(|bought| bought.text(&trained.summary)).collect::<String>();
        let written = trained.summary.written.as_ref().map_or_else(String::new, told_written);
        bought + &of_teacher + &written + &distil::text(&trained.summary) + &text
    });
    Ok((release, trained.summary))
}

/// What a release is made of.
pub(super) struct Made<'a> {
    pub(super) task: &'a Task,
    pub(super) task_file: &'a str,
    pub(super) trained: &'a train::Trained,
    pub(super) locked: &'a Locked,
    /// Its own encoder, where it has one.
    pub(super) encoder: Option<EncoderFiles<Vec<u8>>>,
    /// What it changes of that or of the built-in one, where this is kept beside it.
    pub(super) adapter: Option<Vec<u8>>,
    /// What it was made with.
    pub(super) recipe: Recipe,
    /// Parts beside those that every release has.
    pub(super) parts: Vec<(String, Vec<u8>)>,
}

impl Made<'_> {
    /// Publishes it; says whether it is in force now.
    pub(super) fn publish(self, project: &Project) -> Result<(Release, bool)> {
        let trained = self.trained;
        let mut parts: Vec<(String, Vec<u8>)> =
            trained.models.to_parts()?.into_iter().map(|part| (part.name, part.bytes)).collect();
        let development: Vec<Vec<RowOutcome>> =
            trained.development.iter().map(|rows| sampled(rows)).collect();
        parts.push((DEVELOPMENT.into(), json(&development)?));
        parts.push((SUMMARY.into(), json(&trained.summary)?));
        parts.push((RECIPE.into(), json(&self.recipe.serving(trained.models.encoder))?));
        parts.extend(self.parts);
        if let Some(files) = self.encoder {
            add_encoder(&mut parts, files);
        }
        parts.extend(self.adapter.map(|bytes| (ENCODER_ADAPTER.to_owned(), bytes)));
        let store = store(project)?;
        let release = store.publish(NewRelease {
            task_file: self.task_file,
            task: self.task,
            training_rows: trained.development_hash,
            locked_rows: self.locked.hash(),
            parts: &parts,
            made_by: concat!("sizewise ", env!("CARGO_PKG_VERSION")),
        })?;
        let in_force = store.in_force(&self.task.name)?.is_some_and(|now| now.id == release.id);
        Ok((release, in_force))
    }
}

/// Sets a teacher's labels aside that the other rows contradict; none where all labels are gold, all are kept, or nobody knows
/// how often the teacher is wrong.
fn doubted(
    task: &Task,
    rows: &mut TrainingRows,
    (folder, arguments, threads): (&Path, &Train, usize),
    screen: &Screen,
) -> Result<Option<Vec<SetAside>>> {
    if arguments.doubted == Doubted::Keep || matches!(rows, TrainingRows::Gold(_)) {
        return Ok(None);
    }
    let wrong = error_rates(task, folder)?;
    if wrong.iter().all(Option::is_none) {
        return Ok(None);
    }
    let (progress, stop) = (screen.progress(), screen.stop());
    let watch = Watch { progress: &|_, done, of| progress.at("doubt", done, of), stop: &stop };
    Ok(Some(set_aside(task, rows, &wrong, (&builtin::encoder()?.with_threads(threads), watch))?))
}

fn told_doubted(rows: &[SetAside], how: Doubted) -> String {
    let more = if how == Doubted::List {
        ""
    } else {
        " (--doubted list shows them, --doubted keep learns from them)"
    };
    let mut out = match rows.len() {
        0 => "No label of the teacher is doubted.\n".to_owned(),
        count => {
            format!("{count} labels of the teacher are contradicted by the other rows and set aside{more}.\n")
        }
    };
    if how == Doubted::List {
        for row in rows {
            let text = shortened(&row.text, 80);
            let _ = writeln!(
                out,
                "  row {:<6} {}: {}, rather {}: {text}",
                row.row, row.question, row.label, row.instead
            );
        }
    }
    out + "\n"
}

fn told_written(written: &WrittenSummary) -> String {
    let counts = |weight: f64| match weight {
        0.0 => "are left out".to_owned(),
        1.0 => "count as rows do".to_owned(),
        weight => format!("count for {} of a row", percent(weight)),
    };
    let mut out = format!(
        "{} texts that a teacher wrote {}: that is best on rows that people sent.\n",
        written.texts,
        counts(written.weight)
    );
    for way in &written.tried {
        let _ = writeln!(
            out,
            "  where they {:<30} {} are right, {} answered within the promise",
            counts(way.weight) + ":",
            with_interval(&way.right),
            percent(way.answered_within_promise)
        );
    }
    out + "\n"
}

/// An even sample of the rows.
fn sampled(rows: &[RowOutcome]) -> Vec<RowOutcome> {
    let kept = rows.len().min(PLANNED_ROWS);
    (0..kept).filter_map(|position| rows.get(position * rows.len() / kept.max(1))).cloned().collect()
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| Error::Learn(sizewise_learn::Error::Internal("it has a JSON form")))
}

fn add_encoder(parts: &mut Vec<(String, Vec<u8>)>, files: EncoderFiles<Vec<u8>>) {
    let [config, tokenizer, pooling, prompts, weights] = ENCODER_PARTS;
    parts.push((config.into(), files.config));
    parts.push((tokenizer.into(), files.tokenizer));
    parts.extend(files.pooling.map(|bytes| (pooling.to_owned(), bytes)));
    parts.extend(files.prompts.map(|bytes| (prompts.to_owned(), bytes)));
    parts.extend(files.weights.into_iter().map(|(name, bytes)| (format!("{weights}{name}"), bytes)));
}

pub(super) fn text(
    task: &Task,
    release: &Release,
    (summary, in_force): (&TrainSummary, bool),
    screen: &Screen,
) -> String {
    let mut out = String::new();
    for question in &summary.questions {
        let promise = percent(question.max_served_error);
        let _ = writeln!(
            out,
            "{} (promise: at most {promise} of served answers wrong)",
            screen.bold(&question.question)
        );
        let mut table = Table::new(&[
            ("tier", Align::Left),
            ("right, of all in scope", Align::Left),
            ("answered within the promise", Align::Right),
            ("bought", Align::Right),
            ("fitted in", Align::Right),
        ]);
        let mut before = 0.0;
        for tier in &question.tiers {
            table.row([
                tier.tier.to_string(),
                with_interval(&tier.accuracy),
                percent(tier.coverage_at_promise),
                format!("{:+.1} points", (tier.coverage_at_promise - before) * 100.0),
                clock::duration(tier.seconds),
            ]);
            before = tier.coverage_at_promise;
        }
        out.push_str(&table.render());
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "Trained on {} rows in {}, judged on rows that each fit had not seen. Release {}{}",
        summary.rows,
        clock::duration(summary.seconds),
        release.id.short(),
        if in_force {
            " is in force, without a certificate yet."
        } else {
            " waits: the certified one stays in force."
        },
    );
    let _ = writeln!(out, "Next: sizewise certify {}", task.name);
    out
}
