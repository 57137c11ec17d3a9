//! The version that was released last, built from the repository's history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::cluster::run;
use super::program::Program;

/// The commit that was released last. Its migrations are what running databases have applied; those
/// that came after it may still change. Set it anew with each release.
const RELEASED: &str = "bf12c2044f2a26831659bc08ceaeeffa2297a2f3";
/// Names a build of another version, in place of the one that is built here.
const VARIABLE: &str = "LEADSMITH_BEFORE";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The line of Cargo.toml and Cargo.lock that has the packages' version, and what the version before
/// has in its place. To cargo, the packages of two checkouts are the same while their versions are: it
/// would take what was built of one for the other.
const VERSION: &str = "version = \"0.1.0\"";
const VERSION_BEFORE: &str = "version = \"0.0.0-before\"";

/// The commit or path of the version before, and its program, which is built once for each commit.
pub fn program() -> Result<(String, Program)> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.exists(), "{VARIABLE}: there is no {}", path.display());
        return Ok((path.display().to_string(), Program::at(path)));
    }
    let target = target()?;
    let folder = target.join("before").join(RELEASED);
    let path = folder.join("release/leadsmith");
    if !path.exists() {
        build(&folder, &target)
            .with_context(|| format!("the version before, {RELEASED}, does not build"))?;
        ensure!(path.exists(), "there is no {}", path.display());
    }
    Ok((RELEASED.to_owned(), Program::at(path)))
}

/// Where this program is built.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.context("no folder of the build")?.to_path_buf())
}

/// Builds into `folder`. The dependencies, nearly all of which are the same, are shared with this
/// version's build in `target`.
fn build(folder: &Path, target: &Path) -> Result<()> {
    let source = tempfile::tempdir()?;
    let archive = source.path().join("source.tar");
    let mut git = Command::new("git");
    git.args(["-C", ROOT, "archive", "--format=tar", RELEASED, "--output"]);
    run(git.arg(&archive)).context("is all of the repository's history here?")?;
    let mut tar = Command::new("tar");
    run(tar.arg("-xf").arg(&archive).arg("-C").arg(source.path()))?;
    for file in ["Cargo.toml", "Cargo.lock"] {
        let file = source.path().join(file);
        let text = fs::read_to_string(&file)?;
        fs::write(&file, text.replace(VERSION, VERSION_BEFORE))?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env("CARGO_BUILD_BUILD_DIR", target);
    cargo.current_dir(source.path());
    // With the features of both packages, as this version is built.
    cargo.args(["build", "--release", "--locked", "--bin", "leadsmith"]);
    cargo.args(["--package", "leadsmith", "--package", "proofs"]);
    cargo.arg("--target-dir").arg(folder);
    let built = cargo.stdin(Stdio::null()).status()?;
    ensure!(built.success(), "cargo ended with {built}");
    Ok(())
}
