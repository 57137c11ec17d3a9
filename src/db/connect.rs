//! Opens the database.
//!
//! It sets what the drivers' defaults get wrong, and refuses a database whose configuration could
//! lose an acknowledged change. It depends on the settings of `config/` only, and knows nothing of
//! the queries that run on the connections.

mod postgres;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, DatabaseConnection, DbErr, RuntimeErr, SqlxError};
use secrecy::{ExposeSecret, SecretString};

use postgres::{PlanMode, Server};
pub(super) use sqlite::{is_locked, lock_exclusively, open_file};

use super::failover::{ConnectionEpoch, hosts};
use super::observe::observed;
use super::page_pool::{PageConnection, PagePool, StatementDeadline};
use super::reader::Reader;
use super::{Db, Pools, sqlite_files};
use crate::config::{Limits, StartupError};
use crate::core::clock::Clock;
use crate::metrics::Metrics;

/// The database that a URL identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A SQLite file.
    Sqlite(std::path::PathBuf),
    /// A PostgreSQL server.
    Postgres,
}

impl Target {
    /// Parses a database URL: `sqlite:FILE` (also `sqlite://FILE`) or `postgres://…`.
    ///
    /// # Errors
    /// A message that says what is wrong. It does not contain the URL, which may hold a password.
    pub fn parse(secret: &SecretString) -> Result<Self, StartupError> {
        let url = secret.expose_secret();
        if url.contains(char::is_control) {
            return Err(StartupError::settings(
                "the database URL contains a line break or another control character: remove it, or percent-encode \
                 it if it is part of a password",
            ));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            hosts::parse(secret)?;
            return Ok(Self::Postgres);
        }
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Err(StartupError::settings(
                "the database URL must begin with sqlite: or postgres://, \
                 as in sqlite:leadsmith.db or postgres://leadsmith@localhost/leadsmith",
            ));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.trim() != file {
            return Err(StartupError::settings(
                "the database URL has whitespace before or after the file name: remove it",
            ));
        }
        if file.is_empty() || file.contains(":memory:") || file.contains('?') {
            return Err(StartupError::settings(
                "the database URL must have a file name after sqlite:, without parameters: a database in memory \
                 would lose every lead when the program ends",
            ));
        }
        let path = Path::new(file).to_path_buf();
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                Err(StartupError::settings(format!(
                    "the folder {} of the database file does not exist: create it first",
                    folder.display()
                )))
            }
            _ => Ok(Self::Sqlite(path)),
        }
    }
}

/// Opens the database for serving.
///
/// # Errors
/// If the database cannot be reached, or its configuration could lose an acknowledged change.
pub async fn open(url: &SecretString, limits: &Limits, clock: Clock) -> Result<Db, StartupError> {
    let metrics = Metrics::new()
        .map_err(|error| StartupError::new(format!("the metrics cannot be created: {error}")))?;
    let metrics = Arc::new(metrics);
    let epoch = Arc::<ConnectionEpoch>::default();
    let (mut hosts, mut open_file, mut page_connections) = (Vec::new(), None, Vec::new());
    let (readers, connections, writer) = match Target::parse(url)? {
        Target::Sqlite(file) => {
            let file = sqlite_files::existing_database(&file)?;
            sqlite_files::warn_about_permissions(&file);
            open_file = Some(sqlite::writable_file(&file)?);
            let wait = limits.connection_wait;
            let writer = sqlite::options(&file, 1, limits.sqlite_write_wait, false);
            let writer = sqlite::connect(&file, writer, wait).await?;
            for _ in 0..limits.sqlite_readers {
                let deadline = Arc::<StatementDeadline>::default();
                let options = sqlite::options(&file, 1, wait, true);
                let options = sqlite::with_deadline(options, Arc::clone(&deadline));
                let pool = observed(sqlite::connect(&file, options, wait).await?, &metrics);
                let reader = Reader::new(pool, &epoch, 1);
                page_connections.push(PageConnection { reader, deadline });
            }
            // Lookups by key are fast, so they need fewer connections.
            let connections = limits.sqlite_readers.div_ceil(2);
            let readers = sqlite::options(&file, connections, wait, true);
            let readers = sqlite::connect(&file, readers, wait).await?;
            (observed(readers, &metrics), connections, writer)
        }
        Target::Postgres => {
            let writers = (limits.postgres_connections / 2).max(1);
            let readers = (limits.postgres_connections - writers).max(1);
            let server = Server::find(url).await?;
            let options =
                |connections, plans| server.options(connections, limits, plans, Some(&epoch));
            let pool = server.connect(options(readers, PlanMode::Auto)).await?;
            let pool = observed(pool, &metrics);
            let writer = options(writers, PlanMode::GenericByKey);
            let writer = server.connect(writer).await?;
            hosts = server.hosts;
            // A quarter of the connections stays reserved for lookups by key.
            for _ in 0..(readers * 3).div_ceil(4).min(readers - 1).max(1) {
                let reader = Reader::new(pool.clone(), &epoch, readers);
                let deadline = Arc::default();
                page_connections.push(PageConnection { reader, deadline });
            }
            (pool, readers, writer)
        }
    };
    let pools = Pools {
        readers: Reader::new(readers, &epoch, connections),
        pages: PagePool::new(
            page_connections,
            limits.connection_wait,
            limits.statement_time,
        ),
        writer: observed(writer, &metrics),
    };
    let write_wait = limits.sqlite_write_wait;
    Ok(Db::new(pools, hosts, open_file, write_wait, clock, metrics))
}

