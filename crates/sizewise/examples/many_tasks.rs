//! How much memory do a thousand tasks take in one server, and do decisions get slower by their number?
//!
//! `many_tasks FOLDER [TASKS [RANK]]` trains eight small tasks on parts of the bundled example (two to five teams, 120 to 480
//! rows) and publishes their releases under as many names as are asked for, each with a contract of its own: in memory every
//! task has its own models, as a thousand trainings would have made them. With a rank each task also changes the encoder, by an
//! adapter of that rank that was trained for an epoch; of the eight only those are published again for which that bought something, as
//! the others left the encoder as it was. The folder is a project that `sizewise serve` serves afterwards. Then it loads all of them
//! into one engine and asks it: resident memory, and the latency of one task next to that of tasks drawn at random, in turns. `scripts/measure-many-tasks` calls it.

use clap::Parser;
use sizewise::{cli::Cli, commands, screen::Screen};
use sizewise_contract::{Task, Tier};
use sizewise_engine::{ENCODER_ADAPTER, Engine, InputValue, Request, Settings};
use sizewise_learn::table::TableReader;
use sizewise_store::{NewRelease, Store};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const TICKETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/example/tickets.csv");
const KINDS: usize = 8;
const ROUNDS: usize = 5;
const ASKED: usize = 2_000;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: many_tasks FOLDER [TASKS [RANK]]")?);
    let tasks: usize = arguments.next().map_or(Ok(1_000), |count| count.parse())?;
    let rank = arguments.next();
    let rows = rows()?;
    std::fs::create_dir_all(folder.join("tasks"))?;
    for kind in 0..KINDS.min(tasks) {
        train(&folder, kind, &rows, rank.as_deref())?;
    }
    let names = publish(&folder, tasks, rank.is_some())?;
    measure(&folder, &names, &rows)
}

/// Message and team of every row of the example.
fn rows() -> Outcome<Vec<(String, String)>> {
    let mut table = TableReader::open(Path::new(TICKETS))?;
    let place = |name: &str| table.columns().iter().position(|column| column == name).ok_or("a column");
    let (message, team) = (place("message")?, place("team")?);
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row)?.is_some() {
        rows.push((row[message].clone(), row[team].clone()));
    }
    Ok(rows)
}

