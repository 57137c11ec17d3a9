//! The language of the repository: phrases that readers stumble over stay out of the code, the contract and the
//! documents. Each stands beside the term to write.

use std::fs;
use std::path::{Path, PathBuf};

const PHRASES: [(&str, &str); 16] = [
    ("who calls", "the caller"),
    ("who asks", "the caller"),
    ("who comes", "the caller"),
    ("whoever", "the caller, or a client that"),
    ("hung up", "disconnected"),
    ("hangs up", "disconnects"),
    ("is told", "gets, or fails with"),
    ("are told", "get, or fail with"),
    ("be told", "get, or fail with"),
    ("once more", "again"),
    ("anew", "again"),
    ("mended", "corrected"),
    ("let in", "accepted, or admitted"),
    ("takes its turn", "is scheduled"),
    ("set aside", "deactivated"),
    ("porch", "the limit of anonymous calls"),
];

/// Where text is looked for.
const FOLDERS: [&str; 12] = [
    ".ci",
    ".cargo",
    "bench",
    "deploy",
    "docs/src",
    "fuzz/fuzz_targets",
    "migrations",
    "proofs",
    "proto",
    "scripts",
    "src",
    "tests/it",
];

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_none_or(|ending| {
            [
                "rs", "md", "proto", "toml", "patch", "yml", "yaml", "service", "json",
            ]
            .contains(&ending.to_str().unwrap())
        }) {
            found.push(path);
        }
    }
}

#[test]
fn phrases_that_readers_stumble_over_stay_out() {
    let root = Path::new(crate::ROOT);
    let mut files = Vec::new();
    for folder in FOLDERS {
        texts(&root.join(folder), &mut files);
    }
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        files.extend(
            Some(path).filter(|path| path.extension().is_some_and(|ending| ending == "md")),
        );
    }
    assert!(files.len() > 200, "there are files");
    let mut problems = Vec::new();
    for file in files
        .iter()
        .filter(|file| !file.ends_with("tests/it/language.rs"))
    {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (phrase, term) in PHRASES {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                let is_word = |at: usize| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + phrase.len()..].chars().next();
                    !before.is_some_and(is_part) && !after.is_some_and(is_part)
                };
                if line.match_indices(phrase).any(|(at, _)| is_word(at)) {
                    let file = file.strip_prefix(root).unwrap().display();
                    problems.push(format!("{file}:{}: {phrase:?}: write {term}", number + 1));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
