//! The servers that are called: the service, as its users run it, and the echo server beside it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::data::DataSet;
use crate::echo::Answers;
use crate::load::Caller;
use crate::place::Place;
use crate::process::{self, Running};
use crate::setting::Setting;

/// The release build of `leadsmith`.
pub struct Program(PathBuf);

impl Program {
    /// Builds it, which takes no time when it is built already.
    pub fn build() -> Result<Self> {
        static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
        if let Some(path) = BUILT.get() {
            return Ok(Self(path.clone()));
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--bin", "leadsmith"])
            // With the features that both need together, so that nothing is built twice.
            .args(["--package", "leadsmith", "--package", "bench"])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .status()
            .context("cargo, which builds the service, does not start")?;
        if !status.success() {
            bail!("the service does not build");
        }
        let path = std::env::current_exe()?.with_file_name("leadsmith");
        if !path.exists() {
            bail!(
                "run this by cargo run --release -p bench: {} is missing",
                path.display()
            );
        }
        Ok(Self(BUILT.get_or_init(|| path).clone()))
    }

    /// It, without settings from outside.
    fn start(&self, place: &Place, cores: Option<&str>) -> Command {
        let mut command = process::on_cores(cores, &self.0);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
            command.env_remove(name);
        }
        command.env("LEADSMITH_DATABASE_URL", place.url());
        command
    }

    /// Runs one of its commands and gives what it prints.
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

/// A server and those who call it.
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
        let log = setting.folder.join("service.log");
        let mut command = Program::build()?.start(&data.place, setting.server_cores.as_deref());
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut process = Running::new(child);
        let address = address_in(&log, &mut process).await?;
        let token = Some(data.key.as_str());
        let callers = Caller::connect_all(&address, token, true, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }

    /// Starts the echo server, which gives these answers.
    pub async fn echo(setting: &Setting, answers: &Answers, token: &str) -> Result<Self> {
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
        let callers =
            Caller::connect_all(&address, Some(token), false, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }
}

/// Waits until the service says in its log where it serves.
async fn address_in(log: &Path, process: &mut Running) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        let text = fs::read_to_string(log)?;
        let found = text.split_once("serving address=");
        if let Some((address, _)) = found.and_then(|(_, rest)| rest.split_once('\n')) {
            return Ok(address.trim().to_owned());
        }
        if process.child().try_wait()?.is_some() {
            bail!("the service ended at once: {text}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the service does not begin to serve: see {}", log.display())
}