/// How long a connection for migrations waits for another process's migrations.
const MIGRATION_WAIT: Duration = Duration::from_secs(10);

/// One connection without a statement timeout, for migrations. Creates the SQLite file if there is
/// none.
///
/// # Errors
/// If the database cannot be reached.
pub async fn open_for_migration(url: &SecretString) -> Result<DatabaseConnection, StartupError> {
    match Target::parse(url)? {
        Target::Sqlite(file) => {
            let file = sqlite_files::create_database(&file)?;
            let options = sqlite::options(&file, 1, MIGRATION_WAIT, false);
            sqlite::connect(&file, options, MIGRATION_WAIT).await
        }
        Target::Postgres => connect_once(&Server::find(url).await?).await,
    }
}

/// One connection to an existing database. Opening it changes nothing in the database.
///
/// # Errors
/// If there is no database, or it cannot be reached.
pub async fn open_existing(url: &SecretString) -> Result<DatabaseConnection, StartupError> {
    match Target::parse(url)? {
        Target::Sqlite(file) => open_file(&sqlite_files::existing_database(&file)?, false).await,
        Target::Postgres => connect_once(&Server::find(url).await?).await,
    }
}

async fn connect_once(server: &Server) -> Result<DatabaseConnection, StartupError> {
    let limits = Limits {
        statement_time: Duration::ZERO,
        connection_wait: MIGRATION_WAIT,
        ..Limits::default()
    };
    let options = server.options(1, &limits, PlanMode::Auto, None);
    server.connect(options).await
}

/// Whether the error says that all connections were in use.
pub fn is_pool_exhausted(error: &DbErr) -> bool {
    matches!(driver_error(error), Some(SqlxError::PoolTimedOut))
        || matches!(error, DbErr::ConnectionAcquire(_))
}

/// The driver's error.
fn driver_error(error: &DbErr) -> Option<&SqlxError> {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else {
        return None;
    };
    match runtime {
        RuntimeErr::SqlxError(error) => Some(error),
        RuntimeErr::Internal(_) => None,
    }
}

/// The pool options that both databases share: quiet logs, bounded waits, and no ping before each
/// use. Connections are kept however old or idle they are: the task by which sqlx 0.9.0 closes old
/// and idle ones can keep a thread busy for ever (transact-rs/sqlx#3645, fixed after that version).
fn pooled(url: String, connections: u32, wait: Duration) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(wait)
        .connect_timeout(wait)
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging_level(tracing::log::LevelFilter::Debug)
        .test_before_acquire(false);
    options
}

/// A connection that was idle for longer than this is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
