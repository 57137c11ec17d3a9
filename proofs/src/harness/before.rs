//! The version before this one, as the repository has it: its newest state whose list of migrations is
//! shorter than now's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::cluster::run;
use super::program::Program;

/// Names a build of another version, in place of the one that is built here.
const VARIABLE: &str = "LEADSMITH_BEFORE";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MIGRATIONS: &str = "migrations/src/lib.rs";

/// What it is called, and its program, which is built once for each commit.
pub fn program() -> Result<(String, Program)> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.exists(), "{VARIABLE}: there is no {}", path.display());
        return Ok((path.display().to_string(), Program::at(path)));
    }
    let commit = commit().context("the version before is not found in the repository")?;
    let target = target()?.join("before").join(&commit);
    let path = target.join("release/leadsmith");
    if !path.exists() {
        build(&commit, &target)
            .with_context(|| format!("the version before, {commit}, does not build"))?;
        ensure!(path.exists(), "there is no {}", path.display());
    }
    Ok((commit, Program::at(path)))
}

/// The newest state, on the way that this one came, with fewer migrations.
fn commit() -> Result<String> {
    let file = Path::new(ROOT).join(MIGRATIONS);
    let now = migrations(&std::fs::read_to_string(file)?);
    // Between two changes of the list it is the same.
    let changes = git(&["log", "--first-parent", "--format=%H", "--", MIGRATIONS])?;
    let before = changes.lines().map(|change| format!("{change}^"));
    for state in std::iter::once("HEAD".to_owned()).chain(before) {
        // The first commit has none before it.
        let Ok(commit) = git(&["rev-parse", "--verify", "--quiet", &state]) else {
            break;
        };
        let commit = commit.trim().to_owned();
        if let Ok(list) = git(&["show", &format!("{commit}:{MIGRATIONS}")])
            && (1..now).contains(&migrations(&list))
        {
            return Ok(commit);
        }
    }
    bail!("no commit has fewer than {now} migrations: is all of the history here?")
}

fn migrations(list: &str) -> usize {
    list.matches("::Migration)").count()
}

fn git(arguments: &[&str]) -> Result<String> {
    run(Command::new("git").args(["-C", ROOT]).args(arguments))
}

/// Where this program is built.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.context("no folder of the build")?.to_path_buf())
}

fn build(commit: &str, target: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut archive = Command::new("git")
        .args(["-C", ROOT, "archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .spawn()?;
    let files = archive.stdout.take().context("no archive")?;
    let mut tar = Command::new("tar");
    let unpacked = tar
        .args(["-x", "-C"])
        .arg(folder.path())
        .stdin(files)
        .status()?;
    ensure!(
        archive.wait()?.success() && unpacked.success(),
        "it cannot be unpacked"
    );
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // In a folder of its own, whatever is set: to cargo the packages of two versions are the same, and it
    // would take what was built of one for the other, here and in the builds that come after.
    cargo.env("CARGO_BUILD_BUILD_DIR", target);
    cargo.current_dir(folder.path());
    cargo.args(["build", "--release", "--locked", "--package", "leadsmith"]);
    cargo
        .args(["--bin", "leadsmith", "--target-dir"])
        .arg(target);
    let built = cargo.stdin(Stdio::null()).status()?;
    ensure!(built.success(), "cargo ended with {built}");
    Ok(())
}
