//! Does every bad input get an error that names the place and a way out, and does nothing half-written remain?

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver;

use driver::{Server, TASK, TEXT, certified, command, files, largest_object, rows, run, table, trained};
use std::{fs, path::Path, process::Stdio, time::Duration};

/// What stands before every hint.
const WAY_OUT: &str = "way out: ";

/// A table of 300 rows with `row` as row 50, which is line 51.
fn with_row(row: &[u8]) -> Vec<u8> {
    let all = rows(300);
    let (before, after) = all.split_at(49);
    [table(before).as_bytes(), row, after.concat().as_bytes()].concat()
}

fn task_file(project: &Path, task: &str) -> String {
    fs::read_to_string(project.join("tasks").join(task).join("task.toml")).unwrap()
}

#[test]
fn a_table_that_cannot_be_read_makes_no_task() {
    let project = tempfile::tempdir().unwrap();
    let huge = format!("\"{}\",bill\n", "x y ".repeat(300_000));
    let one_column: String =
        rows(50).iter().map(|row| format!("{}\n", row.split(',').next().unwrap())).collect();
    let binary: Vec<u8> =
        (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    let utf16: Vec<u8> =
        "\u{feff}text,label\nhello,bill\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("empty.csv", Vec::new(), &["the file is empty", "the first row must name the columns"]),
        ("header.csv", b"text,label\n".to_vec(), &["a header but no rows", "text, label"]),
        ("huge.csv", with_row(huge.as_bytes()), &["row 50, column `text`", "1048576 bytes"]),
        ("latin.csv", with_row(b"caf\xe9 closed,ship\n"), &["line 51 is not UTF-8", "iconv"]),
        ("binary.csv", binary, &["line 1 is not UTF-8", "iconv"]),
        ("zeros.csv", vec![0; 20_000], &["line 1 holds a zero byte", "binary"]),
        ("zero.csv", with_row(b"a\0b,ship\n"), &["line 51 holds a zero byte", "binary"]),
        ("utf16.csv", utf16, &["UTF-16", "iconv"]),
        (
            "long.csv",
            with_row(b"late,ship,more\n"),
            &["line 51 has 3 cells, the header has 2", "quotation marks"],
        ),
        ("short.csv", with_row(b"late\n"), &["line 51 has 1 cell, the header has 2"]),
        ("open.csv", with_row(b"\"late,ship\n"), &["line 51 has 1 cell", "quotation marks"]),
        (
            "twice.csv",
            table(&rows(9)).replacen("label", "text", 1).into_bytes(),
            &["two columns are called `text`"],
        ),
        ("unnamed.csv", table(&rows(9)).replacen("text", "", 1).into_bytes(), &["column 1 has no name"]),
        ("one.csv", one_column.into_bytes(), &["no label column was found", "--label"]),
        (
            "broken.jsonl",
            b"{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\n".to_vec(),
            &["line 2 is not a JSON object"],
        ),
        ("broken.parquet", vec![b'x'; 500], &["not a Parquet file"]),
        ("rows.xlsx", b"PK\x03\x04".to_vec(), &["`.xlsx` names no table format", ".csv"]),
    ];
    for (name, bytes, parts) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        run(project.path(), &["init", "new", "--from", path]).refused(1, &[path, WAY_OUT]).refused(1, parts);
        assert!(files(project.path()).is_empty(), "{name}: {:?}", files(project.path()));
    }
}

#[test]
fn a_byte_order_mark_and_quoted_line_breaks_are_read() {
    let project = tempfile::tempdir().unwrap();
    let quoted: Vec<String> = rows(300)
        .iter()
        .map(|row| {
            let (text, label) = row.split_once(',').unwrap();
            format!("\"{text},\nsecond \"\"line\"\"\",{label}")
        })
        .collect();
    for (name, text) in [("mark", format!("\u{feff}{}", table(&rows(300)))), ("quoted", table(&quoted))] {
        let path = project.path().join(format!("{name}.csv"));
        fs::write(&path, text).unwrap();
        run(project.path(), &["init", name, "--from", path.to_str().unwrap()]).done();
        assert!(task_file(project.path(), name).contains("fields = [\"text\"]"));
        run(project.path(), &["lint", name]).done();
    }
    let kept = fs::read_to_string(project.path().join("tasks/quoted/data/train.csv")).unwrap();
    assert!(kept.contains(",\nsecond \"\"line\"\"\","), "{kept}");
}

