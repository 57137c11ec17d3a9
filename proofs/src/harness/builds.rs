//! Builds of the service from other sources than this tree: the previous version, and the one with seeded bugs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The root of this version's sources.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The line of Cargo.toml and Cargo.lock that contains the packages' version.
const VERSION: &str = "version = \"0.1.0\"";

/// The target folder in which this program was built.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.context("no folder of the build")?.to_path_buf())
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

/// Builds the service from `source` into `folder`, and returns the path of the program. Nearly all dependencies
/// are the same, so their build is shared with this version's build.
pub fn build(source: &Path, folder: &Path) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.env("CARGO_BUILD_BUILD_DIR", target()?);
    // As in this version's profile. Until 2039a5abf038 the release profile had line tables.
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    cargo.current_dir(source);
    // With the features that both packages need together, like the build of this version.
    cargo.args(["build", "--release", "--locked", "--bin", "leadsmith"]);
    cargo.args(["--package", "leadsmith", "--package", "proofs"]);
    cargo.arg("--target-dir").arg(folder);
    let built = cargo.stdin(Stdio::null()).status()?;
    ensure!(built.success(), "cargo ended with {built}");
    let path = folder.join("release/leadsmith");
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}

/// The cargo that runs this program, otherwise the installed one.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
