//! What is measured and how, from the command line.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::place::{Cluster, Database, Place};
use crate::process;
use crate::service::{Program, Role};

/// Measures Leadsmith against its limit on this machine, or against another build of it.
///
/// The limit of a call is L = 1 / (1/R_echo + 1/R_db): R_echo are the calls per second of an empty
/// tonic server with the same payloads, R_db is what the database does by itself for what the call
/// promises, in tables of its own (bench/src/limits). All three are measured in turn, on the same
/// cores. The service runs as its users run it: a process of its own, default settings,
/// authentication, history, events.
///
/// Leads are loaded once for each size and kept in the folder bench beside the build; each build of
/// the service migrates a copy. Nothing else on the machine should be busy.
#[derive(Parser)]
#[command(name = "bench", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Everything below
    All(Sizes),
    /// Get by id: rate and, with one caller, p50
    Get,
    /// List, 50 leads, in every order: the first page's rate, and the p50 of a page far behind it
    List,
    /// Search for a text that ten leads have, that one in 1,000 has, and that all have: p50
    Search,
    /// Update of searched fields and of another one: rate and, with one caller, p50
    Update,
    /// Convert, and RunAction of an order's provision-client: rate
    Convert,
    /// Create with request id: rate
    Create,
    /// Sign in: rate beside argon2's, and Get's p99 meanwhile
    SignIn,
    /// Create as a backend that imports a list does: 128 in flight, no request ids
    Import,
    /// How Get, List, Search and Update grow with the number of leads: p50 of one caller
    Scale(Sizes),
    /// Memory of the service: idle, under load, and whether it grows
    Memory {
        /// How long the load lasts
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
    },
    /// Serve answers from standard input
    #[command(hide = true)]
    Echo,
}

#[derive(Args, Clone, Debug)]
pub struct Sizes {
    /// The numbers of leads that `scale` compares with the first
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    pub sizes: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Databases {
    Sqlite,
    Postgres,
    Both,
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The build of leadsmith to measure [default: this source tree's, built by cargo]
    #[arg(long, global = true, value_name = "BINARY")]
    pub program: Option<PathBuf>,
    /// Measure another build of leadsmith in turn with it, on the same content, and compare them.
    /// `scale` and `memory` do not
    #[arg(long, global = true, value_name = "BINARY")]
    pub against: Option<PathBuf>,
    /// On which database
    #[arg(long, global = true, default_value = "both")]
    pub database: Databases,
    /// How many leads there are
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub leads: u64,
    /// How many calls are in flight
    #[arg(long, global = true, default_value_t = 64)]
    pub in_flight: usize,
    /// Over how many connections
    #[arg(long, global = true, default_value_t = 4)]
    pub connections: usize,
    /// How many seconds each measurement takes
    #[arg(long, global = true, default_value_t = 5.0)]
    pub seconds: f64,
    /// How often echo, limit and service are measured in turn
    #[arg(long, global = true, default_value_t = 3)]
    pub rounds: usize,
    /// Cores for the servers and databases, as a list for taskset. Helps where there are many
    #[arg(long, global = true, value_name = "CORES", requires = "caller_cores")]
    pub server_cores: Option<String>,
    /// Cores for the callers: this program and pgbench
    #[arg(long, global = true, value_name = "CORES", requires = "server_cores")]
    pub caller_cores: Option<String>,
    /// Where the data sets are kept [default: bench beside the build]
    #[arg(long, global = true)]
    pub folder: Option<PathBuf>,
    /// Write the results into bench/results and PERFORMANCE.md instead of the folder of the data sets
    #[arg(long, global = true)]
    pub save: bool,
}

/// The settings of every measurement.
pub struct Setting {
    pub folder: PathBuf,
    /// The build that is tested, and behind it the one it is compared with.
    programs: Vec<Program>,
    pub leads: u64,
    pub in_flight: usize,
    pub connections: usize,
    pub time: Duration,
    pub rounds: usize,
    pub server_cores: Option<String>,
    caller_cores: Option<String>,
    databases: Databases,
    /// Started when it is first needed.
    cluster: Mutex<Option<Arc<Cluster>>>,
    /// Locks the folder for this run.
    _lock: std::fs::File,
}

impl Setting {
    pub fn new(options: &Options) -> Result<Self> {
        let folder = match &options.folder {
            Some(folder) => std::path::absolute(folder)?,
            None => {
                let program = std::env::current_exe()?;
                let build = program.parent().and_then(|folder| folder.parent());
                build.context("no folder of the build")?.join("bench")
            }
        };
        std::fs::create_dir_all(&folder)?;
        let lock = std::fs::File::create(folder.join("lock"))?;
        lock.try_lock().context(
            "another run uses the folder of the data sets: wait for it, or use --folder",
        )?;
        let tested = match &options.program {
            Some(path) => path.clone(),
            None => Program::build()?,
        };
        let mut programs = vec![Program::take(&folder, Role::Tested, &tested)?];
        if let Some(other) = &options.against {
            programs.push(Program::take(&folder, Role::Against, other)?);
        }
        let setting = Self {
            folder,
            programs,
            leads: options.leads.div_ceil(100) * 100,
            in_flight: options.in_flight.max(1),
            connections: options.connections.max(1),
            time: Duration::from_secs_f64(options.seconds.max(0.1)),
            rounds: options.rounds.max(1),
            server_cores: options.server_cores.clone(),
            caller_cores: options.caller_cores.clone(),
            databases: options.database,
            cluster: Mutex::default(),
            _lock: lock,
        };
        setting.go_to(setting.caller_cores.as_deref())?;
        Ok(setting)
    }

    /// The builds that are measured in turn, the tested one first.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The tested build alone.
    pub fn tested(&self) -> &[Program] {
        &self.programs[..1]
    }

    /// Does in this program what is compared with a server's work.
    pub fn on_server_cores<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.go_to(self.server_cores.as_deref())?;
        let done = work();
        self.go_to(self.caller_cores.as_deref())?;
        done
    }

    /// Moves this program to other cores.
    fn go_to(&self, cores: Option<&str>) -> Result<()> {
        cores.map_or(Ok(()), |cores| process::pin(std::process::id(), cores))
    }

    /// The databases to measure on.
    pub fn databases(&self) -> Vec<Database> {
        match self.databases {
            Databases::Sqlite => vec![Database::Sqlite],
            Databases::Postgres => vec![Database::Postgres],
            Databases::Both => vec![Database::Sqlite, Database::Postgres],
        }
    }

    /// The place of this name.
    pub fn place(&self, database: Database, name: &str) -> Result<Place> {
        Ok(match database {
            Database::Sqlite => Place::Sqlite(self.folder.join(format!("{name}.db"))),
            Database::Postgres => Place::Postgres(self.cluster()?, name.to_owned()),
        })
    }

    fn cluster(&self) -> Result<Arc<Cluster>> {
        let mut cluster = self.cluster.lock().unwrap_or_else(|held| held.into_inner());
        if let Some(cluster) = &*cluster {
            return Ok(Arc::clone(cluster));
        }
        let cores = self.server_cores.as_deref();
        let started = Arc::new(Cluster::start(&self.folder, cores)?);
        *cluster = Some(Arc::clone(&started));
        Ok(started)
    }
}