#[test]
fn labels_in_several_spellings_are_joined_and_the_joining_is_told() {
    let project = tempfile::tempdir().unwrap();
    let spellings = [",bill\n", ",Bill\n", ", bill \n", ",BILL\n"];
    let written: Vec<String> =
        rows(300).iter().enumerate().map(|(i, row)| row.replace(",bill\n", spellings[i / 3 % 4])).collect();
    fs::write(project.path().join("rows.csv"), table(&written)).unwrap();
    let told = run(project.path(), &["init", "joined", "--from", "rows.csv"]).done().out;
    assert!(told.contains("`bill` is also written `BILL` (25), `Bill` (25); joined"), "{told}");
    assert_eq!(task_file(project.path(), "joined").matches("{ value = ").count(), 3);
    run(project.path(), &["init", "apart", "--from", "rows.csv", "--keep-case"]).done();
    assert_eq!(task_file(project.path(), "apart").matches("{ value = ").count(), 5);
}

#[test]
fn labels_with_too_few_rows_are_told_and_not_trained() {
    let project = tempfile::tempdir().unwrap();
    let all = rows(300);
    let lonely = format!("{}a row like no other,lonely\n", table(&all));
    fs::write(project.path().join("lonely.csv"), lonely).unwrap();
    let told = run(project.path(), &["init", "lonely", "--from", "lonely.csv"]).done().out;
    assert!(
        told.contains("too few rows to learn or to test") && told.contains("label: lonely (1)"),
        "{told}"
    );
    run(project.path(), &["train", "lonely"])
        .refused(1, &["class `lonely` of question `label`: 1 rows, at least 2 are needed", WAY_OUT]);

    let (gold, from) = all.split_at(150);
    let gold: Vec<String> = gold
        .iter()
        .enumerate()
        .map(|(i, row)| if i < 60 { row.replace(",tech", ",legal") } else { row.clone() })
        .collect();
    fs::write(project.path().join("gold.csv"), table(&gold)).unwrap();
    fs::write(project.path().join("from.csv"), table(from)).unwrap();
    let told = run(project.path(), &["init", "gold", "--from", "from.csv", "--gold", "gold.csv"]).done().out;
    assert!(told.contains("labels that only the gold rows have: label: legal (20)"), "{told}");
    run(project.path(), &["train", "gold"])
        .refused(1, &["class `legal` of question `label`: 0 rows", WAY_OUT]);
    run(project.path(), &["decide", "gold", TEXT]).refused(1, &["has no release yet", "sizewise train gold"]);
}

#[test]
fn columns_that_are_not_there_are_named_with_those_that_are() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("rows.csv"), table(&rows(300))).unwrap();
    let gold: String = rows(30).iter().map(|row| row.replacen(',', ";", 1)).collect();
    fs::write(project.path().join("gold.csv"), format!("text;kind\n{gold}")).unwrap();
    let before = files(project.path());
    for (arguments, parts) in [
        (["--text", "txt"], ["rows.csv: it has no column `txt`", "did you mean `text`?"]),
        (["--label", "labl"], ["rows.csv: it has no column `labl`", "did you mean `label`?"]),
        (["--group", "customer"], ["no column `customer`", "its columns are: text, label"]),
        (["--time", "when"], ["no column `when`", "its columns are: text, label"]),
        (["--gold", "gold.csv"], ["gold.csv: it has no column `label`", "its columns are: text, kind"]),
    ] {
        let call = [&["init", "new", "--from", "rows.csv"][..], &arguments[..]].concat();
        run(project.path(), &call).refused(1, &parts).refused(1, &[WAY_OUT]);
        assert_eq!(files(project.path()), before);
    }
}

