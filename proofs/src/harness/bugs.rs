//! Seeded bugs: patches in `proofs/bugs`. Each breaks one promise when the environment variable names it. All
//! patches are applied together to a copy of this tree, including uncommitted changes, and the copy is built
//! separately. The normal build therefore contains none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::builds::{self, ROOT, Tests};
use super::cluster::run;

/// The name of a bug: the file name of its patch, without the extension.
pub type Bug = &'static str;

/// The environment variable that names the active bug.
pub const VARIABLE: &str = "LEADSMITH_SEEDED_BUG";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bugs");
const ENDING: &str = ".patch";
/// The patch that selects the active bug. It is applied before the others.
const SELECTOR: &str = "selector";

/// Builds the service with all bugs.
pub fn build() -> Result<PathBuf> {
    let (source, folder) = tree()?;
    builds::build(&source, &folder).context("the service with seeded bugs does not build")
}

/// Builds the tests of the service with all bugs.
pub fn build_tests() -> Result<Tests> {
    let (source, folder) = tree()?;
    let program = builds::build_tests(&source, &folder);
    let program = program.context("the tests of the service with seeded bugs do not build")?;
    Ok(Tests { source, program })
}

/// Brings the copy of this tree with all bugs up to date. Returns its folder, and the one that it is built into.
fn tree() -> Result<(PathBuf, PathBuf)> {
    let folder = builds::target()?.join("seeded");
    let patched = patched()?;
    builds::set_version(patched.path(), "0.0.0-seeded")?;
    // Only files that differ are written, so that cargo rebuilds only those.
    let source = folder.join("tree");
    mirror(patched.path(), &source)?;
    Ok((source, folder))
}

/// A copy of this tree with all bugs applied.
pub fn patched() -> Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for file in files()? {
        let (from, to) = (Path::new(ROOT).join(&file), copy.path().join(&file));
        // A file that was deleted but not committed yet is still listed.
        if from.is_file() {
            fs::create_dir_all(to.parent().context("a file without folder")?)?;
            fs::copy(from, to)?;
        }
    }
    for name in std::iter::once(SELECTOR.to_owned()).chain(names()?) {
        let mut git = Command::new("git");
        // The copy may be inside another repository. git must not treat it as a part of that.
        git.env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
        git.arg("-C").arg(copy.path()).arg("apply");
        git.arg(Path::new(FOLDER).join(name.clone() + ENDING));
        run(&mut git).with_context(|| {
            format!("proofs/bugs/{name}{ENDING} does not apply to this tree: change it")
        })?;
    }
    Ok(copy)
}

/// The files of this tree, committed or not.
fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["-C", ROOT, "ls-files", "-z", "--cached", "--others"]);
    let list = run(git.arg("--exclude-standard"))?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

/// The names of all bugs, sorted.
pub fn names() -> Result<Vec<String>> {
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

/// Makes the folder `to` equal to `from`. Files that are already equal are not written.
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
