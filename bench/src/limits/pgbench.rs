//! PostgreSQL's limit: pgbench with prepared statements, with the best number of connections. Changes are
//! committed individually and in groups, as SQLite's are, and the faster way counts.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::data::{BEGIN, STRIDE};
use crate::process;
use crate::storage::Cluster;

/// The smallest number of connections that is tried.
const CLIENTS: usize = 16;
/// How many changes of a group share a commit. Larger groups lock so many rows that the connections wait for each
/// other.
const GROUP: usize = 16;
/// How often a group is retried that conflicted with another group.
const TRIES: usize = 100;
/// How long each way is tried.
const TRIAL: Duration = Duration::from_secs(2);

/// Sets `:n` to the number of a random lead of `:leads`.
pub const ANY: &str = "\\set n random(1, :leads)\n";
/// Sets `:n` to the number of a random OPEN lead of `:leads`.
pub const OPEN: &str = "\\set n random(0, :leads / 10 - 1) * 10 + random(1, 9)\n";

/// Sets `:n` to the number of the lead of a random order of `:orders`, where `:open` leads are OPEN, numbered as
/// in [`crate::data::ordered`].
pub fn ordered() -> String {
    format!(
        "\\set k ((:open - 1 - random(0, :orders - 1)) * {STRIDE}) % :open\n\\set n :k / 9 * 10 + :k % 9 + 1\n"
    )
}

/// The lines that set `:h1` and `:h2`, from which [`uuid()`] makes the id of the lead `:n`:
/// [`crate::data::lead_id`] in pgbench's language.
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

/// The lines that set `:NAME1` and `:NAME2` to a new id, ordered by time like the service's ids. `:now` is the
/// time in milliseconds at the start, and `:made` is a counter.
pub fn new_id(name: &str) -> String {
    format!(
        "\\set made :made + 1\n\
         \\set {name}1 ((:now + :made) << 16) | 28672 | random(0, 4095)\n\
         \\set {name}2 random({}, {})\n",
        8_i64 << 56,
        (9_i64 << 56) - 1
    )
}

/// The lines that set `:NAME1` and `:NAME2` to a random id, like the request ids of callers.
pub fn random_id(name: &str) -> String {
    format!(
        "\\set {name}1 random({}, {})\n\\set {name}2 random({}, {})\n",
        1_i64 << 56,
        (1_i64 << 60) - 1,
        8_i64 << 56,
        (9_i64 << 56) - 1
    )
}

/// The UUID of two variables.
pub fn uuid(name: &str) -> String {
    format!("('0' || to_hex(:{name}1::bigint) || 'a' || to_hex(:{name}2::bigint))::uuid")
}

/// A pgbench script.
pub struct Script {
    /// Each run selects one of these at random.
    pub statements: Vec<String>,
    pub variables: Vec<(&'static str, String)>,
    /// Whether it changes anything.
    pub writes: bool,
}

/// A script and the database to run it on.
pub struct Pgbench {
    cluster: Arc<Cluster>,
    database: String,
    script: Script,
    /// How many calls the service would have in flight.
    in_flight: usize,
    /// The best way to run the script, once it is known.
    best: OnceLock<Way>,
}

/// A way to run a script.
#[derive(Clone, Copy, Debug)]
struct Way {
    clients: usize,
    /// How many changes share a commit.
    group: usize,
}

impl Pgbench {
    pub fn new(cluster: &Arc<Cluster>, database: &str, script: Script, in_flight: usize) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            database: database.to_owned(),
            script,
            in_flight,
            best: OnceLock::new(),
        }
    }

    /// Runs per second in the best way.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        let way = match self.best.get() {
            Some(way) => *way,
            None => {
                let best = self.find_best(TRIAL)?;
                *self.best.get_or_init(|| best)
            }
        };
        self.run(way, time, None)
    }

    /// Tries all ways to run the script.
    fn find_best(&self, time: Duration) -> Result<Way> {
        let few = self.in_flight.min(CLIENTS);
        let way = |clients, group| Way { clients, group };
        let mut ways = vec![way(few, 1)];
        if self.in_flight > few {
            ways.push(way(self.in_flight, 1));
        }
        if self.script.writes {
            ways.extend([way(few, GROUP), way(few.div_ceil(4), GROUP)]);
        }
        let mut best: Option<(f64, Way)> = None;
        for way in ways {
            let rate = self.run(way, time, None)?;
            if best.is_none_or(|(most, _)| rate > most) {
                best = Some((rate, way));
            }
        }
        let (_, way) = best.context("no way to run pgbench")?;
        eprintln!(
            "  PostgreSQL alone does best over {} connections, {} works a commit",
            way.clients, way.group
        );
        Ok(way)
    }

    /// The median time of a run over one connection, in microseconds.
    pub fn p50(&self, time: Duration) -> Result<f64> {
        let folder = self.cluster.folder().join("log");
        fs::create_dir_all(&folder)?;
        let run = self.run(Way::ALONE, time, Some(&folder));
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

    fn run(&self, way: Way, time: Duration, log: Option<&Path>) -> Result<f64> {
        let mut command = self.cluster.client("pgbench", &self.database);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let now = crate::clock::now().timestamp_millis();
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .arg(format!("--client={}", way.clients))
            .arg(format!("--jobs={}", way.clients.min(cores)))
            .arg(format!("--time={}", time.as_secs().max(1)))
            .arg(format!("--max-tries={TRIES}"))
            .arg(format!("--define=now={now}"))
            .arg("--define=made=0");
        for (name, value) in &self.script.variables {
            command.arg(format!("--define={name}={value}"));
        }
        if let Some(folder) = log {
            command
                .arg("--log")
                .arg("--log-prefix")
                .arg(folder.join("log"));
        }
        for (index, statement) in self.script.statements.iter().enumerate() {
            let file = self.cluster.folder().join(format!("{index}.pgbench"));
            fs::write(&file, way.script(statement))?;
            command.arg("--file").arg(&file);
        }
        let output = process::run(&mut command)?;
        let rate = printed_rate(&output);
        let rate = rate.with_context(|| format!("pgbench prints no rate: {output}"))?;
        Ok(rate * way.group as f64)
    }
}

impl Way {
    const ALONE: Self = Self {
        clients: 1,
        group: 1,
    };

    /// The script that runs a statement once, or as a group in one transaction and one round trip.
    fn script(self, statement: &str) -> String {
        match self.group {
            1 => statement.to_owned(),
            group => format!(
                "\\startpipeline\nBEGIN;\n{}COMMIT;\n\\endpipeline\n",
                statement.repeat(group)
            ),
        }
    }
}

/// The rate in pgbench's output. There is none if no transaction was completed.
fn printed_rate(output: &str) -> Option<f64> {
    if output.contains("actually processed: 0\n") {
        return Some(0.0);
    }
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

/// The times in microseconds in pgbench's log, whose columns are: client, transaction, time, script, timestamp.
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
        let none = "number of transactions actually processed: 0\n";
        assert_eq!(printed_rate(none), Some(0.0));
        let log = "0 1 412 0 1175850568 995598\n0 2 3097 0 1175850569 1022\n";
        assert_eq!(logged_times(log).collect::<Vec<_>>(), [412, 3097]);
    }
}