#[test]
fn calls_that_make_no_sense_end_with_2_and_change_nothing() {
    let folder = certified();
    let project = folder.path();
    fs::write(project.join("rows.csv"), table(&rows(30))).unwrap();
    let before = files(project);
    let calls: &[(&[&str], &[&str])] = &[
        (&["init", TASK, "--from", "rows.csv"], &["task.toml exists", "--force"]),
        (&["init", "../out", "--from", "rows.csv"], &["`../out` cannot name a task", "support-desk"]),
        (
            &["init", "new", "--from", "rows.csv", "--locked-share", "2"],
            &["--locked-share", "between 0 and 1"],
        ),
        (&["init", "new", "--from", "rows.csv", "--teacher"], &["--gold"]),
        (&["init", "new", "--from", "rows.csv", "--golden", "x"], &["--golden", "--gold"]),
        (&["train", "dessk"], &["no task is called `dessk`", "did you mean `desk`?"]),
        (&["decide", TASK], &["<INPUT>"]),
        (&["decide", TASK, TEXT, "--nearest", "many"], &["many", "--nearest"]),
        (&["batch", TASK, "rows.csv"], &["-o out.csv"]),
        (&["batch", TASK, "rows.csv", "--force", "-o", "rows.csv"], &["would replace the input"]),
        (&["serve", "--bind", "127.0.0.1:99999"], &["127.0.0.1:99999", "--bind"]),
        (&["forget"], &["forget"]),
    ];
    for (call, parts) in calls {
        run(project, call).refused(2, parts);
        assert_eq!(files(project), before, "{call:?}");
    }
    assert_eq!(fs::read_to_string(project.join("rows.csv")).unwrap(), table(&rows(30)));
}

#[test]
fn a_batch_over_a_table_that_does_not_fit_writes_no_output() {
    let folder = certified();
    let project = folder.path();
    let all = table(&rows(300));
    let row = |row: &str| format!("{}{row}{}", table(&rows(300)[..279]), rows(300)[279..].concat());
    for (name, text, parts) in [
        ("column.csv", all.replacen("text", "txt", 1), ["no column `text`", "did you mean `txt`?"]),
        ("empty.csv", String::new(), ["the file is empty", "name the columns"]),
        ("ragged.csv", row("late,ship,more\n"), ["line 281 has 3 cells", "quotation marks"]),
    ] {
        fs::write(project.join(name), text).unwrap();
        run(project, &["batch", TASK, name, "-o", "out.csv"]).refused(1, &[name, WAY_OUT]).refused(1, &parts);
        assert!(!project.join("out.csv").exists(), "{name}");
        assert!(!project.join("out.csv.part").exists(), "{name}: nothing was begun");
    }
}

#[test]
fn a_batch_marks_the_rows_that_cannot_be_read_and_goes_on() {
    let folder = certified();
    let project = folder.path();
    let mut lines = rows(300);
    lines[10] = " ,ship\n".into();
    lines[279] = format!("\"{}\",ship\n", "late parcel ".repeat(30_000));
    fs::write(project.join("in.csv"), table(&lines)).unwrap();
    run(project, &["batch", TASK, "in.csv", "-o", "out.jsonl"]).done();
    let output = fs::read_to_string(project.join("out.jsonl")).unwrap();
    let disposition = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["label_disposition"].as_str().unwrap().to_owned()
    };
    let dispositions: Vec<String> = output.lines().map(disposition).collect();
    assert_eq!(dispositions.len(), 300);
    assert_eq!(dispositions[10], "input_invalid");
    assert_eq!(dispositions[279], "input_too_long");
    assert_eq!(dispositions.iter().filter(|said| said.starts_with("input")).count(), 2);
}

#[test]
fn a_batch_replaces_an_existing_output_only_when_told_to() {
    let folder = certified();
    let project = folder.path();
    fs::write(project.join("in.csv"), table(&rows(30))).unwrap();
    fs::write(project.join("out.csv"), "precious").unwrap();
    run(project, &["batch", TASK, "in.csv", "-o", "out.csv"])
        .refused(2, &["out.csv exists", "--force", WAY_OUT]);
    assert_eq!(fs::read_to_string(project.join("out.csv")).unwrap(), "precious");
    run(project, &["batch", TASK, "in.csv", "-o", "out.csv", "--force"]).done();
    assert_eq!(fs::read_to_string(project.join("out.csv")).unwrap().lines().count(), 31);
}

#[test]
fn a_batch_that_was_killed_goes_on_and_gives_the_same_table() {
    let folder = certified();
    let project = folder.path();
    fs::write(project.join("in.csv"), table(&rows(2_000))).unwrap();
    run(project, &["batch", TASK, "in.csv", "-o", "whole.csv"]).done();
    let mut call = command(project, &["batch", TASK, "in.csv", "-o", "out.csv", "--quiet"]);
    let mut child = call.stdout(Stdio::null()).spawn().unwrap();
    while !project.join("out.csv.progress").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!project.join("out.csv").exists());
    let told = run(project, &["batch", TASK, "in.csv", "-o", "out.csv"]).done().err;
    assert!(told.contains("going on after row"), "{told}");
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap();
    assert_eq!(read("out.csv"), read("whole.csv"));
    let left = files(project);
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("out.csv.")), "{left:?}");
}

