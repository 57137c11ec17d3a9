//! The servers that are called: builds of the service, as their users run them, and the echo server.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::data::{self, DataSet};
use crate::echo::Answers;
use crate::load::Caller;
use crate::place::Place;
use crate::process::{self, Running};
use crate::setting::Setting;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A build of `leadsmith`.
#[derive(Clone, Debug)]
pub struct Program {
    role: Role,
    /// What the build was taken from.
    source: PathBuf,
    /// This program's own copy, which no compiler replaces during a measurement.
    copy: PathBuf,
}

/// What a build is measured for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Its figures make the table.
    Tested,
    /// The tested build is measured against it.
    Against,
}

impl Program {
    /// Takes a copy of a build. The data sets that the build before it in this role has migrated are
    /// not used any more.
    pub fn take(folder: &Path, role: Role, source: &Path) -> Result<Self> {
        let unreadable = || format!("{} is not a build of leadsmith", source.display());
        let build = fs::read(source).with_context(unreadable)?;
        let program = Self {
            role,
            source: source.to_owned(),
            copy: folder.join(format!("leadsmith-{}", role.name())),
        };
        if fs::read(&program.copy).ok().as_ref() != Some(&build) {
            data::forget(folder, role.name())?;
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

    /// Builds this source tree's, which takes no time when it is built already, and says where it is.
    pub fn build() -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--bin", "leadsmith"])
            // With the features that both need together, so that nothing is built twice.
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

    /// The name of its role.
    pub fn role(&self) -> &'static str {
        self.role.name()
    }

    /// The program on these cores, without settings from outside.
    fn start(&self, place: &Place, cores: Option<&str>) -> Command {
        let mut command = process::on_cores(cores, &self.copy);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
            command.env_remove(name);
        }
        command.env("LEADSMITH_DATABASE_URL", place.url());
        command
    }

    /// Runs one of its commands and returns what it prints.
    pub fn command(&self, place: &Place, arguments: &[&str]) -> Result<String> {
        let mut command = self.start(place, None);
        process::run(command.env("LEADSMITH_LOG", "warn").args(arguments))
    }

    /// Runs one of its commands that reads a line.
    pub fn command_with(&self, place: &Place, arguments: &[&str], line: &str) -> Result<String> {
        let mut command = self.start(place, None);
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

/// A server and its callers.
pub struct Server {
    process: Running,
    pub callers: Vec<Caller>,
    pub address: String,
}

impl Server {
    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Starts the service on a data set, with its default settings.
    pub async fn service(setting: &Setting, data: &DataSet) -> Result<Self> {
        let program = &data.program;
        let log = setting
            .folder
            .join(format!("service-{}.log", program.role()));
        let child = program
            .start(&data.place, setting.server_cores.as_deref())
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut process = Running::new(child);
        let address = address_in(&log, &mut process).await?;
        let callers = Caller::connect_all(&address, &data.keys, true, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }

    /// Starts the echo server, which returns these answers.
    pub async fn echo(setting: &Setting, answers: &Answers, keys: &[String]) -> Result<Self> {
        let child = process::on_cores(setting.server_cores.as_deref(), &std::env::current_exe()?)
            .arg("echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut process = Running::new(child);
        let child = process.child();
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(&serde_json::to_vec(answers)?)?;
        drop(input);
        let mut address = String::new();
        let output = child.stdout.take().context("no standard output")?;
        BufReader::new(output).read_line(&mut address)?;
        let address = address.trim().to_owned();
        // The token is sent, because it belongs to the payload, and not looked at.
        let callers = Caller::connect_all(&address, keys, false, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }
}

/// Waits until the service's log says where it serves.
async fn address_in(log: &Path, process: &mut Running) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < START {
        let text = fs::read_to_string(log)?;
        if let Some(address) = logged_address(&text) {
            return Ok(address.to_owned());
        }
        if process.child().try_wait()?.is_some() {
            bail!("the service ended at once: {text}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!(
        "the service did not start within {} s: see {}",
        START.as_secs(),
        log.display()
    )
}

/// The address in a log. Builds differ in the words around it.
fn logged_address(log: &str) -> Option<&str> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .find_map(|line| {
            let (_, rest) = line.split_once("address=127.0.0.1:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            let start = line.len() - rest.len() - "127.0.0.1:".len();
            line.get(start..start + "127.0.0.1:".len() + port.len())
        })
}

#[cfg(test)]
mod tests {
    use super::logged_address;

    #[test]
    fn the_address_is_found_in_the_words_of_any_build() {
        let log = "2026-01-01 INFO starting\n2026-01-01 INFO serving address=127.0.0.1:4711\n";
        assert_eq!(logged_address(log), Some("127.0.0.1:4711"));
        let other = "INFO listening address=127.0.0.1:4711 tls=false\n";
        assert_eq!(logged_address(other), Some("127.0.0.1:4711"));
        assert_eq!(logged_address("INFO serving address=127.0.0.1:47"), None);
        assert_eq!(logged_address("INFO starting\n"), None);
    }
}
