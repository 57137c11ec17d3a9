//! Finds out which commit is built, for `src/core/build.rs`.
//!
//! The commit comes from the first of these that has it:
//! 1. the variables `LEADSMITH_COMMIT` and `LEADSMITH_COMMIT_DATE`, as in the image, whose build sees no repository;
//! 2. the file `.commit`, into which `git archive` writes the commit of a source archive;
//! 3. git.
//!
//! A debug build does not ask git: each commit would compile everything again.

use std::path::{Path, PathBuf};
use std::process::Command;

const UNKNOWN: &str = "unknown";

/// How much of a commit's hash is kept.
const SHORT: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=.commit");
    println!("cargo::rerun-if-env-changed=LEADSMITH_COMMIT");
    println!("cargo::rerun-if-env-changed=LEADSMITH_COMMIT_DATE");
    let found = from_variables().or_else(from_archive).or_else(from_git);
    let (commit, date, build) = match found {
        Some((commit, date)) => {
            let commit: String = commit.chars().take(SHORT).collect();
            let build = format!("{commit} {date}");
            (commit, date, build)
        }
        None => (
            UNKNOWN.to_owned(),
            UNKNOWN.to_owned(),
            "commit unknown".to_owned(),
        ),
    };
    println!("cargo::rustc-env=LEADSMITH_COMMIT={commit}");
    println!("cargo::rustc-env=LEADSMITH_COMMIT_DATE={date}");
    println!("cargo::rustc-env=LEADSMITH_BUILD={build}");
}

/// The commit and its date, of two words.
fn parse(text: &str) -> Option<(String, String)> {
    let (commit, date) = text.trim().split_once(' ')?;
    let is_hash = commit.len() >= SHORT && commit.chars().all(|c| c.is_ascii_hexdigit());
    let is_date = date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-');
    (is_hash && is_date).then(|| (commit.to_owned(), date.to_owned()))
}

fn from_variables() -> Option<(String, String)> {
    let get = |name: &str| std::env::var(name).unwrap_or_default().trim().to_owned();
    parse(&format!(
        "{} {}",
        get("LEADSMITH_COMMIT"),
        get("LEADSMITH_COMMIT_DATE")
    ))
}

fn from_archive() -> Option<(String, String)> {
    parse(&std::fs::read_to_string(".commit").ok()?)
}

fn from_git() -> Option<(String, String)> {
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Sources inside of somebody else's repository are not of its commit.
    if !is_release || !Path::new(".git").exists() {
        return None;
    }
    let commit = parse(&git(&[
        "-c",
        "log.showSignature=false",
        "log",
        "-1",
        "--format=%H %cs",
    ])?)?;
    // It changes with each commit and with each switch to another one. A file that does not exist would be a change
    // each time.
    let log = PathBuf::from(git(&["rev-parse", "--git-path", "logs/HEAD"])?.trim());
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    Some(commit)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}
