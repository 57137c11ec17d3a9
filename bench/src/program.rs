//! Release builds of the service.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process;
use crate::storage::Storage;

/// A build of `leadsmith`.
#[derive(Clone, Debug)]
pub struct Program {
    role: Role,
    /// The path from which the build was copied.
    source: PathBuf,
    /// A private copy, which no compiler replaces during a measurement.
    copy: PathBuf,
}

/// The role of a build in the measurement.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// The build whose figures are in the tables.
    Tested,
    /// The build that the tested one is compared with.
    Against,
}

impl Program {
    /// Copies a build. The data sets that an earlier build in this role has migrated are discarded.
    pub fn take(folder: &Path, role: Role, source: &Path) -> Result<Self> {
        let unreadable = || format!("{} is not a build of leadsmith", source.display());
        let build = fs::read(source).with_context(unreadable)?;
        let program = Self {
            role,
            source: source.to_owned(),
            copy: folder.join(format!("leadsmith-{}", role.name())),
        };
        if fs::read(&program.copy).ok().as_ref() != Some(&build) {
            forget(folder, role.name())?;
            fs::copy(source, &program.copy)
                .with_context(|| format!("{} cannot be written", program.copy.display()))?;
        }
        let version = process::run(Command::new(&program.copy).arg("--version"));
        ensure!(
            version.with_context(unreadable)?.starts_with("leadsmith"),
            unreadable()
        );
        Ok(program)
    }

    /// Builds this source tree, which is quick if it is already built, and returns the path of the program.
    pub fn build() -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--bin", "leadsmith"])
            // With the features that both packages need together, so that nothing is compiled twice.
            .args(["--package", "leadsmith", "--package", "bench"])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .status()
            .context("cargo, which builds the service, does not start: use --program")?;
        if !status.success() {
            bail!("the service does not build: correct the error, or use --program");
        }
        let path = std::env::current_exe()?.with_file_name("leadsmith");
        if !path.exists() {
            bail!(
                "{} is missing: run cargo run --release -p bench, or use --program",
                path.display()
            );
        }
        Ok(path)
    }

    /// The name of the role.
    pub fn role(&self) -> &'static str {
        self.role.name()
    }

    /// The program on these cores, without settings from the environment.
    pub fn start(&self, storage: &Storage, cores: Option<&str>) -> Command {
        let mut command = process::on_cores(cores, &self.copy);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
            command.env_remove(name);
        }
        command.env("LEADSMITH_DATABASE_URL", storage.url());
        command
    }

    /// Runs a command and returns its output.
    pub fn command(&self, storage: &Storage, arguments: &[&str]) -> Result<String> {
        let mut command = self.start(storage, None);
        process::run(command.env("LEADSMITH_LOG", "warn").args(arguments))
    }

    /// Runs a command that reads one line from standard input.
    pub fn command_with(
        &self,
        storage: &Storage,
        arguments: &[&str],
        line: &str,
    ) -> Result<String> {
        let mut command = self.start(storage, None);
        let mut child = command
            .env("LEADSMITH_LOG", "warn")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(format!("{line}\n").as_bytes())?;
        process::succeeded("leadsmith", child.wait_with_output()?)
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Against => "against",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source.display())
    }
}

/// Discards the data sets that a build has migrated, because another build takes its role.
pub fn forget(folder: &Path, role: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".key") && name.contains(&format!("_{role}_")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
