//! `sizewise bench`: what does every tier of a release cost, and what does it give?
//!
//! Everything is measured in one process, on one thread. Tiers and releases take turns, round after round, so that what
//! disturbs the machine falls on all of them; medians over the rounds are shown.

mod meter;
mod runner;

use super::{
    DONE,
    evaluate::threshold,
    trained::{OpenRows, Shared, Step, Trained, open_rows, store},
};
use crate::{
    cli::Bench,
    clock,
    error::{Error, Result},
    evaluation::{self, Operating},
    html,
    project::Project,
    screen::Screen,
    table::{Align, Table, with_interval},
};
pub(crate) use meter::EnergySource;
use meter::{Meter, resident};
use runner::{Runner, Turn, Way};
use serde::Serialize;
use sizewise_contract::{ContentHash, Tier, units::UnixMillis};
use sizewise_engine::ENCODER_PARTS;
use sizewise_learn::train::Judged;
use sizewise_measure::{cascade::RowOutcome, metrics::Share};
use sizewise_models::{Kernel, builtin};
use sizewise_store::Store;
use std::{collections::BTreeMap, fmt::Write};

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) task: String,
    /// The table, as the user named it.
    pub(crate) table: String,
    /// Hash of its texts and labels.
    pub(crate) rows_hash: ContentHash,
    pub(crate) rows: usize,
    pub(crate) locked_left_out: usize,
    pub(crate) fitted_left_out: usize,
    pub(crate) rounds: u16,
    /// The instructions that multiply bytes.
    pub(crate) kernel: &'static str,
    /// Whether decisions a second are those of time on the core; by the clock otherwise.
    pub(crate) core_time: bool,
    pub(crate) price_per_core_hour_usd: f64,
    pub(crate) energy: EnergySource,
    /// What modelled energy was modelled with.
    pub(crate) watts_per_core: f64,
    pub(crate) releases: Vec<Measurements>,
}

/// One release.
#[derive(Debug, Serialize)]
pub(crate) struct Measurements {
    pub(crate) release: ContentHash,
    pub(crate) in_force: bool,
    pub(crate) made_at: UnixMillis,
    /// Whether its accuracy is known: it was fitted on the same rows for the same contract as the release in force.
    pub(crate) comparable: bool,
    pub(crate) tiers: Vec<TierMeasurement>,
}

/// One tier, or the cascade, of a release.
#[derive(Debug, Serialize)]
pub(crate) struct TierMeasurement {
    pub(crate) name: &'static str,
    /// One text in process, all its questions.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// In batches, on one core.
    pub(crate) decisions_per_core_second: f64,
    pub(crate) usd_per_million: f64,
    pub(crate) watt_hours_per_million: f64,
    /// On disk: its own parts, and those that it shares with every task.
    pub(crate) own_bytes: u64,
    pub(crate) shared_bytes: u64,
    /// What loading added to the memory of the process, shared models included; none where the system does not tell.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) questions: Vec<Quality>,
}

/// How good the answers to one question are.
#[derive(Debug, Serialize)]
pub(crate) struct Quality {
    pub(crate) question: String,
    /// Every in-scope row answered.
    pub(crate) accuracy: Share,
    /// The cascade alone: with its threshold.
    pub(crate) operating: Option<Operating>,
}

/// A release in memory with what loading it took.
struct Loaded {
    trained: Trained,
    in_force: bool,
    comparable: bool,
    limits: Vec<f64>,
    memory: Memory,
}

/// What loading added, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    models: u64,
    static_embeddings: u64,
    encoder: u64,
}

pub(super) fn run(project: &Project, arguments: &Bench, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let store = store(project)?;
    let loaded = load(&store, &task.name, arguments.all, screen)?;
    let first = loaded.first().ok_or_else(|| Error::NotTrained { task: task.name.clone() })?;
    let open = open_rows(project, &first.trained.task, arguments.data.as_deref())?;
    let measured = measure(&loaded, &open, arguments, screen)?;
    let measured = Measured {
        table: open.path.strip_prefix(project.root()).unwrap_or(&open.path).display().to_string(),
        ..measured
    };
    if let Some(path) = &arguments.html {
        let page = html::bench::page(&measured);
        std::fs::write(path, page).map_err(|cause| Error::file(path, cause))?;
    }
    screen.result("bench", &measured, || text(&measured, screen));
    if let Some(path) = &arguments.html {
        screen.remark(&format!("{}: the same with a plot", path.display()));
    }
    Ok(DONE)
}

