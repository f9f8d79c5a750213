//! Do memory, licence and the recipe keep a release from callers, and do settings and a reason let it through again?

use super::{Place, asked, send, two_releases};
use serde_json::{Value, json};
use sizewise_contract::{ContentHash, Task};
use sizewise_store::{NewRelease, Store};
use std::fs;

/// Promotes, and hands out the result of a gate and what is said of it.
fn promoted(place: &Place, release: &str, gate: &str, extra: &[&str]) -> (bool, String, String) {
    let told = asked(place, &[&["promote", "desk", release, "-o", "json"][..], extra].concat());
    let gates = told["certificates"][0]["gates"].as_array().unwrap();
    let found = gates.iter().find(|one| one["name"] == gate).unwrap();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (told["in_force"].as_bool().unwrap(), text("result"), text("found") + " | " + &text("hint"))
}

#[test]
fn a_release_is_refused_for_memory_licence_and_changed_evidence_until_that_is_cured() {
    let (place, other, live) = two_releases();
    let settings = |text: &str| fs::write(place.project().join("sizewise.toml"), text).unwrap();
    let shown = asked(&place, &["show", "desk", "-o", "json"]);
    let gates = shown["certificates"][0]["gates"].as_array().unwrap();
    for (name, part) in [
        ("memory", "no bound was set"),
        ("licence", "no list of licences was set"),
        ("reproducibility", "opened rows give the same threshold"),
    ] {
        let gate = gates.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(gate["result"], "pass", "{gate}");
        assert!(gate["found"].as_str().unwrap().contains(part), "{gate}");
    }

    // A list that was set later binds all the same, and the way out is the setting that is named.
    settings("[gates]\nlicences = [\"mit\"]\n");
    let (in_force, result, told) = promoted(&place, &other, "licence", &[]);
    assert_eq!((in_force, result.as_str()), (false, "refuse"), "{told}");
    place.run(&["trial", "begin", "desk", &other, "--canary"], 1);
    let cure = told.split("[gates] ").nth(1).unwrap().split(';').next().unwrap();
    settings(&format!("[gates]\n{cure}\n"));
    assert_eq!(promoted(&place, &other, "licence", &[]).1, "pass");

    // One of whom callers have answers goes on answering, whatever a look at it finds.
    settings("[gates]\nmax_memory_mb = 1\n");
    let (_, result, told) = promoted(&place, &other, "memory", &[]);
    assert!(result == "refuse" && told.contains("MB are allowed"), "{told}");
    let server = place.serve(&[]);
    assert_eq!(super::decide(&server, None), other);
    // In the console, where nobody can override it, the way out is told.
    place.run(&["trial", "begin", "desk", &live, "--shadow"], 0);
    let path = "/console/api/tasks/desk/trial";
    let (status, reply) = send(&server, "POST", path, "", &json!({ "act": "promote" }));
    assert!(status != 200 && reply.contains("memory") && reply.contains("max_memory_mb"), "{reply}");
    server.stop();
    let (in_force, result, _) = promoted(&place, &live, "memory", &["--override", "this machine has room"]);
    assert_eq!((in_force, result.as_str()), (true, "refuse"));
    let file = fs::read_to_string(place.project().join("tasks/desk/certificates/label.json")).unwrap();
    assert!(file.contains("this machine has room"));

    // Rows to learn from that grew are told; evidence that does not give the threshold refuses.
    settings("");
    let rows = place.project().join("tasks/desk/data/train.csv");
    fs::write(&rows, fs::read_to_string(&rows).unwrap() + "invoice refund please,bill\n").unwrap();
    let (in_force, result, told) = promoted(&place, &other, "reproducibility", &[]);
    assert!(in_force && result == "pass" && told.contains("data/train.csv changed since"), "{told}");
    let store = Store::open(&place.project().join(".sizewise")).unwrap();
    let id = ContentHash::parse(&live).unwrap();
    let mut kept: Value = store.mix_rows(&id, "label").unwrap().unwrap();
    for row in kept["gold"].as_array_mut().unwrap() {
        for tier in row["outcome"]["tiers"].as_array_mut().unwrap() {
            tier["right"] = json!(false);
        }
    }
    store.keep_mix_rows(&id, "label", &kept).unwrap();
    let (in_force, result, told) = promoted(&place, &live, "reproducibility", &[]);
    assert!(!in_force && result == "refuse" && told.contains("no threshold at all"), "{told}");

    // A release that does not say how it was made is refused as well.
    let made = store.release("desk", &live).unwrap();
    let kept = made.manifest.parts.iter().filter(|part| part.name != "recipe.json");
    let parts: Vec<(String, Vec<u8>)> =
        kept.map(|part| (part.name.clone(), store.part(&made, &part.name).unwrap())).collect();
    let new = NewRelease {
        task_file: &made.manifest.task_file,
        task: &Task::parse(&made.manifest.task_file).unwrap(),
        training_rows: made.manifest.training_rows,
        locked_rows: made.manifest.locked_rows,
        parts: &parts,
        made_by: "sizewise 0.0.9",
    };
    let without = store.publish(new).unwrap();
    let opening = store.begin_opening("desk", &ContentHash::of(b"rows"), &without.id, (1, None)).unwrap();
    store.finish_opening(opening.that_waits(true), &made.certificates).unwrap();
    let (in_force, result, told) = promoted(&place, &without.id.to_string(), "reproducibility", &[]);
    assert!(!in_force && result == "refuse" && told.contains("0.0.9 kept no recipe"), "{told}");
    let log = place.ask(&["audit", "list", "-o", "json"]);
    assert!(log.contains("gate.looked_again") && log.contains("gate.overridden"), "{log}");
}
