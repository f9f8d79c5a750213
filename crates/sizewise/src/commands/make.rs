//! `sizewise make`: what is the smallest cascade that keeps a task's promise, from a table on?
//!
//! Every step is the command of that name. What a step made lies in the store, so a call that was cut off goes on at the step
//! it was in, and that step at the epoch it was in.

use super::{
    DONE, bench, certify, compress, init, train,
    trained::{ADAPTED, COMPRESSED, SUMMARY, store},
};
use crate::{
    cli::{Adapt, Bench, Certify, Compress, Distil, Doubted, Init, Make, Train},
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::percent,
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sizewise_contract::{Certificate, ContentHash, Tier};
use sizewise_learn::{
    dataset::{TrainingRows, read_gold},
    train::rows_hash,
};
use sizewise_store::Release;

/// What came of it.
#[derive(Serialize)]
struct MakeResult {
    task: String,
    /// Made with the adapted encoder.
    whole: Worth,
    /// Made with the compressed encoder.
    compressed: Option<Worth>,
    /// The release that was certified.
    chosen: ContentHash,
    certificates: Vec<Certificate>,
    in_force: bool,
}

/// How good a release looks to its development rows.
#[derive(Clone, Copy, Serialize)]
struct Worth {
    release: ContentHash,
    /// Share of the rows that its cascade would answer within the promise, of the question where that is least.
    coverage_at_promise: f64,
}

/// What of a release's summary is compared.
#[derive(Deserialize)]
struct Summary {
    questions: Vec<QuestionSummary>,
}

#[derive(Deserialize)]
struct QuestionSummary {
    tiers: Vec<TierSummary>,
}

#[derive(Deserialize)]
struct TierSummary {
    coverage_at_promise: f64,
}

pub(super) fn run(project: &Project, arguments: &Make, screen: &Screen) -> Result<u8> {
    let maker = Maker { project, arguments, screen, steps: screen.for_part() };
    maker.table()?;
    let whole = maker.whole()?;
    let compressed = maker.compressed()?;
    let least = whole.coverage_at_promise - arguments.most_loss;
    let small = compressed.filter(|small| small.coverage_at_promise >= least);
    let chosen = small.unwrap_or(whole).release;
    let told = match (compressed, small) {
        (None, _) => String::new(),
        (Some(small), found) => format!(
            "The compressed encoder answers {} within the promise, the whole one {}: the {} is certified.",
            percent(small.coverage_at_promise),
            percent(whole.coverage_at_promise),
            if found.is_some() { "smaller" } else { "whole" }
        ),
    };
    maker.say(&told);
    let code = maker.certified(chosen)?;
    maker.step("bench", "--all", "Measure what every tier of both costs and gives.");
    let task = &arguments.task;
    let bench = Bench {
        task: task.clone(),
        data: None,
        all: true,
        rounds: 5,
        price_per_core_hour: 0.04,
        watts_per_core: 8.0,
        html: None,
    };
    bench::run(project, &bench, &maker.steps)?;
    if screen.is_json() {
        let store = store(project)?;
        let release = store.release(task, &chosen.to_string())?;
        let in_force = store.in_force(task)?.is_some_and(|now| now.id == chosen);
        let result = MakeResult {
            task: task.clone(),
            whole,
            compressed,
            chosen,
            certificates: release.certificates,
            in_force,
        };
        screen.result("make", &result, String::new);
    } else {
        maker.say("\nNext: sizewise serve");
    }
    Ok(code)
}

struct Maker<'a> {
    project: &'a Project,
    arguments: &'a Make,
    screen: &'a Screen,
    /// What the steps speak through.
    steps: Screen,
}

