//! Child processes: starting, stopping, and reading their figures in /proc.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A process that is killed on drop.
pub struct Running(Child);

impl Running {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may already have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to completion and returns its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not start"))?;
    succeeded(&name, output)
}

/// Returns the standard output if the program succeeded.
pub fn succeeded(name: &str, output: Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        // The first lines contain the cause, later ones only its consequences.
        let said = text(&output.stderr) + &text(&output.stdout);
        let said: Vec<&str> = said.lines().take(6).collect();
        bail!("{name} failed ({}): {}", output.status, said.join("\n"));
    }
    Ok(text(&output.stdout))
}

/// A program that runs on these cores, or on all. The affinity is set before the start, so that the program
/// creates the right number of threads.
pub fn on_cores(cores: Option<&str>, program: &Path) -> Command {
    let Some(cores) = cores else {
        return Command::new(program);
    };
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program);
    command
}

/// Pins a process and its threads to these cores (a list in taskset's format).
pub fn pin(id: u32, cores: &str) -> Result<()> {
    run(Command::new("taskset").args(["-a", "-c", "-p", cores, &id.to_string()])).map(|_| ())
}

/// The current and the peak resident memory of a process, in MiB.
pub fn memory(id: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = number.context("no memory in /proc")?.parse()?;
        anyhow::Ok(kib / 1024.0)
    };
    Ok((of("VmRSS:")?, of("VmHWM:")?))
}

/// The processor time used by a process so far.
pub fn cpu(id: u32) -> Result<Duration> {
    Ok(Stat::of(id)
        .with_context(|| format!("process {id} is gone"))?
        .cpu)
}

/// The processor time used by a process and its descendants, including ended ones.
pub fn cpu_with_children(id: u32) -> Result<Duration> {
    let mut all = Stat::of(id).with_context(|| format!("process {id} is gone"))?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::of(child).filter(|stat| stat.parent == id) {
            all.cpu += stat.cpu;
        }
    }
    Ok(all.cpu + all.ended_children)
}

struct Stat {
    parent: u32,
    cpu: Duration,
    ended_children: Duration,
}

impl Stat {
    /// None if the process no longer exists.
    fn of(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The process name is in parentheses and can contain any character.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        // In all Linux interfaces for programs a tick is 10 ms.
        let time = |ticks| Duration::from_millis(10 * ticks);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            cpu: time(ticks(11)? + ticks(12)?),
            ended_children: time(ticks(13)? + ticks(14)?),
        })
    }
}

/// Whether all users may enter the parent folders of this one.
pub fn is_open_to_all(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}
