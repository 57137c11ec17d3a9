//! PostgreSQL's limit: pgbench with one prepared statement.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::data::{BEGIN, STRIDE};
use crate::place::Cluster;
use crate::process;

/// How many connections the service has by default: the least that is tried.
const CLIENTS: usize = 16;
/// How long a number of connections is tried.
const TRIAL: Duration = Duration::from_secs(2);

/// Makes `:n` the number of a random lead of `:leads`.
pub const ANY: &str = "\\set n random(1, :leads)\n";
/// Makes `:n` the number of a random OPEN lead of `:leads`.
pub const OPEN: &str = "\\set n random(0, :leads / 10 - 1) * 10 + random(1, 9)\n";

/// Makes `:n` the number of a random one of those of `:open` OPEN leads that are left to the database
/// alone: the second half of the first `:turns`, as [`crate::data::shuffled`] counts them.
pub fn shuffled() -> String {
    format!(
        "\\set k (random(:turns / 2, :turns - 1) * {STRIDE}) % :open\n\\set n :k / 9 * 10 + :k % 9 + 1\n"
    )
}

/// The lines that make `:h1` and `:h2`, from which [`uuid()`] is the id of the lead `:n`:
/// [`crate::data::lead_id`] in pgbench's words.
pub fn lead_id() -> String {
    id_of("h", BEGIN * 1_000)
}

/// The same for the order of lead `:n`, in `:o1` and `:o2`.
pub fn order_id() -> String {
    id_of("o", BEGIN * 1_000 + 500)
}

fn id_of(name: &str, begin: i64) -> String {
    format!(
        "\\set hash hash_fnv1a(:n, 0)\n\
         \\set {name}1 (({begin} + :n * 1000) << 16) | 28672 | ((:hash >> 40) & 4095)\n\
         \\set {name}2 (:hash & {}) | {}\n",
        (1_i64 << 56) - 1,
        8_i64 << 56
    )
}

/// The lines that make `:NAME1` and `:NAME2` a new id, ordered by time like the service's. `:now` is
/// the time in milliseconds at the start and `:made` counts.
pub fn new_id(name: &str) -> String {
    format!(
        "\\set made :made + 1\n\
         \\set {name}1 ((:now + :made) << 16) | 28672 | random(0, 4095)\n\
         \\set {name}2 random({}, {})\n",
        8_i64 << 56,
        (9_i64 << 56) - 1
    )
}

/// The UUID of two variables.
pub fn uuid(name: &str) -> String {
    format!("('0' || to_hex(:{name}1::bigint) || 'a' || to_hex(:{name}2::bigint))::uuid")
}

/// A statement with what it needs, run by pgbench.
pub struct Pgbench {
    cluster: Arc<Cluster>,
    database: String,
    /// One of these is run at random each time.
    scripts: Vec<String>,
    variables: Vec<(String, String)>,
    /// How many calls would be in flight.
    in_flight: usize,
    /// How many connections do best; 0 until that is known.
    best: AtomicUsize,
}

impl Pgbench {
    pub fn new(
        cluster: &Arc<Cluster>,
        database: &str,
        scripts: Vec<String>,
        variables: Vec<(&str, String)>,
        in_flight: usize,
    ) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            database: database.to_owned(),
            scripts,
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            in_flight,
            best: AtomicUsize::new(0),
        }
    }

    /// Transactions per second, with as many connections as do best.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        if self.best.load(Ordering::Relaxed) == 0 {
            let trial = TRIAL.min(time);
            let few = self.in_flight.min(CLIENTS);
            let best = if self.in_flight > few
                && self.run(self.in_flight, trial, None)? > self.run(few, trial, None)?
            {
                self.in_flight
            } else {
                few
            };
            self.best.store(best, Ordering::Relaxed);
        }
        self.run(self.best.load(Ordering::Relaxed), time, None)
    }

    /// The median of a transaction's time over one connection, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        let folder = self.cluster.folder().join("log");
        fs::create_dir_all(&folder)?;
        let run = self.run(1, time, Some(&folder));
        let mut times = Vec::new();
        for entry in fs::read_dir(&folder)? {
            times.extend(logged_times(&fs::read_to_string(entry?.path())?));
        }
        fs::remove_dir_all(&folder)?;
        run?;
        times.sort_unstable();
        let middle = times.get(times.len() / 2);
        Ok(*middle.context("pgbench has logged nothing")? as f64)
    }

    fn run(&self, clients: usize, time: Duration, log: Option<&Path>) -> Result<f64> {
        let mut command = self.cluster.client("pgbench", &self.database);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let now = leadsmith::clock::Clock::default().now().timestamp_millis();
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={}", clients.min(cores)))
            .arg(format!("--time={}", time.as_secs().max(1)))
            .arg(format!("--define=now={now}"))
            .arg("--define=made=0");
        for (name, value) in &self.variables {
            command.arg(format!("--define={name}={value}"));
        }
        if let Some(folder) = log {
            command
                .arg("--log")
                .arg("--log-prefix")
                .arg(folder.join("log"));
        }
        let mut files = Vec::new();
        for (index, script) in self.scripts.iter().enumerate() {
            let file = self.cluster.folder().join(format!("{index}.pgbench"));
            fs::write(&file, script)?;
            command.arg("--file").arg(&file);
            files.push(file);
        }
        let output = process::run(&mut command);
        for file in files {
            fs::remove_file(file)?;
        }
        let output = output?;
        printed_rate(&output).with_context(|| format!("pgbench tells no rate: {output}"))
    }
}

/// The rate in what pgbench prints.
fn printed_rate(output: &str) -> Option<f64> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

/// The times in microseconds in pgbench's log: client, transaction, time, script, when.
fn logged_times(log: &str) -> impl Iterator<Item = u64> {
    log.lines()
        .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_times_are_found_in_what_pgbench_writes() {
        let output = "transaction type: x\nnumber of failed transactions: 0 (0.000%)\n\
                      tps = 12345.678901 (without initial connection time)\n";
        assert_eq!(printed_rate(output), Some(12345.678901));
        assert_eq!(printed_rate("pgbench: error"), None);
        let log = "0 1 412 0 1175850568 995598\n0 2 3097 0 1175850569 1022\n";
        assert_eq!(logged_times(log).collect::<Vec<_>>(), [412, 3097]);
    }
}