#[test]
fn a_task_file_that_breaks_a_rule_is_refused_with_the_key() {
    let folder = trained();
    let project = folder.path();
    let path = project.join("tasks").join(TASK).join("task.toml");
    let good = fs::read_to_string(&path).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "max_served_error",
            "max_served_eror",
            &["unknown key `max_served_eror` in [promise]", "did you mean `max_served_error`?"],
        ),
        (
            "on_overflow",
            "on_overflw",
            &["unknown key `on_overflw` in [input]", "did you mean `on_overflow`?"],
        ),
        ("[cascade]", "[cascde]", &["unknown key `cascde`", "did you mean `cascade`?"]),
        (
            "max_served_error = 0.2",
            "max_served_error = \"low\"",
            &["line 28, column 20", "max_served_error", "expected"],
        ),
        ("fields = [\"text\"]", "fields = \"text\"", &["line 8, column 10", "fields", "expected"]),
        ("confidence = 0.95", "confidence = 1.5", &["promise.confidence", "between 0 and 1"]),
        (
            "data/train.csv",
            "../../rows.csv",
            &["data.train", "`../../rows.csv` is not a path below the task file"],
        ),
        ("data/locked.csv", "/etc/hosts", &["data.locked", "`/etc/hosts` is not a path below the task file"]),
        ("{ value = \"bill\" }", "{ value = \"ship\" }", &["question `label`: `ship` stands twice"]),
        ("schema = 1", "schema = 9", &["schema", "reads schema 1, not 9"]),
        ("[promise]", "[promise", &["line 27, column 9", "[promise"]),
    ];
    for (from, to, parts) in cases {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        run(project, &["train", TASK]).refused(2, &["task.toml: "]).refused(2, parts);
        let told = run(project, &["lint"]);
        assert_eq!(told.code, 1, "{}", told.out);
        assert!(parts.iter().all(|part| told.out.contains(part)), "{}", told.out);
    }
    fs::write(project.join("sizewise.toml"), "[serve]\nbnd = \"127.0.0.1:1\"\n").unwrap();
    run(project, &["list"]).refused(2, &["sizewise.toml", "line 2", "`bnd`", "`bind`"]);
}

/// What a damaged store makes of the commands that need it: each names the damage and a way out.
fn damaged(project: &Path, parts: &[&str], commands: &[&[&str]]) {
    for command in commands {
        run(project, command).refused(1, parts);
    }
    let told = run(project, &["doctor"]);
    assert_eq!(told.code, 1, "{}", told.out);
    assert!(told.out.contains("wrong") && told.out.contains("way out: "), "{}", told.out);
    assert!(parts.iter().all(|part| told.out.contains(part)), "{}", told.out);
    // A server that overlooks the damage ends too: nothing lets it listen on that address.
    let told = run(project, &["serve", "--bind", "0.0.0.0:0"]).refused(1, &[]).err;
    assert!(parts.iter().filter(|part| **part != WAY_OUT).all(|part| told.contains(part)), "{told}");
}

#[test]
fn a_damaged_model_is_named_and_training_again_repairs_it() {
    let folder = certified();
    let project = folder.path();
    let object = largest_object(project);
    let name = object.file_name().unwrap().to_str().unwrap();
    let good = fs::read(&object).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let decide: &[&str] = &["decide", TASK, TEXT];
    fs::write(project.join("in.csv"), table(&rows(30))).unwrap();
    let batch: &[&str] = &["batch", TASK, "in.csv", "-o", "out.csv"];
    for bytes in [&good[..20], &flipped[..]] {
        fs::write(&object, bytes).unwrap();
        damaged(project, &[name, "does not have the bytes", "sizewise train", WAY_OUT], &[decide, batch]);
    }
    fs::remove_file(&object).unwrap();
    damaged(project, &[name, "sizewise train", WAY_OUT], &[decide, batch]);
    assert!(!project.join("out.csv").exists());
    run(project, &["train", TASK]).done();
    run(project, decide).done();
    run(project, &["doctor"]).done();
}

