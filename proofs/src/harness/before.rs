//! The version that was released last, built from the repository's history.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::builds::{self, ROOT};
use super::cluster::run;
use super::program::Program;

/// The commit that was released last. Its migrations are what running databases have applied; those
/// that came after it may still change. Update it with each release.
const RELEASED: &str = "bf12c2044f2a26831659bc08ceaeeffa2297a2f3";
/// Names a build of another version, in place of the one that is built here.
const VARIABLE: &str = "LEADSMITH_BEFORE";

/// The commit or path of the version before, and its program, which is built once for each commit.
pub fn program() -> Result<(String, Program)> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.exists(), "{VARIABLE}: there is no {}", path.display());
        return Ok((path.display().to_string(), Program::at(path)));
    }
    let folder = builds::target()?.join("before").join(RELEASED);
    let mut path = folder.join("release/leadsmith");
    if !path.exists() {
        let source = tempfile::tempdir()?;
        let archive = source.path().join("source.tar");
        let mut git = Command::new("git");
        git.args(["-C", ROOT, "archive", "--format=tar", RELEASED, "--output"]);
        run(git.arg(&archive)).context("is all of the repository's history here?")?;
        let mut tar = Command::new("tar");
        run(tar.arg("-xf").arg(&archive).arg("-C").arg(source.path()))?;
        builds::set_version(source.path(), "0.0.0-before")?;
        path = builds::build(source.path(), &folder)
            .with_context(|| format!("the version before, {RELEASED}, does not build"))?;
    }
    Ok((RELEASED.to_owned(), Program::at(path)))
}
