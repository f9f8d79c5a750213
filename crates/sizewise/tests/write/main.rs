//! Do labels with few rows get texts, whatever the model does and whenever the program is stopped, and does no gold row leak?
//!
//! A model of our own behind the real protocol, and the real program: it is refused, held up, killed, interrupted and runs out of money,
//! and the files say each time what was paid for.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod provider;

use provider::Desk;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

const TEAMS: [&str; 4] = ["billing", "returns", "membership", "privacy_data"];
/// Rows of each team to learn from, and gold ones.
const ROWS: (usize, usize) = (8, 60);
const ENDLESS: usize = usize::MAX / 2;

/// A project with a task of few rows, and a server that knows the others.
struct Place {
    folder: tempfile::TempDir,
    desk: Arc<Desk>,
    url: String,
}

impl Place {
    fn new() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("example/tickets.csv");
        let mut table = sizewise_learn::table::TableReader::open(&file).unwrap();
        let place = |name: &str| table.columns().iter().position(|column| column == name).unwrap();
        let (message, team) = (place("message"), place("team"));
        let mut by_team: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut row = Vec::new();
        while table.next_row(&mut row).unwrap().is_some() {
            if TEAMS.contains(&row[team].as_str()) {
                by_team.entry(row[team].clone()).or_default().push(row[message].clone());
            }
        }
        let (mut train, mut gold) = ("message,team\n".to_owned(), "message,team\n".to_owned());
        let mut desk = Desk { patience: ENDLESS.into(), ..Desk::default() };
        for (team, mut texts) in by_team {
            let line = |text: &String| format!("\"{}\",{team}\n", text.replace('"', "\"\""));
            desk.teams.extend(texts.iter().map(|text| (text.clone(), team.clone())));
            let rest = texts.split_off(ROWS.0 + ROWS.1);
            train.extend(texts[..ROWS.0].iter().map(line));
            gold.extend(texts[ROWS.0..].iter().map(line));
            desk.gold.get_mut().unwrap().extend(texts[ROWS.0..].iter().cloned());
            desk.stock.get_mut().unwrap().insert(team, rest);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.csv"), train).unwrap();
        fs::write(folder.path().join("gold.csv"), gold).unwrap();
        let desk = Arc::new(desk);
        let place = Self { folder, url: desk.listen(), desk };
        let init = [
            "init",
            "desk",
            "--from",
            "train.csv",
            "--gold",
            "gold.csv",
            "--text",
            "message",
            "--label",
            "team",
        ];
        place.done(&init);
        place
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sizewise"));
        command.args(arguments).args(["-o", "json"]).current_dir(self.folder.path());
        command.env_remove("SIZEWISE_PROJECT").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&said).unwrap()
    }

    /// The call that has texts written, and more.
    fn write<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let call =
            ["write", "desk", "--url", &self.url, "--model", "writer", "--price-in", "1", "--price-out", "2"];
        [&call[..], &["--gold-check", "10"], more].concat()
    }

    /// Texts of a file of lines.
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("tasks/desk").join(name)).unwrap_or_default();
        // A line that a kill cut off is none.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn table(&self, name: &str) -> Vec<(String, String)> {
        let path = self.folder.path().join("tasks/desk/data").join(name);
        let mut table = sizewise_learn::table::TableReader::open(&path).unwrap();
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        while table.next_row(&mut row).unwrap().is_some() {
            rows.push((row[0].clone(), row[1].clone()));
        }
        rows
    }

    /// A part of the latest release.
    fn part_of_a_release(&self, name: &str) -> Value {
        let store = sizewise_store::Store::open(&self.folder.path().join(".sizewise")).unwrap();
        let release = store.latest("desk").unwrap().unwrap();
        serde_json::from_slice(&store.part(&release, name).unwrap()).unwrap()
    }

    /// What the server's tokens cost, in micro-dollars.
    fn billed(&self) -> u64 {
        let (read, written) = *self.desk.tokens.lock().unwrap();
        read + 2 * written
    }

    /// What the ledger says, in micro-dollars.
    fn spent(&self) -> u64 {
        let mut calls = HashMap::new();
        for line in self.lines("data/teacher-spent.jsonl") {
            for kind in ["reserved", "settled"] {
                if let Some(entry) = line.get(kind) {
                    calls.insert(entry["call"].as_u64().unwrap(), entry["micro_usd"].as_u64().unwrap());
                }
            }
        }
        calls.values().sum()
    }

    fn wait_for(&self, child: &mut Child, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
            assert!(child.try_wait().unwrap().is_none(), "the program ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// No request shows a locked row, and none but a question about it a development row.
    fn nothing_leaked(&self) {
        let asked = self.desk.asked.lock().unwrap();
        let shown = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_lowercase();
        for (text, _) in self.table("locked.csv") {
            let text = shown(&text);
            assert!(!asked.iter().any(|body| body.to_lowercase().contains(&text)), "{text}");
        }
        let writes: Vec<&String> = asked.iter().filter(|body| body.contains("\"texts\"")).collect();
        assert!(!writes.is_empty());
        for (text, _) in self.table("dev.csv") {
            let text = shown(&text);
            assert!(!writes.iter().any(|body| body.to_lowercase().contains(&text)), "{text}");
        }
    }
}

#[test]
fn what_was_written_before_a_kill_is_kept_and_no_gold_row_leaks() {
    let place = Place::new();
    let gold = ["dev.csv", "locked.csv"].map(|name| place.table(name));
    let terms = place.run(&place.write(&["--budget", "5"]));
    let said = String::from_utf8_lossy(&terms.stdout).into_owned();
    assert!(!terms.status.success() && said.contains("--accept-terms"), "{said}");
    let far = ["write", "desk", "--url", "https://host.example/v1", "--model", "writer", "--accept-terms"];
    let said = String::from_utf8_lossy(&place.run(&far).stdout).into_owned();
    assert!(said.contains("may not leave for host.example") && said.contains("may_leave"), "{said}");
    let planned = place.done(&place.write(&["--budget", "5", "--dry-run"]));
    assert_eq!(planned["planned"]["texts"].as_u64().unwrap(), 4 * 22);
    assert!(
        place.desk.asked.lock().unwrap().is_empty() && place.lines("data/written-drafts.jsonl").is_empty()
    );

    // The model falls silent in the middle of the second look, and the program is killed.
    place.desk.patience.store(10 + 8 + 12, Ordering::Relaxed);
    let budget = ["--budget", "5", "--accept-terms"];
    let mut child = place.command(&place.write(&budget)).stdout(Stdio::null()).spawn().unwrap();
    place.wait_for(&mut child, |place| {
        place.lines("data/written-labels.jsonl").len() == 12
            && place.lines("data/written-drafts.jsonl").len() == 8
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let before = place.spent();
    assert!(before >= place.billed(), "what was under way counts as spent: {before} {}", place.billed());
    let drafts = place.lines("data/written-drafts.jsonl");
    place.desk.generation.fetch_add(1, Ordering::Relaxed);
    place.desk.patience.store(ENDLESS, Ordering::Relaxed);
    let result = place.done(&place.write(&["--budget", "5"]));
    assert!(["enough", "repeats"].contains(&result["ended"].as_str().unwrap()), "{result}");
    assert_eq!(place.lines("data/written-drafts.jsonl")[..8], drafts[..], "nothing is paid for twice");
    let labelled = place.desk.labelled.lock().unwrap().values().filter(|times| **times > 1).count();
    assert_eq!(labelled, 0, "who answered is not asked again");
    assert!(place.spent() >= place.billed() && place.spent() <= 5_000_000);
    place.nothing_leaked();

    let left_out = &result["left_out"];
    for reason in ["unusable", "training", "contradicted"] {
        assert!(left_out[reason].as_u64().unwrap() > 0, "{reason}: {result}");
    }
    assert!(left_out["dev"].as_u64().unwrap() + left_out["locked"].as_u64().unwrap() > 8, "{result}");
    let rows = place.lines("data/written.jsonl");
    assert_eq!(rows.len() as u64, result["kept"].as_u64().unwrap());
    assert!(rows.len() > 60, "{result}");
    let known: HashSet<String> =
        gold.iter().flatten().chain(&place.table("train.csv")).map(|(text, _)| text.to_lowercase()).collect();
    for row in &rows {
        let text = row["text"].as_str().unwrap();
        assert_eq!(place.desk.teams[text], row["labels"]["team"].as_str().unwrap(), "{text}");
        assert!(!known.contains(&text.to_lowercase()) && !text.contains('<'), "{text}");
        assert_eq!((row["source"].as_str(), row["model"].as_str()), (Some("teacher"), Some("writer-1")));
        assert!(["new", "paraphrase"].contains(&row["written"].as_str().unwrap()));
        assert_eq!(row["date"].as_str().unwrap().len(), 10);
        assert!(!row["shown"].as_array().unwrap().is_empty());
    }
    let again = place.done(&place.write(&["--budget", "5"]));
    assert_eq!(
        (&again["kept"], &again["spent"]),
        (&result["kept"], &result["spent"]),
        "there is no more to do"
    );

    let trained = place.done(&["train", "desk"]);
    let summary = &trained["summary"];
    assert_eq!(summary["rows"].as_u64().unwrap() as usize, TEAMS.len() * ROWS.0, "they are no rows");
    assert_eq!(summary["written"]["texts"].as_u64().unwrap() as usize, rows.len());
    let tried = summary["written"]["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 3);
    assert!(
        tried.iter().all(|way| way["right"]["of"] == tried[0]["right"]["of"]),
        "the same rows judge all: {tried:?}"
    );
    let judged = tried[0]["right"]["of"].as_u64().unwrap() as usize;
    assert_eq!(judged, TEAMS.len() * ROWS.0 + gold[0].len(), "no text that was written judges anything");
    let recipe = place.part_of_a_release("recipe.json");
    assert!(recipe["tables"].to_string().contains("data/written.jsonl"), "{recipe}");
    assert_eq!(gold, ["dev.csv", "locked.csv"].map(|name| place.table(name)));
}

#[test]
fn the_budget_holds_and_an_interrupted_call_keeps_what_it_has() {
    let place = Place::new();
    // A text costs its label too: what is written last may not be looked at.
    let result = place.done(&place.write(&["--budget", "0.03", "--accept-terms"]));
    assert_eq!(result["ended"], "budget", "{result}");
    assert!(
        place.spent() <= 30_000 && place.billed() <= place.spent(),
        "{} {}",
        place.billed(),
        place.spent()
    );
    assert_eq!(place.lines("data/written.jsonl").len() as u64, result["kept"].as_u64().unwrap());
    let before = place.lines("data/written-drafts.jsonl").len();

    place.desk.patience.store(3, Ordering::Relaxed);
    let mut child = place.command(&place.write(&["--budget", "5"])).stdout(Stdio::piped()).spawn().unwrap();
    place.wait_for(&mut child, |place| place.desk.patience.load(Ordering::Relaxed) == 0);
    // The calls under way end, as they are paid for; no other is begun.
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    place.desk.patience.store(ENDLESS, Ordering::Relaxed);
    let mut output = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut output).unwrap();
    let code = child.wait().unwrap().code();
    assert!(code.is_some_and(|code| code != 0), "{code:?} {output}");
    assert!(output.contains("\"stopped\"") && !place.lines("data/written.jsonl").is_empty(), "{output}");
    assert!(place.lines("data/written-drafts.jsonl").len() >= before);
    let result = place.done(&place.write(&["--budget", "5"]));
    assert!(["enough", "repeats"].contains(&result["ended"].as_str().unwrap()), "{result}");
    place.nothing_leaked();
}
