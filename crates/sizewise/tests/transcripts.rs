//! What does the command line say, word for word?
//!
//! Transcripts of commands on a small table. What differs from run to run (hashes, times, folders) is replaced by names.
//! After an intended change: `INSTA_UPDATE=always cargo test -p sizewise --test transcripts`, then read the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{fmt::Write, path::Path, process::Command};

/// Sixty messages of two teams and some strays, with what `init` should notice.
fn table() -> String {
    let mut table = String::from("id,message,team,urgent\n");
    for i in 0..240 {
        let (team, what) = match i % 8 {
            0 => ("none", "we offer cheap advertising for your shop"),
            1..=3 => ("billing", "the invoice for my order is wrong and I was charged too much"),
            4 => ("Delivery ", "the parcel with my order has not come"),
            _ => ("delivery", "the courier lost the parcel with my order"),
        };
        let (urgent, when) = if i % 5 == 0 { ("yes", "I need it today") } else { ("no", "take your time") };
        writeln!(table, "{i},\"{what}, case {i}, {when}\",{team},{urgent}").unwrap();
    }
    table.push_str("240,\"the invoice for my order is wrong and I was charged too much, case 1, take your time\",delivery,no\n");
    table
}

/// Runs a command and writes down what it said and how it ended.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sizewise"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("SIZEWISE_PROJECT")
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let text = format!("{out}{err}(exit code {code})\n");
    let text = text.replace(&*folder.canonicalize().unwrap().to_string_lossy(), "[FOLDER]");
    let text = without_hashes(&text.replace(&*folder.to_string_lossy(), "[FOLDER]"));
    format!("$ sizewise {}\n{}", arguments.join(" "), without_times(&text))
}

/// What a trained model says differs in its last digits from processor to processor: numbers become signs, columns one blank.
fn without_numbers(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("(exit code") {
            lines.push(line.to_owned());
            continue;
        }
        let mut out = String::new();
        for c in line.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
            match c {
                '0'..='9' if out.ends_with('#') => {}
                '0'..='9' => out.push('#'),
                '.' if out.ends_with('#') => {}
                c => out.push(c),
            }
        }
        // Which tiers answered at all hangs on the last digits too.
        lines.push(out.replace(": static #, encoder #", ": static #"));
    }
    lines.join("\n")
}

fn without_hashes(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() >= 12 && !out.ends_with('.') { "[HASH]" } else { &run });
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// Replaces moments, and numbers before a unit of time.
fn without_times(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for i in 1..words.len() {
            let unit = words[i].trim_end_matches(['.', ',', ':']).to_owned();
            if ["ms", "s", "µs", "min"].contains(&unit.as_str()) && words[i - 1].parse::<f64>().is_ok() {
                words[i - 1] = "[N]".into();
                words[i] = "[TIME]".into();
            }
            if unit == "UTC" && i >= 2 {
                words[i - 2] = "[DAY]".into();
                words[i - 1] = "[TIME]".into();
            }
        }
        // The width of a column follows the width of its times.
        let joined = words.join(" ");
        lines.push(if joined.contains("[TIME]") {
            joined.split_whitespace().collect::<Vec<_>>().join(" ")
        } else {
            joined
        });
    }
    lines.join("\n")
}

#[test]
fn the_help_names_every_command_and_exit_code() {
    insta::assert_snapshot!(told(Path::new("."), &["--help"]));
}

#[test]
fn a_task_from_its_table_to_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    std::fs::write(folder.path().join("tickets.csv"), table()).unwrap();
    let mut story = String::new();
    let mut trained = false;
    for arguments in [
        &["list"][..],
        &["init", "desk", "--from", "tickets.csv", "--max-served-error", "0.1"],
        &["init", "desk", "--from", "tickets.csv"],
        &["lint"],
        &["decide", "desk", "where is my parcel"],
        &["certify", "desk"],
        &["train", "desk", "--threads", "2"],
        &["certify", "desk", "--dry-run"],
        &["certify", "desk"],
        &["certify", "desk"],
        &["list"],
        &["show", "desk"],
        &["evaluate", "dsk"],
        &["queue", "list"],
        &["keys", "list"],
        &["rollback", "desk"],
        &["audit", "head"],
        &["audit", "verify"],
        &["audit", "verify", "--head", "9"],
        &["audit", "prove", "99"],
        &["audit", "export"],
        &["erase"],
        &["erase", "--subject", "customer-17"],
        &["retain"],
        &["-o", "json", "list"],
        &["-o", "json", "show", "nothing"],
    ] {
        trained |= arguments[0] == "train";
        let said = told(folder.path(), arguments);
        story += &if trained { without_numbers(&said) } else { said };
        story.push_str("\n\n");
    }
    insta::assert_snapshot!(story);
}

