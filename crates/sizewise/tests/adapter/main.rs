//! Does a task that changes a shared encoder answer, certify and leave the house as one with an encoder of its own does?
//!
//! The real program on two tasks of the bundled example, one with what low-rank training changed kept beside the encoder, one with
//! the same changes in a copy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use serde_json::Value;
use sizewise_engine::{ENCODER_ADAPTER, ENCODER_PARTS};
use sizewise_store::{Release, Store};
use std::{fs, path::Path, process::Command};

struct Place(tempfile::TempDir);

impl Place {
    /// A project with the same rows of two teams under two names.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("example/tickets.csv");
        let table = fs::read_to_string(file).unwrap();
        let (head, rows) = table.split_once('\n').unwrap();
        let of = |team: &str| {
            rows.lines().filter(|row| row.contains(team)).take(60).map(str::to_owned).collect::<Vec<_>>()
        };
        let rows = [of(",billing"), of(",returns")].concat().join("\n");
        fs::write(place.0.path().join("rows.csv"), format!("{head}\n{rows}\n")).unwrap();
        for task in ["beside", "inside"] {
            place.done(&["init", task, "--from", "rows.csv", "--text", "message", "--label", "team"]);
        }
        place
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sizewise"));
        command.args(arguments).args(["-o", "json"]).current_dir(self.0.path());
        let output = command.env_remove("SIZEWISE_PROJECT").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) {
        let (done, said) = self.run(arguments);
        assert!(done, "{arguments:?}: {said}");
    }

    /// Of rows that the encoder of their fold has not seen.
    fn accuracy_of_encoder(&self, release: &Release) -> f64 {
        let store = Store::open(&self.0.path().join(".sizewise")).unwrap();
        let summary: Value = serde_json::from_slice(&store.part(release, "summary.json").unwrap()).unwrap();
        let tiers = summary["questions"][0]["tiers"].as_array().unwrap().clone();
        let tier = tiers.into_iter().find(|tier| tier["tier"] == "encoder").unwrap();
        tier["accuracy"]["value"].as_f64().unwrap()
    }

    fn release(&self, task: &str) -> Release {
        let store = Store::open(&self.0.path().join(".sizewise")).unwrap();
        store.latest(task).unwrap().unwrap()
    }
}

fn size_of_encoder(release: &Release) -> u64 {
    release.manifest.parts.iter().filter(|p| p.name.starts_with("encoder/")).map(|part| part.size).sum()
}

#[test]
fn an_adapter_serves_is_judged_and_leaves_the_house_inside_the_matrices() {
    let place = Place::new();
    let train = |task: &str, more: &[&str]| {
        let call = ["train", task, "--adapt", "lora", "--rank", "4", "--epochs", "1"];
        place.run(&[&call, more].concat())
    };
    let (done, said) = place.run(&["train", "beside", "--adapt", "full", "--as-adapter"]);
    assert!(!done && said.contains("--adapt lora"), "{said}");
    for (task, more) in [("beside", &["--as-adapter"][..]), ("inside", &[])] {
        let (done, said) = train(task, more);
        assert!(done, "{said}");
    }
    let (beside, inside) = (place.release("beside"), place.release("inside"));
    let has = |release: &Release, name: &str| release.manifest.parts.iter().any(|part| part.name == name);
    assert!(has(&beside, ENCODER_ADAPTER) && !has(&beside, ENCODER_PARTS[0]));
    assert!(has(&inside, ENCODER_PARTS[0]) && !has(&inside, ENCODER_ADAPTER));
    assert!(size_of_encoder(&beside) < 400_000, "{}", size_of_encoder(&beside));
    assert!(size_of_encoder(&inside) > 20_000_000, "{}", size_of_encoder(&inside));
    let accuracies = [&beside, &inside].map(|release| place.accuracy_of_encoder(release));
    assert!(accuracies[0] > 0.8 && (accuracies[0] - accuracies[1]).abs() < 0.03, "{accuracies:?}");
    for task in ["beside", "inside"] {
        // Whether it is sure enough to answer is not what is asked here.
        let (_, said) = place.run(&["decide", task, "why is the fee on my invoice", "--allow-uncertified"]);
        assert!(said.contains("\"confidence\""), "{said}");
    }
    // Too few rows to promise anything, but they are judged.
    let (_, said) = place.run(&["certify", "beside", "--anyway"]);
    assert!(said.contains("certificates/team.json"), "{said}");
    // Other programs and pruning know nothing of adapters: what was changed is then in the matrices.
    place.done(&["models", "export", "beside", "-o", "exported"]);
    let weights = fs::metadata(place.0.path().join("exported/model.safetensors")).unwrap().len();
    assert!(weights > 80_000_000, "{weights}");
    place.done(&["models", "quantize", "exported", "--to", "int4", "-o", "small"]);
    let weights = fs::metadata(place.0.path().join("small/model.safetensors")).unwrap().len();
    assert!(weights < 14_000_000, "{weights}");
}