/// A task of some of the teams and rows, with an adapter where a rank is given.
fn train(folder: &Path, kind: usize, rows: &[(String, String)], rank: Option<&str>) -> Outcome<()> {
    let mut teams: Vec<&str> = rows.iter().map(|(_, team)| team.as_str()).collect();
    teams.sort_unstable();
    teams.dedup();
    let first = kind % teams.len();
    teams.rotate_left(first);
    teams.truncate(2 + kind % 4);
    let mut table = String::from("message,team\n");
    let of_teams = rows.iter().filter(|(_, team)| teams.contains(&team.as_str()));
    for (message, team) in of_teams.skip(kind * 20).take(120 + kind * 360 / (KINDS - 1)) {
        writeln!(table, "\"{}\",{team}", message.replace('"', "\"\""))?;
    }
    let file = folder.join(format!("kind-{kind}.csv"));
    std::fs::write(&file, table)?;
    let (project, file) = (folder.to_string_lossy(), file.to_string_lossy());
    let name = name(kind);
    let mut training = vec!["train", name.as_str()];
    if let Some(rank) = rank {
        training.extend(["--adapt", "lora", "--as-adapter", "--epochs", "1", "--rank", rank]);
    }
    for arguments in [vec!["init", name.as_str(), "--from", &file, "--label", "team"], training] {
        let start = ["sizewise", "--quiet", "-o", "json", "--project", &project];
        commands::run(&Cli::try_parse_from(start.iter().chain(&arguments))?, &Screen::silent())?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("task-{number:04}")
}

/// Publishes the trained releases again under the other names, or only those with an adapter. Returns the names of the tasks with
/// the same models, kind by kind.
fn publish(folder: &Path, tasks: usize, adapters: bool) -> Outcome<Vec<Vec<String>>> {
    let store = Store::open(&folder.join(".sizewise"))?;
    let (mut kinds, mut names) = (Vec::new(), Vec::new());
    let trained = KINDS.min(tasks);
    for kind in 0..trained {
        let release = store.in_force(&name(kind))?.ok_or("a release")?;
        let parts = release.manifest.parts.iter();
        let parts = parts.map(|part| Ok((part.name.clone(), store.part(&release, &part.name)?)));
        let parts = parts.collect::<Result<Vec<_>, sizewise_store::Error>>()?;
        if !adapters || parts.iter().any(|(name, _)| name == ENCODER_ADAPTER) {
            names.push(vec![name(kind)]);
            kinds.push((release, parts));
        }
    }
    if adapters {
        println!("{} of {trained} trainings changed the encoder", kinds.len());
    }
    if kinds.is_empty() {
        return Err("no training changed the encoder".into());
    }
    for number in trained..tasks {
        let kind = number % kinds.len();
        let (release, parts) = &kinds[kind];
        let (old, new) = (&release.manifest.task, name(number));
        let line = |name: &str| format!("\nname = \"{name}\"\n");
        let task_file = release.manifest.task_file.replacen(&line(old), &line(&new), 1);
        let task = Task::parse(&task_file)?;
        if task.name != new {
            return Err(format!("the contract of {old} does not say its name").into());
        }
        std::fs::create_dir_all(folder.join("tasks").join(&new))?;
        std::fs::write(folder.join("tasks").join(&new).join("task.toml"), &task_file)?;
        store.publish(NewRelease {
            task_file: &task_file,
            task: &task,
            training_rows: release.manifest.training_rows,
            locked_rows: release.manifest.locked_rows,
            parts,
            made_by: &release.manifest.made_by,
        })?;
        names[kind].push(new);
    }
    Ok(names)
}

fn measure(folder: &Path, kinds: &[Vec<String>], rows: &[(String, String)]) -> Outcome<()> {
    let store = Arc::new(Store::open(&folder.join(".sizewise"))?);
    let settings = Settings { allow_uncertified: true, encoder_workers: 1, record: false };
    let engine = Engine::start(store, settings)?;
    let names = kinds.concat();
    let one = &names[..1];
    let fail = |problems: Vec<(String, sizewise_engine::Error)>| match problems.into_iter().next() {
        Some((name, error)) => Err(format!("{name}: {error}")),
        None => Ok(()),
    };
    fail(engine.load(one))?;
    let before = resident()?;
    let began = Instant::now();
    fail(engine.load(&names))?;
    let took = began.elapsed();
    let after = resident()?;
    let each = after.saturating_sub(before) as f64 / names.len().saturating_sub(1).max(1) as f64;
    println!("{} tasks loaded in {:.2} s", names.len(), took.as_secs_f64());
    println!(
        "resident memory of the engine: {:.0} MB with one task, {:.0} MB with all",
        mb(before),
        mb(after)
    );
    println!("that is {:.0} kB a task", each / 1e3);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut drawn = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        // xorshift64 (Marsaglia 2003): the same order of tasks in every run.
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        drawn as usize % below
    };
    // Time, and whether the encoder was asked.
    let ask = |task: &str, text: &str| -> Outcome<(f64, bool)> {
        let inputs = vec![InputValue::Text(text.to_owned())];
        let request = Request { task: task.into(), inputs, dry_run: true, ..Request::default() };
        let began = Instant::now();
        let decided = runtime.block_on(engine.decide(request))?;
        let took = began.elapsed().as_secs_f64() * 1e6;
        let path = decided.iter().flat_map(|decision| &decision.answers).flat_map(|answer| &answer.path);
        Ok((took, path.into_iter().any(|step| step.tier == Tier::Encoder)))
    };
    // The kinds are not equally large: both orders ask all of them equally often, with the same texts.
    let (mut alone, mut random) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for tasks in kinds {
            for number in 0..ASKED / kinds.len() {
                round.push(ask(&tasks[0], &rows[number * 7 % rows.len()].0)?);
            }
        }
        alone.add(&round);
        round.clear();
        for number in 0..ASKED / kinds.len() {
            for tasks in kinds {
                round.push(ask(&tasks[draw(tasks.len())], &rows[number * 7 % rows.len()].0)?);
            }
        }
        random.add(&round);
    }
    println!("p50 of a decision              one task after the other   tasks at random   ratio");
    for (what, alone, random) in [
        ("all", &alone.all, &random.all),
        ("static tier answers", &alone.by_static, &random.by_static),
        ("encoder is asked", &alone.by_encoder, &random.by_encoder),
    ] {
        let (alone, random) = (median(alone.clone()), median(random.clone()));
        println!("{what:<30}{alone:>22.1} µs{random:>15.1} µs{:>8.2}", random / alone);
    }
    Ok(())
}

/// Medians of rounds, in microseconds.
#[derive(Default)]
struct Figures {
    all: Vec<f64>,
    by_static: Vec<f64>,
    by_encoder: Vec<f64>,
}

impl Figures {
    fn add(&mut self, round: &[(f64, bool)]) {
        let of = |wanted: &dyn Fn(bool) -> bool| {
            median(round.iter().filter(|(_, encoder)| wanted(*encoder)).map(|(time, _)| *time).collect())
        };
        self.all.push(of(&|_| true));
        self.by_static.push(of(&|encoder| !encoder));
        self.by_encoder.push(of(&|encoder| encoder));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes of this process in memory.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("VmRSS")?;
    Ok(line.split_whitespace().next().ok_or("VmRSS")?.parse::<u64>()? * 1024)
}
