//! strace on running processes: it records their system calls with times, and can make system calls fail or delay
//! them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::cluster::signal;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A running strace. When it ends, it detaches, and the traced processes continue normally.
pub struct Tracing {
    child: Child,
    folder: TempDir,
}

/// One system call.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// The arguments. File descriptors are shown with their paths and addresses.
    pub arguments: String,
    /// In seconds since 1970.
    pub started: f64,
    pub ended: f64,
    /// The return value; -1 for an error.
    pub result: i64,
}

impl Tracing {
    /// Attaches to these processes with all their threads and children, and records these system calls.
    /// `expressions` are arguments of strace's `-e`.
    pub async fn begin(processes: &[u32], expressions: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-ttt", "-T", "-yy", "-s", "0", "-o"]);
        strace.arg(folder.path().join("calls"));
        for expression in expressions {
            strace.args(["-e", expression]);
        }
        for process in processes {
            strace.args(["-p", &process.to_string()]);
        }
        let child = strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("said"))?)
            .spawn()
            .context("strace does not start: install Debian's package strace")?;
        let mut tracing = Self { child, folder };
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            let said = fs::read_to_string(tracing.path("said"))?;
            if said.matches(" attached").count() >= processes.len() {
                // Threads that are starting at this moment are attached shortly after.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Ok(tracing);
            }
            if let Some(status) = tracing.child.try_wait()? {
                bail!("strace ended at once ({status}): {said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("strace does not attach")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Detaches, and returns the recorded calls, ordered by their end.
    pub fn end(mut self) -> Result<Vec<Call>> {
        self.stop()?;
        let text = fs::read(self.path("calls"))?;
        Ok(parse(&String::from_utf8_lossy(&text)))
    }

    /// Asks strace to detach and waits until it has. If strace were killed, traced processes would stay stopped.
    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            signal(self.child.id(), rustix::process::Signal::TERM)?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // A destructor cannot report an error.
        let _ = self.stop();
    }
}

fn parse(text: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (f64, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        let Ok(time) = time.parse::<f64>() else {
            continue;
        };
        if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (time, begin));
            continue;
        }
        let (started, begin, end) = match rest.split_once(" resumed>") {
            Some((_, end)) => match unfinished.remove(thread) {
                Some((started, begin)) => (started, begin, end),
                None => continue,
            },
            None => (time, rest, rest),
        };
        calls.extend(call(started, begin, end));
    }
    calls
}

/// Parses a call. The line `begin` contains the name and the arguments, and `end` the result and the duration.
fn call(started: f64, begin: &str, end: &str) -> Option<Call> {
    let (name, arguments) = begin.split_once('(')?;
    let (_, result) = end
        .rsplit_once(") = ")
        .or_else(|| end.rsplit_once(")  = "))?;
    let (_, duration) = result.rsplit_once('<')?;
    let duration: f64 = duration.trim_end_matches('>').parse().ok()?;
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        started,
        ended: started + duration,
        result: result.split_whitespace().next()?.parse().ok()?,
    })
}