/// Messages of two teams. Every other one of the new customers' belongs to the team that its words do not speak of.
fn unequal_table() -> String {
    let mut table = String::from("message,team,segment\n");
    for i in 0..900 {
        let (team, other, what) = match i % 2 {
            0 => ("billing", "delivery", "the invoice for my order is wrong and I was charged too much"),
            _ => ("delivery", "billing", "the courier lost the parcel with my order"),
        };
        let segment = if i % 9 == 0 { "new" } else { "old" };
        let team = if segment == "new" && i / 18 % 2 == 0 { other } else { team };
        writeln!(table, "\"{what}, case {i}\",{team},{segment}").unwrap();
    }
    table
}

#[test]
fn a_promise_that_one_segment_does_not_keep_is_overridden_with_a_reason_or_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    std::fs::write(folder.path().join("tickets.csv"), unequal_table()).unwrap();
    let init = ["init", "desk", "--from", "tickets.csv", "--slice", "segment", "--max-served-error", "0.12"];
    let mut story = told(folder.path(), &init) + "\n\n";
    let mut tell = |arguments: &[&str]| story += &(without_numbers(&told(folder.path(), arguments)) + "\n\n");
    for arguments in [
        &["train", "desk", "--threads", "2"][..],
        &["certify", "desk", "--override", " "],
        &["certify", "desk"],
        &["list"],
        &["batch", "desk", "tickets.csv", "-o", "answers.csv"],
    ] {
        tell(arguments);
    }
    let shown = Command::new(env!("CARGO_BIN_EXE_sizewise"))
        .args(["show", "desk", "-o", "json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let release = shown["releases"][0]["release"].as_str().unwrap();
    for arguments in [
        &["promote", "desk", release][..],
        &["promote", "desk", release, "--override", "People read what new customers write"],
        &["list"],
        &["audit", "export", "-o", "audit.jsonl"],
    ] {
        tell(arguments);
    }
    let file = std::fs::read(folder.path().join("tasks/desk/certificates/team.json")).unwrap();
    let certificate: sizewise_contract::Certificate = serde_json::from_slice(&file).unwrap();
    let verdicts: Vec<_> =
        certificate.slices.iter().map(|slice| (slice.value.as_str(), slice.verdict)).collect();
    use sizewise_contract::SliceVerdict::{AsPromised, WorseThanPromised};
    assert_eq!(verdicts, [("new", WorseThanPromised), ("old", AsPromised)]);
    assert_eq!(certificate.overridden.unwrap().reason, "People read what new customers write");
    let acts = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(acts.contains("gate.overridden") && acts.contains("People read what new customers write"));
    for (said, times) in [
        ("--override needs a reason", 1),
        ("segment new", 3),
        ("team: certified, but not answered: a gate refuses it", 2),
        ("not certified", 1),
        ("is not put in force: a gate refuses it", 1),
        ("team: overridden by", 1),
        ("(exit code 100)", 2),
    ] {
        assert!(story.matches(said).count() >= times, "`{said}` is not said {times} times in:\n{story}");
    }
}

/// What a server left behind that recorded a program's calls: a hundred and fifty about tickets, and some free ones.
fn observed(folder: &Path) {
    use sizewise_contract::units::{MicroUsd, UnixMillis};
    use sizewise_learn::sites::{Call, Facts, Fixed, Said};
    let bounds = sizewise_store::ObservedBounds { rows: 1_000, bytes: 1 << 20 };
    let facts = |name: Option<&str>, system: &str| Facts {
        name: name.map(str::to_owned),
        protocol: "chat".into(),
        provider: "primary".into(),
        model: "primary".into(),
        key_id: None,
        fixed: Fixed { system: system.into(), ..Fixed::default() },
    };
    let mut calls = Vec::new();
    let mut add = |(place_id, facts): (&str, &Facts), row: i64, (text, said): (String, String)| {
        let at = UnixMillis(1_767_225_600_000 + row * 60_000);
        let call = Call {
            text,
            said: Said { text: Some(said), calls: Vec::new() },
            asked: "m-1".into(),
            model: "m-1-0613".into(),
            request: Some(format!("r{row}")),
            latency_us: 400_000,
            micro_usd: 900,
            is_estimate: false,
            at,
        };
        let place = serde_json::to_string(facts).unwrap();
        let (place_id, call) = (place_id.to_owned(), serde_json::to_string(&call).unwrap());
        calls.push(sizewise_store::ObservedCall { place_id, place, at, call, micro_usd: MicroUsd(900) });
    };
    let (tickets, free) =
        (facts(None, "You route the tickets of a shop."), facts(Some("summaries"), "Sum up."));
    for row in 0..150 {
        // The last ten ask once more, and of those one is answered otherwise.
        let case = if row >= 140 { row - 140 } else { row };
        let (team, what) = match case % 3 {
            0 => ("billing", "invoice of my order wrong, mail me at [EMAIL]"),
            1 => ("delivery", "the courier lost the parcel with my order"),
            _ => ("Delivery.", "my parcel has not come"),
        };
        let team = if row == 149 { "delivery" } else { team };
        let text = format!("Ticket: {what}, case {case}\nWhich team?");
        add(("0a1b2c3d4e5f", &tickets), row, (text, team.to_owned()));
        if row < 30 {
            add(("free", &free), row, (format!("text {row}"), format!("It says {row} and more.")));
        }
    }
    sizewise_store::Store::open(&folder.join(".sizewise")).unwrap();
    sizewise_store::SiteWriter::open(&folder.join(".sizewise"), bounds).unwrap().write(&calls).unwrap();
}

#[test]
fn what_a_program_asks_becomes_a_task() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sizewise.toml"), "").unwrap();
    let mut story = told(folder.path(), &["discover"]) + "\n\n";
    let provider =
        "[provider.primary]\nurl = \"http://127.0.0.1:9/v1\"\nmodel = \"m-1\"\nprice_in = 1\nprice_out = 2\n";
    let relay =
        "[relay]\nproviders = [\"primary\"]\nobserve = \"redacted\"\nbudget = { usd_per_day = 2.5 }\n";
    std::fs::write(folder.path().join("sizewise.toml"), format!("{provider}{relay}")).unwrap();
    observed(folder.path());
    let listed = Command::new(env!("CARGO_BIN_EXE_sizewise"))
        .args(["discover", "-o", "json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let site = listed["sites"][0]["id"].as_str().unwrap();
    for arguments in [
        &["discover"][..],
        &["discover", "--show", site],
        &["init", "desk", "--from-site", "sumaries"],
        &["init", "desk", "--from-site", "summaries"],
        &["init", "desk", "--from-site", site, "--from", "tickets.csv"],
        &["init", "desk", "--from-site", site],
        &["init", "desk", "--from-site", site],
        &["lint"],
    ] {
        story += &told(folder.path(), arguments);
        story.push_str("\n\n");
    }
    let file = std::fs::read_to_string(folder.path().join("tasks/desk/task.toml")).unwrap();
    story += &without_hashes(&format!("$ cat tasks/desk/task.toml\n{file}"));
    insta::assert_snapshot!(story);
}

#[test]
fn calls_that_make_no_sense_say_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let mut story = String::new();
    for arguments in [
        &["init", "No Such Name", "--from", "x.csv"][..],
        &["init", "desk", "--from", "missing.csv"],
        &["init", "desk", "--from", "table.xlsx"],
        &["train", "desk"],
        &["serve"],
        &["-o", "a.csv", "list"],
        &["audit", "list"],
        &["--project", "nowhere", "list"],
        &["frobnicate"],
    ] {
        story += &told(folder.path(), arguments);
        story.push_str("\n\n");
    }
    insta::assert_snapshot!(story);
}