#[test]
fn a_damaged_release_is_not_put_back_in_force() {
    let folder = certified();
    let project = folder.path();
    let shared = files(&project.join(".sizewise/objects"));
    let told = run(project, &["train", TASK, "--seed", "7", "-o", "json"]).done().out;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let release = told["release"].as_str().unwrap();
    run(project, &["rollback", TASK, release]).done();
    for object in shared {
        fs::write(project.join(".sizewise/objects").join(object), b"").unwrap();
    }
    run(project, &["rollback", TASK]).refused(1, &["does not have the bytes", "sizewise train", WAY_OUT]);
    let told = run(project, &["show", TASK]).done().out;
    let line = told.lines().find(|line| line.contains("in force") && line.contains(&release[..12]));
    assert!(line.is_some(), "{told}");
    run(project, &["rollback", TASK, "ffff"]).refused(1, &["no release ffff", "sizewise show desk", WAY_OUT]);
}

#[test]
fn a_damaged_database_is_named() {
    let folder = certified();
    let project = folder.path();
    let database = project.join(".sizewise/store.db");
    let good = fs::read(&database).unwrap();
    let noise: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let commands: &[&[&str]] = &[
        &["decide", TASK, TEXT],
        &["rollback", TASK],
        &["show", TASK],
        &["train", TASK],
        &["certify", TASK],
    ];
    for bytes in [&good[..3_000], &good[..12_288], &noise[..]] {
        for left in ["store.db-wal", "store.db-shm"] {
            let _ = fs::remove_file(project.join(".sizewise").join(left));
        }
        fs::write(&database, bytes).unwrap();
        damaged(project, &["store.db", "from a backup", WAY_OUT], commands);
        assert_eq!(fs::read(&database).unwrap(), bytes, "the damaged file is kept as it is");
    }
}

#[test]
fn locked_rows_open_once_and_only_as_they_were_sealed() {
    let folder = trained();
    let project = folder.path();
    let locked = project.join("tasks").join(TASK).join("data/locked.csv");
    let good = fs::read_to_string(&locked).unwrap();
    fs::write(&locked, good.replacen(",bill", ",ship", 1)).unwrap();
    run(project, &["certify", TASK]).refused(1, &["locked.csv: the locked rows have changed", WAY_OUT]);
    let told = run(project, &["doctor"]);
    assert!(told.code == 1 && told.out.contains("locked.csv: the locked rows have changed"), "{}", told.out);
    fs::write(&locked, &good).unwrap();

    fs::write(project.join("copy.csv"), &good).unwrap();
    for path in [locked.to_str().unwrap(), "copy.csv"] {
        let parts = [path, "holds the locked rows", "only `sizewise certify` opens them", WAY_OUT];
        run(project, &["evaluate", TASK, "--against", path]).refused(1, &parts);
        run(project, &["report", TASK, "--against", path, "-o", "report.html"]).refused(1, &parts);
    }
    assert!(!project.join("report.html").exists());

    let certificate = project.join("tasks").join(TASK).join("certificates/label.json");
    assert!(!certificate.exists(), "no refusal opened anything");
    run(project, &["certify", TASK]).done();
    let first = fs::read(&certificate).unwrap();
    run(project, &["certify", TASK]).refused(1, &["opened as often as", "(1 of 1)", WAY_OUT]);
    assert_eq!(fs::read(&certificate).unwrap(), first);

    // A new store does not make the rows new: the certificate beside the task still says that they were seen.
    fs::remove_dir_all(project.join(".sizewise")).unwrap();
    run(project, &["train", TASK]).done();
    run(project, &["certify", TASK]).refused(1, &["opened as often as", "(1 of 1)", WAY_OUT]);
    assert_eq!(fs::read(&certificate).unwrap(), first);
}

#[test]
fn rows_that_were_opened_are_not_locked_again() {
    let folder = certified();
    let project = folder.path();
    fs::write(project.join("rows.csv"), table(&rows(300))).unwrap();
    let data = project.join("tasks").join(TASK).join("data");
    let opened = fs::read_to_string(data.join("locked.csv")).unwrap();
    for (name, force) in [(TASK, true), ("again", false)] {
        let mut call = vec!["init", name, "--from", "rows.csv", "--seed", "9"];
        call.extend(force.then_some("--force"));
        let told = run(project, &call).done().out;
        assert!(told.contains("opened by an earlier certificate"), "{told}");
        let locked = fs::read_to_string(project.join("tasks").join(name).join("data/locked.csv")).unwrap();
        assert!(locked.lines().count() > 80, "{locked}");
        let again = locked.lines().skip(1).filter(|line| opened.contains(line));
        assert_eq!(again.count(), 0, "{name}");
    }
}

