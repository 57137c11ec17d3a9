//! The `leadsmith` program: building it, running its commands, and running servers until they are killed or
//! stopped.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::bugs::{self, Bug, VARIABLE};
use super::builds::{self, ROOT};
use super::clock::WrongClock;
use super::cluster::{run, signal, succeeded};

/// How long a server may take to start, or a command to finish.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A free port below the ephemeral range: a server that is started again needs the same port.
pub fn free_port() -> Result<u16> {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(100);
    ports.find(free).context("no port is free")
}

/// A build of the service, with a seeded bug or without.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    bug: Option<Bug>,
    clock: Option<WrongClock>,
}

impl Program {
    /// Builds the program, which is quick if it is already built. With `seeded`, the build contains the seeded
    /// bugs, all inactive.
    pub fn build(seeded: bool) -> Result<Self> {
        if seeded {
            return Ok(Self::at(bugs::build()?));
        }
        let path = builds::build(Path::new(ROOT), &builds::target()?)?;
        Ok(Self::at(path))
    }

    /// Another build of the program.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            bug: None,
            clock: None,
        }
    }

    /// The same build with this bug active.
    pub fn with(&self, bug: Option<Bug>) -> Self {
        Self {
            bug,
            ..self.clone()
        }
    }

    /// The active bug.
    pub fn bug(&self) -> Option<Bug> {
        self.bug
    }

    /// The same build with a system clock that is wrong.
    pub fn with_clock(&self, clock: WrongClock) -> Self {
        Self {
            clock: Some(clock),
            ..self.clone()
        }
    }

    /// The program without settings from the environment.
    fn start(&self, url: &str) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADSMITH_")) {
            command.env_remove(name);
        }
        if let Some(bug) = self.bug {
            command.env(VARIABLE, bug);
        }
        if let Some(clock) = &self.clock {
            clock.set(&mut command);
        }
        command.env("LEADSMITH_DATABASE_URL", url);
        command
    }

    /// Runs a command and returns its output.
    pub fn command(&self, url: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.start(url);
        run(command.env("LEADSMITH_LOG", "error").args(arguments))
    }

    /// Starts a command. The caller must wait for it or kill it.
    pub fn begin(&self, url: &str, arguments: &[&str]) -> Result<Child> {
        let mut command = self.start(url);
        command.args(arguments).stdin(Stdio::null());
        Ok(command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }

    /// Runs a command that reads one line from standard input.
    pub fn command_with(&self, url: &str, arguments: &[&str], line: &str) -> Result<String> {
        let mut child = self
            .start(url)
            .env("LEADSMITH_LOG", "error")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(format!("{line}\n").as_bytes())?;
        drop(input);
        succeeded("leadsmith", &child.wait_with_output()?)
    }

    /// Starts a server on a free port, unless the flags specify one, without waiting until it serves. `flags` are
    /// those of `leadsmith serve`.
    pub fn launch(&self, url: &str, flags: &[&str]) -> Result<Serving> {
        self.launch_command(url, &[&["serve"], flags].concat())
    }

    /// Starts a command whose log can be read while it runs.
    pub fn launch_command(&self, url: &str, arguments: &[&str]) -> Result<Serving> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let child = self
            .start(url)
            .env("LEADSMITH_LISTEN", "127.0.0.1:0")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Serving {
            address: String::new(),
            child,
            log,
            _folder: folder,
        })
    }

    /// Starts a server and waits until it serves.
    pub async fn serve(&self, url: &str, flags: &[&str]) -> Result<Serving> {
        let mut serving = self.launch(url, flags)?;
        serving.ready().await?;
        Ok(serving)
    }
}

/// A started server. It is killed on drop.
pub struct Serving {
    /// The address that it serves on; empty until it does.
    pub address: String,
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Serving {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Waits until the server logs the address that it serves on.
    pub async fn ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < TIMEOUT {
            let text = self.log()?;
            let found = text.split_once("serving address=");
            if let Some((address, _)) =
                found.and_then(|(_, rest)| rest.split_once(char::is_whitespace))
            {
                self.address = address.to_owned();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}): {text}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the server does not start to serve: {}", self.log()?)
    }

    /// Ends the server as a crash would: SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the server to stop: SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        signal(self.child.id(), Signal::TERM)
    }

    /// Waits until the server ends. Returns none if it does not end in time.
    pub async fn ended(&mut self, time_limit: Duration) -> Result<Option<ExitStatus>> {
        let begin = Instant::now();
        while begin.elapsed() < time_limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(None)
    }

    /// Resident memory, in MiB.
    pub fn memory(&self) -> Result<f64> {
        self.memory_of("VmRSS:")
    }

    /// The memory in this line of /proc/PID/status, in MiB.
    pub fn memory_of(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = number.context("no memory in /proc")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // An INTERNAL error returns only an error id. The log has its cause.
        let log = self.log().unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("error_id=")) {
            eprintln!("server log: {line}");
        }
    }
}
