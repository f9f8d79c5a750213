//! Does the repository keep its own rules?
//!
//! The rules that ARCHITECTURE.md and CONTRIBUTING.md state, checked on the files themselves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};

const MOST_LINES: usize = 700;
/// Levels of the crates: a crate may use those of a lower level.
const LEVELS: [(&str, u8); 8] = [
    ("sizewise-contract", 1),
    ("sizewise-models", 2),
    ("sizewise-measure", 2),
    ("sizewise-store", 2),
    ("sizewise-learn", 3),
    ("sizewise-engine", 3),
    ("sizewise", 4),
    ("sizewise-fuzz", 5),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its text, named from the root.
fn files() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    sources(&root.join("crates"), &mut found);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        (name, std::fs::read_to_string(path).unwrap())
    };
    let files: Vec<(String, String)> = found.into_iter().map(read).collect();
    assert!(files.len() > 100, "only {} files were found", files.len());
    files
}

/// What runs in the product: the part before the tests of a file of `src`.
fn production(files: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let in_src =
        |name: &str| name.contains("/src/") && !name.ends_with("/tests.rs") && !name.contains("/tests/");
    files
        .iter()
        .filter(move |(name, _)| in_src(name))
        .map(|(name, text)| (name.as_str(), text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()))
}

#[test]
fn every_file_begins_with_its_question_and_ends_in_time() {
    for (name, text) in files() {
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(text.starts_with("//! "), "{name} does not begin with a `//!` line");
        let exempt = ["parity.rs", "/examples/", "testing.rs"];
        let asks = head.contains('?') || exempt.iter().any(|part| name.contains(part));
        assert!(asks, "{name} does not say which question it answers");
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{name} has {lines} lines");
    }
}

#[test]
fn crates_use_only_crates_of_a_lower_level() {
    for (name, level) in LEVELS {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        for (other, other_level) in LEVELS {
            let used = normal.lines().any(|line| line.starts_with(&format!("{other}.workspace")));
            assert!(!used || other_level < level, "{name} uses {other}, which is not below it");
        }
    }
}

#[test]
fn only_the_store_writes_sql_and_only_the_application_knows_the_wire() {
    let files = files();
    for (name, text) in production(&files) {
        // Whoever calls others reads their statuses; what ours mean is the application's.
        let outbound = "crates/sizewise-models/src/remote";
        let rules = [
            ("rusqlite", ["crates/sizewise-store/"; 2]),
            ("StatusCode", ["crates/sizewise/", outbound]),
            ("ExitCode", ["crates/sizewise/"; 2]),
            ("hyper::", ["crates/sizewise/", outbound]),
        ];
        for (word, homes) in rules {
            let at_home = homes.iter().any(|home| name.starts_with(home));
            assert!(!text.contains(word) || at_home, "{name} holds {word}");
        }
        let connects = ["TcpStream::connect", "client::conn", "UdpSocket", "ureq"]
            .iter()
            .any(|word| text.contains(word));
        let remote = name.starts_with("crates/sizewise-models/src/remote");
        assert!(!connects || remote, "{name} opens an outbound connection");
        let contract_io = name.starts_with("crates/sizewise-contract/")
            && ["std::fs", "std::net", "SystemTime", "Instant::now"].iter().any(|word| text.contains(word));
        assert!(!contract_io, "{name} does I/O; the contract does none");
    }
}

#[test]
fn unsafe_code_stays_in_one_folder() {
    for (name, text) in files() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.filter(|line| line.contains("unsafe {") || line.contains("unsafe fn")).count();
        let home =
            name.starts_with("crates/sizewise-models/src/kernels/") || name.ends_with("tests/repository.rs");
        assert!(found == 0 || home, "{name} holds unsafe code");
    }
}

#[test]
fn the_documents_name_what_exists() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "DEPENDENCIES.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for word in text.split(['`', '(', ')', ' ', '\n', ',']) {
            let is_path =
                ["scripts/", "crates/", "examples/", "fuzz/"].iter().any(|start| word.starts_with(start));
            if is_path && !word.contains('*') {
                assert!(
                    root().join(word.trim_end_matches(['.', ':', ';'])).exists(),
                    "{document} names {word}"
                );
            }
        }
    }
    let dependencies = std::fs::read_to_string(root().join("DEPENDENCIES.md")).unwrap();
    for (name, _) in LEVELS {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let tables: toml::Table = manifest.parse().unwrap();
        for kind in ["dependencies", "dev-dependencies"] {
            for dependency in
                tables.get(kind).and_then(toml::Value::as_table).into_iter().flat_map(|t| t.keys())
            {
                let own = dependency.starts_with("sizewise");
                assert!(
                    own || dependencies.contains(&format!("`{dependency}`")),
                    "{name} uses {dependency}: no line in DEPENDENCIES.md"
                );
            }
        }
    }
}
