//! strace on processes that run: what they ask of the system and when, and calls of the system that fail
//! or take long because we say so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::cluster::signal;

const PATIENCE: Duration = Duration::from_secs(10);

/// strace at work. What it does to the processes ends with it; they go on.
pub struct Tracing {
    child: Child,
    folder: TempDir,
}

/// One call of the system.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// Its arguments, with the paths and addresses that file descriptors stand for.
    pub arguments: String,
    /// In seconds since 1970.
    pub begun: f64,
    pub ended: f64,
    /// What came of it; -1 for a failure.
    pub result: i64,
}

impl Tracing {
    /// Begins to watch these processes, all their threads and children, for these calls. `expressions`
    /// are strace's own (`-e`).
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
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let said = fs::read_to_string(tracing.path("said"))?;
            if said.matches(" attached").count() >= processes.len() {
                // Threads that begin at this moment are on their way.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Ok(tracing);
            }
            if let Some(status) = tracing.child.try_wait()? {
                bail!("strace ended at once ({status}): {said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("strace does not begin")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends it, and gives what was called, in the order of the ends.
    pub fn end(mut self) -> Result<Vec<Call>> {
        self.stop()?;
        let text = fs::read(self.path("calls"))?;
        Ok(parse(&String::from_utf8_lossy(&text)))
    }

    /// Asks it to let go, and waits until it has: killed, it would leave processes stopped.
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
        // Nobody is left to be told.
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
        let (begun, begin, end) = match rest.split_once(" resumed>") {
            Some((_, end)) => match unfinished.remove(thread) {
                Some((begun, begin)) => (begun, begin, end),
                None => continue,
            },
            None => (time, rest, rest),
        };
        calls.extend(call(begun, begin, end));
    }
    calls
}

/// A call of which the line `begin` has the name and the arguments, and `end` the result and how long it
/// took.
fn call(begun: f64, begin: &str, end: &str) -> Option<Call> {
    let (name, arguments) = begin.split_once('(')?;
    let (_, result) = end
        .rsplit_once(") = ")
        .or_else(|| end.rsplit_once(")  = "))?;
    let (_, lasted) = result.rsplit_once('<')?;
    let lasted: f64 = lasted.trim_end_matches('>').parse().ok()?;
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        begun,
        ended: begun + lasted,
        result: result.split_whitespace().next()?.parse().ok()?,
    })
}
