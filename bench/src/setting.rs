//! The command line: what to measure and how.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::process;
use crate::program::{Program, Role};
use crate::storage::{Cluster, Database, Storage};

/// Measures Leadsmith against its limit on this machine, or against another build of it.
///
/// The limit of a call is L = 1 / (1/R_echo + 1/R_db). R_echo is the rate, in calls per second, of an empty tonic
/// server with the same payloads. R_db is the rate at which the database alone can do the work that the call
/// promises, in separate tables (bench/src/limits). All three are measured alternately on the same cores. The
/// service runs as in production: in its own process, with default settings, authentication, history and events.
///
/// Leads are loaded once per size and kept in the folder bench next to the build. Each build of the service
/// migrates a copy. Nothing else should run on the machine.
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
    /// All of the following
    All(Sizes),
    /// Get by id: rate and, with one caller, p50
    Get,
    /// List, 50 leads, in every order: rate of the first page, and p50 of a page far behind it
    List,
    /// Search for a text that ten leads have, that one in 1,000 has, and that all have: p50
    Search,
    /// Update of searched fields and of another field: rate and, with one caller, p50
    Update,
    /// Convert, and RunAction of an order's provision-client: rate
    Convert,
    /// RunAction of a MANUAL action, and ClaimActions: rate
    Actions,
    /// Update of an opportunity: rate and, with one caller, p50
    Opportunities,
    /// The dashboard over all leads, and as many opportunities: p50 of one caller
    Dashboard,
    /// Create with request id: rate
    Create,
    /// Sign in: rate compared with argon2 alone, and p99 of Get during sign-ins
    SignIn,
    /// Create as in an import of a list: 128 in flight, no request ids
    Import,
    /// Streams of events: how soon they come, and what 500 streams cost in memory, in the rate of Update and in reads
    Watch,
    /// How Get, List, Search and Update grow with the number of leads: p50 of one caller
    Scale(Sizes),
    /// Memory of the service: idle, under load, and whether it grows
    Memory {
        /// How long the load lasts
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
    },
    /// Serve responses from standard input
    #[command(hide = true)]
    Echo,
}

#[derive(Args, Clone, Debug)]
pub struct Sizes {
    /// The numbers of leads. `scale` compares each with the first
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
    /// The build of leadsmith to measure [default: a build of this source tree by cargo]
    #[arg(long, global = true, value_name = "BINARY")]
    pub program: Option<PathBuf>,
    /// Another build of leadsmith to compare with, measured alternately on the same data. `scale`, `memory`
    /// and `watch` ignore it
    #[arg(long, global = true, value_name = "BINARY")]
    pub against: Option<PathBuf>,
    /// The database to run on
    #[arg(long, global = true, default_value = "both")]
    pub database: Databases,
    /// The number of leads
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub leads: u64,
    /// The number of calls in flight
    #[arg(long, global = true, default_value_t = 64)]
    pub in_flight: usize,
    /// The number of connections
    #[arg(long, global = true, default_value_t = 4)]
    pub connections: usize,
    /// The duration of each measurement in seconds
    #[arg(long, global = true, default_value_t = 5.0)]
    pub seconds: f64,
    /// How many rounds of echo, limit and service to measure
    #[arg(long, global = true, default_value_t = 3)]
    pub rounds: usize,
    /// Cores for the servers and databases, as a list for taskset. Useful on machines with many cores
    #[arg(long, global = true, value_name = "CORES", requires = "caller_cores")]
    pub server_cores: Option<String>,
    /// Cores for the callers: this program and pgbench
    #[arg(long, global = true, value_name = "CORES", requires = "server_cores")]
    pub caller_cores: Option<String>,
    /// The folder of the data sets [default: bench next to the build]
    #[arg(long, global = true)]
    pub folder: Option<PathBuf>,
    /// Write the results to bench/results and PERFORMANCE.md instead of the folder of the data sets
    #[arg(long, global = true)]
    pub save: bool,
}

/// The settings of all measurements.
pub struct Setting {
    pub folder: PathBuf,
    /// The tested build, then the build that it is compared with, if any.
    programs: Vec<Program>,
    pub leads: u64,
    pub in_flight: usize,
    pub connections: usize,
    pub time: Duration,
    pub rounds: usize,
    pub server_cores: Option<String>,
    caller_cores: Option<String>,
    databases: Databases,
    /// Started at first use.
    cluster: Mutex<Option<Arc<Cluster>>>,
    /// The lock on the folder during this run.
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

    /// The builds to measure alternately, the tested one first.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The tested build.
    pub fn tested(&self) -> &[Program] {
        &self.programs[..1]
    }

    /// Runs work in this process on the server's cores, because it is compared with the work of a server.
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

    /// The storage with this name.
    pub fn storage(&self, database: Database, name: &str) -> Result<Storage> {
        Ok(match database {
            Database::Sqlite => Storage::Sqlite(self.folder.join(format!("{name}.db"))),
            Database::Postgres => Storage::Postgres(self.cluster()?, name.to_owned()),
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