/// The release in force, and where all are wanted the others, the latest first.
fn load(store: &Store, task: &str, all: bool, screen: &Screen) -> Result<Vec<Loaded>> {
    let in_force = store.in_force(task)?.ok_or_else(|| Error::NotTrained { task: task.to_owned() })?;
    let (id, rows, contract) = (in_force.id, in_force.manifest.training_rows, in_force.manifest.contract);
    let mut releases = vec![in_force];
    if all {
        releases.extend(store.releases(task)?.into_iter().rev().filter(|release| release.id != id));
    }
    let mut shared = Shared::new(1);
    let mut encoders: BTreeMap<Option<ContentHash>, u64> = BTreeMap::new();
    let mut static_embeddings = 0;
    let mut loaded = Vec::new();
    for release in releases {
        let comparable = release.manifest.training_rows == rows && release.manifest.contract == contract;
        let short = release.id.short();
        let (mut memory, mut before) = (Memory::default(), resident().unwrap_or(0));
        let mut told = |step| {
            let now = resident().unwrap_or(0);
            let added = now.saturating_sub(before);
            before = now;
            match step {
                Step::Models => memory.models = added,
                Step::StaticEmbeddings => memory.static_embeddings = added,
                Step::Encoder => memory.encoder = added,
            }
        };
        let is_in_force = release.id == id;
        let trained = match Trained::load_sharing(store, release, (&mut shared, &mut told)) {
            Ok(trained) => trained,
            Err(error) if !is_in_force => {
                screen.remark(&format!("left out: release {short}: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        // What is there already adds nothing the second time, but belongs to the tier all the same.
        static_embeddings = memory.static_embeddings.max(static_embeddings);
        memory.static_embeddings = static_embeddings;
        let hash = trained.models().encoder;
        memory.encoder = *encoders.entry(hash).or_insert(memory.encoder);
        let limits =
            trained.task.questions.iter().map(|asked| threshold(&trained, asked).threshold).collect();
        loaded.push(Loaded { in_force: is_in_force, comparable, limits, memory, trained });
    }
    Ok(loaded)
}

fn measure(loaded: &[Loaded], open: &OpenRows, arguments: &Bench, screen: &Screen) -> Result<Measured> {
    let (progress, stop, meter) = (screen.progress(), screen.stop(), Meter::new(arguments.watts_per_core));
    let mut judged = Vec::new();
    for release in loaded {
        judged.push(match release.comparable {
            true => Some(release.trained.judge(&open.rows.examples, &stop, &|step, done, of| {
                progress.at(step, done, of);
            })?),
            false => None,
        });
    }
    let texts: Vec<&str> = open.rows.examples.iter().map(|example| example.text.as_str()).collect();
    let mut runners = Vec::new();
    for (number, release) in loaded.iter().enumerate() {
        for way in ways(&release.trained) {
            let what = (&release.trained, way, release.limits.as_slice());
            runners.push((number, Runner::new(what, &texts, &stop)?));
        }
    }
    let of = runners.len() * usize::from(arguments.rounds);
    for round in 0..usize::from(arguments.rounds) {
        let count = runners.len();
        for (done, (_, runner)) in runners.iter_mut().enumerate() {
            progress.at("turns", round * count + done, of);
            runner.turn(&meter)?;
        }
    }
    progress.end();
    let releases = loaded.iter().zip(&judged).enumerate().map(|(number, (release, judged))| {
        let own = runners.iter().filter(|(of, _)| *of == number);
        let tiers = own.map(|(_, runner)| tier(release, judged.as_deref(), (runner, arguments)));
        Measurements {
            release: release.trained.release.id,
            in_force: release.in_force,
            made_at: release.trained.release.manifest.made_at,
            comparable: release.comparable,
            tiers: tiers.collect(),
        }
    });
    Ok(Measured {
        releases: releases.collect(),
        task: arguments.task.clone(),
        table: String::new(),
        rows_hash: open.rows.hash,
        rows: open.rows.examples.len(),
        locked_left_out: open.locked,
        fitted_left_out: open.fitted,
        rounds: arguments.rounds,
        kernel: Kernel::best().name(),
        core_time: Meter::knows_core_time(),
        price_per_core_hour_usd: arguments.price_per_core_hour,
        energy: meter.energy_source(),
        watts_per_core: arguments.watts_per_core,
    })
}

/// How many milliseconds 95 of 100 texts take at most that the cascade is asked one by one, and how many were asked. `limits` holds one
/// threshold a question.
pub(super) fn p95_ms(
    trained: &Trained,
    limits: &[f64],
    texts: &[&str],
    stop: &std::sync::atomic::AtomicBool,
) -> Result<(f64, usize)> {
    let times = Runner::new((trained, Way::Cascade, limits), texts, stop)?.singles()?;
    let last = times.len().saturating_sub(1);
    let at = (times.len() * 95).div_ceil(100).saturating_sub(1).min(last);
    Ok((times.get(at).copied().unwrap_or(0.0) / 1e3, times.len()))
}

/// The tiers that may answer, cheapest first, and the cascade of them.
fn ways(trained: &Trained) -> Vec<Way> {
    let allowed = trained.task.cascade.tiers.allowed();
    let questions = &trained.models().questions;
    let mut ways = Vec::new();
    if allowed.contains(&Tier::Static) && questions.iter().any(|question| question.static_tier.is_some()) {
        ways.push(Way::Tier(Tier::Static));
    }
    if allowed.contains(&Tier::Encoder) && questions.iter().any(|question| question.encoder_tier.is_some()) {
        ways.push(Way::Tier(Tier::Encoder));
    }
    ways.push(Way::Cascade);
    ways
}

fn tier(
    release: &Loaded,
    judged: Option<&[Vec<Judged>]>,
    (runner, arguments): (&Runner<'_>, &Bench),
) -> TierMeasurement {
    let median = |figure: fn(&Turn) -> f64| median(runner.turns.iter().map(figure).collect());
    let core_seconds = median(|turn| turn.each.core_seconds);
    let (own_bytes, shared_bytes) = size(&release.trained, runner.way);
    let Memory { models, static_embeddings, encoder } = release.memory;
    let encoder = if runner.way == Way::Tier(Tier::Static) { 0 } else { encoder };
    TierMeasurement {
        name: runner.way.name(),
        p50_us: median(|turn| turn.p50_us),
        p99_us: median(|turn| turn.p99_us),
        decisions_per_core_second: 1.0 / core_seconds,
        usd_per_million: core_seconds * 1e6 / 3600.0 * arguments.price_per_core_hour,
        watt_hours_per_million: median(|turn| turn.each.joules) * 1e6 / 3600.0,
        own_bytes,
        shared_bytes,
        memory_bytes: resident().map(|_| models + static_embeddings + encoder),
        questions: judged.map_or(Vec::new(), |judged| quality(&release.trained, judged, runner.way)),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes on disk: the parts that this way of answering needs, and what it shares with every task of the program.
fn size(trained: &Trained, way: Way) -> (u64, u64) {
    let only_static = way == Way::Tier(Tier::Static);
    let [config, ..] = ENCODER_PARTS;
    let parts = &trained.release.manifest.parts;
    let needed = |name: &str| match name.split_once('/').map_or(name, |(kind, _)| kind) {
        "vocabulary" | "static-head" | "models.json" => true,
        // What training noted for people and for the certificate answers nothing.
        name if name.ends_with(".json") && !name.starts_with("encoder") => false,
        _ => !only_static,
    };
    let own = parts.iter().filter(|part| needed(&part.name)).map(|part| part.size).sum();
    let mut shared = builtin::static_embeddings_size();
    let files = builtin::encoder_files();
    let own_encoder = parts.iter().any(|part| part.name == config);
    if !only_static && trained.encoder().is_some() && !own_encoder {
        shared += files.weights.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    (own, (shared + files.tokenizer.len()) as u64)
}

fn quality(trained: &Trained, judged: &[Vec<Judged>], way: Way) -> Vec<Quality> {
    let questions = trained.task.questions.iter().zip(judged).filter_map(|(asked, judged)| {
        let outcomes: Vec<RowOutcome> = judged.iter().filter_map(|judged| judged.outcome.clone()).collect();
        let question = asked.name.clone();
        match way {
            Way::Tier(tier) => {
                let found = evaluation::tiers(&outcomes).into_iter().find(|found| found.tier == tier)?;
                Some(Quality { question, accuracy: found.accuracy, operating: None })
            }
            Way::Cascade => {
                let at = threshold(trained, asked);
                let operating = Some(evaluation::operating(&outcomes, at));
                Some(Quality { question, accuracy: answered(&outcomes, at.threshold), operating })
            }
        }
    });
    questions.collect()
}

/// Every in-scope row answered by the first tier that is sure enough, else by the last.
fn answered(outcomes: &[RowOutcome], threshold: f64) -> Share {
    let inside: Vec<&RowOutcome> = outcomes.iter().filter(|row| !row.out_of_scope).collect();
    let right = inside.iter().filter(|row| {
        let sure = row.tiers.iter().find(|tier| tier.confidence >= threshold);
        sure.or(row.tiers.last()).is_some_and(|tier| tier.right)
    });
    Share::new(right.count() as u64, inside.len() as u64)
}

fn text(measured: &Measured, screen: &Screen) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut out, measured, screen);
    out
}

fn write_text(out: &mut String, measured: &Measured, screen: &Screen) -> std::fmt::Result {
    writeln!(
        out,
        "{}: {} rows of {}, one thread, {}, medians of {} rounds",
        screen.bold(&measured.task),
        measured.rows,
        measured.table,
        measured.kernel,
        measured.rounds
    )?;
    for (left_out, why) in [
        (measured.locked_left_out, "they are locked"),
        (measured.fitted_left_out, "the models were fitted on them"),
    ] {
        if left_out > 0 {
            writeln!(out, "  {left_out} rows are left out: {why}")?;
        }
    }
    for release in &measured.releases {
        let standing = if release.in_force { ", in force" } else { "" };
        writeln!(
            out,
            "\nRelease {}, made {}{standing}",
            screen.bold(&release.release.short()),
            clock::minute(release.made_at)
        )?;
        write_release(out, release)?;
    }
    writeln!(out, "\n{}", remarks(measured))
}

fn write_release(out: &mut String, release: &Measurements) -> std::fmt::Result {
    let mut speed = Table::new(&[
        ("", Align::Left),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("per core-second", Align::Right),
        ("disk, own + shared", Align::Right),
        ("memory", Align::Right),
        ("Wh / million", Align::Right),
        ("USD / million", Align::Right),
    ]);
    for tier in &release.tiers {
        speed.row(tier.cells());
    }
    write!(out, "{}", speed.render())?;
    if !release.comparable {
        return writeln!(
            out,
            "  fitted on other rows or for another contract: its accuracy here would say nothing"
        );
    }
    let mut quality = Table::new(&[
        ("", Align::Left),
        ("question", Align::Left),
        ("right, all in scope", Align::Left),
        ("coverage", Align::Left),
        ("served error", Align::Left),
    ]);
    for (tier, question) in release.qualities() {
        quality.row(question.cells(tier));
    }
    write!(out, "\n{}", quality.render())
}

impl Measurements {
    /// The quality of every tier, question after question.
    pub(crate) fn qualities(&self) -> impl Iterator<Item = (&TierMeasurement, &Quality)> {
        self.tiers.iter().flat_map(|tier| tier.questions.iter().map(move |question| (tier, question)))
    }
}

impl TierMeasurement {
    /// Name, latency, speed, size, memory, energy and cost for people.
    pub(crate) fn cells(&self) -> [String; 8] {
        [
            self.name.to_owned(),
            duration(self.p50_us),
            duration(self.p99_us),
            significant(self.decisions_per_core_second),
            format!("{} + {}", megabytes(self.own_bytes), megabytes(self.shared_bytes)),
            self.memory_bytes.map_or_else(|| "–".to_owned(), megabytes),
            significant(self.watt_hours_per_million),
            format!("{:.4}", self.usd_per_million),
        ]
    }
}

impl Quality {
    /// Tier, question, accuracy, coverage and served error for people.
    pub(crate) fn cells(&self, tier: &TierMeasurement) -> [String; 5] {
        let at = |share: fn(&Operating) -> &Share| {
            self.operating.as_ref().map_or_else(String::new, |operating| with_interval(share(operating)))
        };
        [
            tier.name.to_owned(),
            self.question.clone(),
            with_interval(&self.accuracy),
            at(|operating| &operating.coverage),
            at(|operating| &operating.served_error),
        ]
    }
}

/// How the figures are to be read.
pub(crate) fn remarks(measured: &Measured) -> String {
    let time = match measured.core_time {
        true => "time on the core",
        false => "the clock, as this system keeps no accounts of threads",
    };
    let energy = match measured.energy {
        EnergySource::Measured => "measured by the processor's counters, for the whole package".to_owned(),
        EnergySource::Modelled => {
            format!("modelled, not measured: {} watts for a busy core", measured.watts_per_core)
        }
    };
    format!(
        "A decision answers all questions of one text. p50 and p99: one text alone, by the clock. Per core-second: in batches,\n\
         by {time}. Energy: {energy}. Cost: {} USD for an hour of a core,\n\
         what is escalated not counted. Memory: what loading added. Intervals: exact, at 95 %.",
        measured.price_per_core_hour_usd
    )
}

fn duration(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.1} µs") } else { format!("{:.2} ms", us / 1_000.0) }
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Three significant digits.
fn significant(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    match usize::try_from(digits) {
        Ok(digits) => format!("{value:.digits$}"),
        Err(_) => {
            let step = 10f64.powi(-digits);
            format!("{:.0}", (value / step).round() * step)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_significant_digits() {
        for (value, expected) in
            [(0.012345, "0.0123"), (1.2345, "1.23"), (123.45, "123"), (123_456.0, "123000")]
        {
            assert_eq!(significant(value), expected);
        }
        assert_eq!((duration(12.34), duration(1234.0)), ("12.3 µs".into(), "1.23 ms".into()));
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![5.0, 1.0, 9.0, 3.0, 7.0]), 5.0);
    }
}
