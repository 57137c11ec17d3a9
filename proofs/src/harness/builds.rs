//! Builds of the service and of its tests, from this tree or from other sources: the previous version, and the one with
//! seeded bugs. They are built in the profile of this program: `cargo run --release -p proofs` tests release builds, and
//! `cargo run -p proofs` debug builds, which are built sooner but are too slow for proofs that limit times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The root of this version's sources.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The line of Cargo.toml and Cargo.lock that contains the packages' version.
const VERSION: &str = "version = \"0.1.0\"";

/// A build of the service's tests.
#[derive(Clone)]
pub struct Tests {
    /// The tree that it was built from.
    pub source: PathBuf,
    pub program: PathBuf,
}

/// The target folder in which this program was built, and the folder of its profile in it.
fn folders() -> Result<(PathBuf, String)> {
    let program = std::env::current_exe()?;
    let profile = program.parent().context("no folder of the profile")?;
    let target = profile.parent().context("no folder of the build")?;
    let name = profile.file_name().unwrap_or_default();
    Ok((target.to_path_buf(), name.to_string_lossy().into_owned()))
}

/// The target folder in which this program was built.
pub fn target() -> Result<PathBuf> {
    Ok(folders()?.0)
}

/// The path of the service that [`build`] puts into this target folder.
pub fn program_in(folder: &Path) -> Result<PathBuf> {
    Ok(folder.join(folders()?.1).join("leadsmith"))
}

/// Sets another version for the packages in `source`. Cargo considers the packages of two trees equal if their
/// versions are equal, and would use the build of one for the other.
pub fn set_version(source: &Path, version: &str) -> Result<()> {
    for file in ["Cargo.toml", "Cargo.lock"] {
        let file = source.join(file);
        let text = fs::read_to_string(&file)?;
        let other = format!("version = \"{version}\"");
        fs::write(&file, text.replace(VERSION, &other))?;
    }
    Ok(())
}

/// Builds the service from `source` into `folder`, and returns the path of the program.
pub fn build(source: &Path, folder: &Path) -> Result<PathBuf> {
    let mut cargo = command("build", source, folder)?;
    // With the features that both packages need together, like the build of this version.
    cargo.args(["--bin", "leadsmith", "--package", "proofs"]);
    let built = cargo.stdin(Stdio::null()).status()?;
    ensure!(built.success(), "cargo ended with {built}");
    let path = program_in(folder)?;
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}

/// Builds the tests from `source` into `folder`, and returns the path of the program that runs them.
pub fn build_tests(source: &Path, folder: &Path) -> Result<PathBuf> {
    let mut cargo = command("test", source, folder)?;
    // With the same packages as in scripts/test.
    cargo.args(["--no-run", "--package", "tests", "--test", "it"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo ended with {}",
        output.status
    );
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let mut built = lines.filter_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        let is_tests = message["target"]["name"] == "it";
        let path = message["executable"].as_str().filter(|_| is_tests)?;
        Some(PathBuf::from(path))
    });
    built.next().context("cargo has not named the tests")
}

/// cargo for the service's package. Nearly all dependencies are the same in all sources, so their build is shared with
/// this version's build.
fn command(subcommand: &str, source: &Path, folder: &Path) -> Result<Command> {
    let (target, profile) = folders()?;
    let mut cargo = cargo();
    cargo.env("CARGO_BUILD_BUILD_DIR", target);
    // As in this version's profile. Until 2039a5abf038 the release profile had line tables.
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    cargo.current_dir(source);
    cargo.args([subcommand, "--locked", "--package", "leadsmith"]);
    if profile != "debug" {
        cargo.args(["--profile", &profile]);
    }
    cargo.arg("--target-dir").arg(folder);
    Ok(cargo)
}

/// The cargo that runs this program, otherwise the installed one.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