impl Maker<'_> {
    fn say(&self, text: &str) {
        if !text.is_empty() {
            self.steps.result("make", &(), || format!("{text}\n"));
        }
    }

    fn step(&self, command: &str, more: &str, why: &str) {
        let line = format!("$ sizewise {command} {} {more}", self.arguments.task);
        self.say(&format!("\n{}\n# {why}\n", self.screen.bold(line.trim_end())));
    }

    /// Makes the task, where it is not there.
    fn table(&self) -> Result<()> {
        let Make { task, from, .. } = self.arguments;
        let file = self.project.task_folder(task).join("task.toml");
        match (file.exists(), from) {
            (true, Some(table)) => {
                self.screen.remark(&format!(
                    "The task `{task}` is there: its file and its split stay, {} is not read.",
                    table.display()
                ));
                Ok(())
            }
            (true, None) => Ok(()),
            (false, None) => {
                Err(Error::usage(format!("there is no task `{task}`: --from TABLE makes it of a table")))
            }
            (false, Some(table)) => {
                self.step(
                    "init",
                    &format!("--from {}", table.display()),
                    "Guess the columns, look for what is odd, and lock rows away.",
                );
                let init = Init {
                    task: task.clone(),
                    from: Some(table.clone()),
                    from_site: None,
                    gold: self.arguments.gold.clone(),
                    text: self.arguments.text.clone(),
                    labels: self.arguments.labels.clone(),
                    out_of_scope: self.arguments.out_of_scope.clone(),
                    group: None,
                    time: None,
                    slices: Vec::new(),
                    teacher: false,
                    max_served_error: self.arguments.max_served_error,
                    locked_share: None,
                    dev_share: None,
                    seed: self.arguments.seed,
                    keep_case: false,
                    force: false,
                };
                init::run(self.project, &init, &self.steps).map(drop)
            }
        }
    }

    fn has_encoder(&self) -> Result<bool> {
        Ok(self.project.task(&self.arguments.task)?.cascade.tiers.allowed().contains(&Tier::Encoder))
    }

    fn distil(&self) -> Distil {
        Distil { distil: true, unlabelled: self.arguments.unlabelled.clone() }
    }

    /// The release with the adapted encoder.
    fn whole(&self) -> Result<Worth> {
        let Make { task, seed, threads, adapt, again, .. } = self.arguments;
        let has_encoder = self.has_encoder()?;
        if let Some(made) = self.made_before(if has_encoder { ADAPTED } else { SUMMARY })? {
            return Ok(made);
        }
        let method = adapt.to_possible_value().filter(|_| has_encoder);
        let method = method.map_or_else(String::new, |method| format!("--adapt {} ", method.get_name()));
        self.step(
            "train",
            &format!("{method}--distil"),
            "Train the encoder, let it teach the static tier, and fit the tiers, smallest first.",
        );
        let train = Train {
            task: task.clone(),
            seed: *seed,
            threads: *threads,
            balance: false,
            encoder: None,
            doubted: Doubted::SetAside,
            adapt: Adapt {
                method: has_encoder.then_some(*adapt),
                resume: !again && has_encoder,
                ..Adapt::default()
            },
            distil: self.distil(),
        };
        let (release, _) = train::make(self.project, &train, &self.steps)?;
        self.worth(&release)
    }

    /// The release with the compressed encoder, where the cascade has one.
    fn compressed(&self) -> Result<Option<Worth>> {
        let Make { task, seed, threads, share_of_time, again, .. } = self.arguments;
        if !self.has_encoder()? {
            return Ok(None);
        }
        if let Some(made) = self.made_before(COMPRESSED)? {
            return Ok(Some(made));
        }
        self.step(
            "compress",
            &format!("--share-of-time {share_of_time} --distil"),
            "Take from the encoder what the task does not need, and judge what is left again.",
        );
        let compress = Compress {
            task: task.clone(),
            max_ms: None,
            max_mb: None,
            share_of_time: Some(*share_of_time),
            epochs: None,
            seed: *seed,
            threads: *threads,
            balance: false,
            encoder: None,
            distil: self.distil(),
            resume: !again,
        };
        let (release, _) = compress::make(self.project, &compress, &self.steps)?;
        Ok(Some(self.worth(&release)?))
    }

    /// What an earlier call made of the same contract and rows.
    fn made_before(&self, part: &str) -> Result<Option<Worth>> {
        if self.arguments.again {
            return Ok(None);
        }
        let task = self.project.task(&self.arguments.task)?;
        let folder = self.project.task_folder(&task.name);
        let dev = read_gold(&task, &folder.join(&task.data.dev))?;
        let rows = rows_hash(&TrainingRows::read(&task, &folder)?, &dev);
        let made = store(self.project)?.releases(&task.name)?.into_iter().rev().find(|release| {
            let manifest = &release.manifest;
            manifest.contract == task.contract_hash()
                && manifest.training_rows == rows
                && manifest.parts.iter().any(|found| found.name == part)
        });
        let Some(release) = made else { return Ok(None) };
        self.screen.remark(&format!(
            "Release {} was made before, of the same rows: taken as it is (--again makes it anew).",
            release.id.short()
        ));
        self.worth(&release).map(Some)
    }

    fn worth(&self, release: &Release) -> Result<Worth> {
        let bytes = store(self.project)?.part(release, SUMMARY)?;
        let summary: Summary = serde_json::from_slice(&bytes)
            .map_err(|_| Error::Learn(sizewise_learn::Error::Internal("a release has a readable summary")))?;
        let coverage =
            |question: &QuestionSummary| question.tiers.last().map(|tier| tier.coverage_at_promise);
        let least = summary.questions.iter().filter_map(coverage).min_by(f64::total_cmp);
        Ok(Worth { release: release.id, coverage_at_promise: least.unwrap_or(0.0) })
    }

    /// Certifies a release, unless that was done.
    fn certified(&self, chosen: ContentHash) -> Result<u8> {
        let task = &self.arguments.task;
        let release = store(self.project)?.release(task, &chosen.to_string())?;
        if !release.certificates.is_empty() {
            self.screen.remark(&format!("Release {} was tested before.", chosen.short()));
            return Ok(DONE);
        }
        self.step(
            "certify",
            &format!("--release {}", chosen.short()),
            "Say the chance first, then open the locked rows, once.",
        );
        let certify = Certify {
            task: task.clone(),
            dry_run: false,
            anyway: false,
            release: Some(chosen.to_string()),
            reason: None,
            wait: false,
        };
        certify::run(self.project, &certify, &self.steps)
    }
}
