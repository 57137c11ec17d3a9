//! The latest released version, built from the repository's history.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::builds::{self, ROOT};
use super::cluster::run;
use super::program::Program;

/// The commit of the latest release that has fewer migrations than this version. Running databases have applied its
/// migrations. Later migrations may still change. Update it with each release that is followed by a migration: with
/// equal migrations nothing of an upgrade would be tested.
const RELEASED: &str = "d95d1886f696b98bc65aa2e98728050eafd67ad4";
/// The path of a build of another version, to use instead of the one that is built here.
const VARIABLE: &str = "LEADSMITH_BEFORE";

/// Returns the commit or path of the previous version, and its program. It is built once per commit.
pub fn program() -> Result<(String, Program)> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.exists(), "{VARIABLE}: there is no {}", path.display());
        return Ok((path.display().to_string(), Program::at(path)));
    }
    let folder = builds::target()?.join("before").join(RELEASED);
    let mut path = builds::program_in(&folder)?;
    if !path.exists() {
        let source = tempfile::tempdir()?;
        let archive = source.path().join("source.tar");
        let mut git = Command::new("git");
        git.args(["-C", ROOT, "archive", "--format=tar", RELEASED, "--output"]);
        run(git.arg(&archive)).context("is the repository's history complete?")?;
        let mut tar = Command::new("tar");
        run(tar.arg("-xf").arg(&archive).arg("-C").arg(source.path()))?;
        builds::set_version(source.path(), "0.0.0-before")?;
        path = builds::build(source.path(), &folder)
            .with_context(|| format!("the previous version, {RELEASED}, does not build"))?;
    }
    Ok((RELEASED.to_owned(), Program::at(path)))
}