#[test]
fn a_plan_of_openings_stays_what_it_was_at_the_first_one() {
    let folder = certified();
    let project = folder.path();
    let path = project.join("tasks").join(TASK).join("task.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("openings = 1", "openings = 3", 1)).unwrap();
    run(project, &["train", TASK]).done();
    run(project, &["certify", TASK]).refused(1, &["one of 1 planned times", "now plans 3", WAY_OUT]);
}

#[test]
fn nothing_is_evaluated_on_locked_or_fitted_rows() {
    let folder = trained();
    let project = folder.path();
    fs::write(project.join("all.csv"), table(&rows(300))).unwrap();
    let told = run(project, &["evaluate", TASK, "--against", "all.csv"]).done().out;
    assert!(told.contains("left out: they are locked"), "{told}");
    assert!(told.contains("left out: the models were fitted on them"), "{told}");
    let dev = fs::read_to_string(project.join("tasks").join(TASK).join("data/dev.csv")).unwrap();
    assert!(told.contains(&format!("({} rows", dev.lines().count() - 1)), "{told}");
    let locked = fs::read_to_string(project.join("tasks").join(TASK).join("data/locked.csv")).unwrap();
    fs::write(project.join("more.csv"), locked + &rows(1)[0]).unwrap();
    run(project, &["evaluate", TASK, "--against", "more.csv"])
        .refused(1, &["holds no row to evaluate on", "rows that are new"]);
}

#[test]
fn an_opening_is_not_spent_without_a_chance() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    fs::write(project.join("rows.csv"), table(&rows(60))).unwrap();
    run(project, &["init", TASK, "--from", "rows.csv", "--max-served-error", "0.01"]).done();
    run(project, &["train", TASK]).done();
    run(project, &["certify", TASK]).refused(101, &["the locked rows stay closed", "--anyway", WAY_OUT]);
    assert!(!project.join("tasks").join(TASK).join("data/opened.txt").exists());
    let told = run(project, &["certify", TASK, "--anyway"]);
    assert!([100, 101].contains(&told.code), "{}{}", told.out, told.err);
}

