//! Seeded bugs: patches in `proofs/bugs`, each of which breaks one promise when the environment variable
//! names it. They are applied together to a copy of this tree, as it is now, which is built apart from it.
//! So nothing of them is in the sources that are built for use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::builds::{self, ROOT};
use super::cluster::run;

/// The name of a bug: of a patch, without its ending.
pub type Bug = &'static str;

/// The environment variable that names the bug to turn on.
pub const VARIABLE: &str = "LEADSMITH_SEEDED_BUG";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bugs");
const ENDING: &str = ".patch";
/// What turns bugs on: the patch that goes before the others.
const SELECTOR: &str = "selector";

/// Builds the service with every bug in it.
pub fn build() -> Result<PathBuf> {
    let folder = builds::target()?.join("seeded");
    let patched = patched()?;
    builds::set_version(patched.path(), "0.0.0-seeded")?;
    // Only what differs is written, so that only that is built again.
    let source = folder.join("tree");
    mirror(patched.path(), &source)?;
    builds::build(&source, &folder).context("the service with seeded bugs does not build")
}

/// A copy of this tree with every bug in it.
fn patched() -> Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for file in files()? {
        let (from, to) = (Path::new(ROOT).join(&file), copy.path().join(&file));
        // A file that was deleted and not committed yet is still listed.
        if from.is_file() {
            fs::create_dir_all(to.parent().context("a file without folder")?)?;
            fs::copy(from, to)?;
        }
    }
    for name in std::iter::once(SELECTOR.to_owned()).chain(names()?) {
        let mut git = Command::new("git");
        // Not as part of a repository that the copy may lie in.
        git.env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
        git.arg("-C").arg(copy.path()).arg("apply");
        git.arg(Path::new(FOLDER).join(name.clone() + ENDING));
        run(&mut git).with_context(|| {
            format!("proofs/bugs/{name}{ENDING} does not apply to this tree: change it")
        })?;
    }
    Ok(copy)
}

/// The files of this tree, whether they are committed or not.
fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["-C", ROOT, "ls-files", "-z", "--cached", "--others"]);
    let list = run(git.arg("--exclude-standard"))?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

/// The names of all bugs, sorted.
fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(ENDING)
            && name != SELECTOR
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the folder `to` the same as `from`, leaving files alone that are the same already.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let there = entry?.path();
        let name = there.file_name().context("an entry without name")?;
        match there.is_dir() {
            _ if from.join(name).exists() => {}
            true => fs::remove_dir_all(&there)?,
            false => fs::remove_file(&there)?,
        }
    }
    for entry in fs::read_dir(from)? {
        let (from, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            mirror(&from, &to)?;
            continue;
        }
        let content = fs::read(&from)?;
        if !fs::read(&to).is_ok_and(|there| there == content) {
            fs::write(&to, content)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::proofs::PROOFS;

    #[test]
    fn every_bug_applies_to_this_tree_and_is_what_a_proof_finds() -> Result<()> {
        patched()?;
        let bugs = PROOFS.iter().flat_map(|proof| proof.bugs);
        let found: BTreeSet<&str> = bugs.map(|(bug, _)| *bug).collect();
        let there = names()?;
        assert_eq!(found, there.iter().map(String::as_str).collect());
        Ok(())
    }
}