#[test]
fn a_server_says_what_is_wrong_with_a_request() {
    let folder = certified();
    let server = Server::start(folder.path());
    let decide = format!("/v1/tasks/{TASK}/decide");
    let wide = format!("{{\"input\": \"{}\"}}", "x".repeat(1 << 20));
    let many = format!("{{\"inputs\": [{}\"x\"]}}", "\"x\",".repeat(1_000));
    let bodies: &[(&[u8], &str, Option<&str>)] = &[
        (b"", "request_invalid", None),
        (b"hello", "request_invalid", None),
        (b"{\"input\": ", "request_invalid", None),
        (b"{\"input\": \"x\"} more", "request_invalid", None),
        (b"{\"input\": \"\xff\"}", "request_invalid", None),
        (b"\"x\"", "request_invalid", None),
        (b"{}", "request_invalid", Some("input")),
        (b"{\"input\": 5}", "request_invalid", Some("input")),
        (b"{\"inputs\": \"x\"}", "request_invalid", Some("inputs")),
        (b"{\"inputs\": []}", "request_invalid", Some("inputs")),
        (b"{\"inputs\": [\"x\", 5]}", "request_invalid", Some("inputs[1]")),
        (b"{\"inputs\": [\"x\", \" \"]}", "input_invalid", Some("inputs[1]")),
        (b"{\"input\": {\"txt\": \"x\"}}", "input_invalid", Some("input.text")),
        (b"{\"input\": \"x\", \"questions\": [\"team\"]}", "unknown_question", Some("questions[0]")),
        (b"{\"input\": \"x\", \"questions\": \"label\"}", "request_invalid", Some("questions")),
        (wide.as_bytes(), "input_too_long", Some("input")),
        (many.as_bytes(), "request_invalid", Some("inputs")),
    ];
    for (body, code, place) in bodies {
        let (status, reply) = server.ask("POST", &decide, body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        wrong((status, &reply), 400, code, &shown);
        assert_eq!(reply["error"]["param"].as_str(), *place, "{shown}: {reply}");
    }
    let (status, reply) = server.send("POST", &decide, "Content-Length: 9000000\r\n", b"");
    wrong((status, &reply), 413, "body_too_large", "a body over the limit");
    let (status, reply) =
        server.send("POST", &decide, "Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}");
    wrong((status, &reply), 415, "media_unsupported", "gzip");
    let (status, reply) = server.ask("POST", &decide, format!("{{\"input\": \"{TEXT}\"}}").as_bytes());
    assert_eq!((status, &reply["answers"][0]["suggestion"]), (200, &"ship".into()), "{reply}");
    server.end();
}

#[test]
fn a_server_says_what_is_wrong_with_a_path() {
    let folder = certified();
    let server = Server::start(folder.path());
    let chat = br#"{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}"#;
    let paths: &[(&str, &str, &[u8], u16, &str)] = &[
        ("POST", "/v1/tasks/nobody/decide", b"{\"input\": \"x\"}", 404, "unknown_task"),
        ("POST", "/v1/chat/completions", chat, 404, "unknown_task"),
        ("GET", "/v1/tasks/nobody", b"", 404, "unknown_task"),
        ("GET", "/v1/tasks/nobody/certificate", b"", 404, "unknown_task"),
        ("GET", "/v1/models/nobody", b"", 404, "unknown_task"),
        ("GET", "/v1/tasks/desk/decide", b"", 405, "method_not_allowed"),
        ("DELETE", "/v1/tasks/desk", b"", 405, "method_not_allowed"),
        ("FROB", "/healthz", b"", 405, "method_not_allowed"),
        ("GET", "/nothing", b"", 404, "unknown_route"),
        ("POST", "/v1/tasks/../../etc/decide", b"{\"input\": \"x\"}", 404, "unknown_route"),
        ("POST", "/v1/decisions", b"{}", 400, "request_invalid"),
        ("POST", "/v1/systemone", b"hello", 400, "request_invalid"),
        ("POST", "/v1/chat/completions", b"{\"model\": \"desk\", \"messages\": 5}", 400, "request_invalid"),
    ];
    for (method, path, body, status, code) in paths {
        let (found, reply) = server.ask(method, path, body);
        wrong((found, &reply), *status, code, &format!("{method} {path}"));
    }
    server.end();
}

/// A reply is an error of this status and code, with words for a person.
#[track_caller]
fn wrong((found, reply): (u16, &serde_json::Value), status: u16, code: &str, what: &str) {
    assert_eq!(found, status, "{what}: {reply}");
    assert_eq!(reply["error"]["code"], code, "{what}: {reply}");
    assert!(reply["error"]["message"].as_str().is_some_and(|words| words.len() > 10), "{what}: {reply}");
}

/// An archive with these files, which are not checked by whoever writes them.
fn archive(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // Written into the header as it is: the library's own way refuses what a stranger would not.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn a_model_that_cannot_run_is_not_kept() {
    let folder = trained();
    let project = folder.path();
    fs::create_dir(project.join("empty")).unwrap();
    fs::write(project.join("model.zip"), b"PK\x03\x04").unwrap();
    fs::write(project.join("cut.tar"), [b'x'; 700]).unwrap();
    archive(&project.join("outside.tar"), &[("../config.json", b"{}"), ("/etc/tokenizer.json", b"{}")]);
    archive(&project.join("half.tar"), &[("m/config.json", b"{}"), ("m/tokenizer.json", b"{}")]);
    let damaged: [(&str, &[u8]); 3] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    ];
    archive(&project.join("damaged.tar"), &damaged);
    for (source, code, parts) in [
        ("empty", 1, ["holds none of an encoder's files", "config.json"]),
        ("model.zip", 2, ["model.zip", ".tar.gz"]),
        ("cut.tar", 1, ["cut.tar", WAY_OUT]),
        ("outside.tar", 1, ["holds none of an encoder's files", WAY_OUT]),
        ("half.tar", 1, ["no *.safetensors", WAY_OUT]),
        ("damaged.tar", 1, ["tokenizer.json", WAY_OUT]),
        ("owner/name", 1, ["no hub is set", "--hub"]),
    ] {
        run(project, &["models", "pull", source]).refused(code, &parts);
    }
    let told = run(project, &["models", "list", "-o", "json"]).done().out;
    assert!(!told.contains("\"name\""), "{told}");
    run(project, &["train", TASK, "--encoder", "nothing"])
        .refused(1, &["no folder and no model `nothing`", WAY_OUT]);
    assert!(!project.parent().unwrap().join("config.json").exists());
}
