//! Opens the database with the settings its defaults get wrong, and refuses an unsafe one.

mod postgres;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, DatabaseConnection, DbErr, RuntimeErr, SqlxError};
use secrecy::{ExposeSecret, SecretString};

use postgres::{Plans, Server};
pub(super) use sqlite::{is_locked, open_file};

use super::pages::{Connection, Pages, StatementClock};
use super::reader::{Lost, Reader};
use super::{Db, hosts, place};
use crate::clock::Clock;
use crate::config::{Limits, Refusal};

/// Which database a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file.
    Sqlite(std::path::PathBuf),
    /// A server.
    Postgres,
}

impl Target {
    /// Reads a database URL: `sqlite:FILE` (also `sqlite://FILE`) or `postgres://…`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, without the URL, which may hold a password.
    pub fn parse(secret: &SecretString) -> Result<Self, Refusal> {
        let url = secret.expose_secret();
        if url.contains(char::is_control) {
            return Err(Refusal::new(
                "the database URL has a line break or another control character in it: leave it out, or \
                 percent-encode it where it is part of a password",
            ));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            hosts::parse(secret)?;
            return Ok(Self::Postgres);
        }
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Err(Refusal::new(
                "the database URL must begin with sqlite: or postgres://, \
                 as in sqlite:leadsmith.db or postgres://leadsmith@localhost/leadsmith",
            ));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.trim() != file {
            return Err(Refusal::new(
                "the database URL has a blank before the name of the file: leave it out",
            ));
        }
        if file.is_empty() || file.contains(":memory:") || file.contains('?') {
            return Err(Refusal::new(
                "the database URL must name a file behind sqlite:, without parameters: a database \
                 in memory would lose every lead at the end",
            ));
        }
        let path = Path::new(file).to_path_buf();
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                Err(Refusal::new(format!(
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
/// When it cannot be reached, or is set up so that an acknowledged change could be lost.
pub async fn open(url: &SecretString, limits: &Limits, clock: Clock) -> Result<Db, Refusal> {
    let lost = Arc::<Lost>::default();
    let (mut hosts, mut opened, mut lists) = (Vec::new(), None, Vec::new());
    let (readers, connections, writer) = match Target::parse(url)? {
        Target::Sqlite(file) => {
            let file = place::existing_database(&file)?;
            place::warn_of_access(&file);
            opened = Some(sqlite::opened(&file)?);
            let wait = limits.connection_wait;
            let writer = sqlite::options(&file, 1, limits.sqlite_write_wait, false);
            let writer = sqlite::connect(&file, writer, wait).await?;
            for _ in 0..limits.sqlite_readers {
                let clock = Arc::<StatementClock>::default();
                let options = sqlite::options(&file, 1, wait, true);
                let options = sqlite::timed(options, Arc::clone(&clock));
                let pool = sqlite::connect(&file, options, wait).await?;
                let reader = Reader::new(pool, &lost, 1);
                lists.push(Connection { reader, clock });
            }
            // What looks up by a key is fast: fewer do.
            let connections = limits.sqlite_readers.div_ceil(2);
            let readers = sqlite::options(&file, connections, wait, true);
            let readers = sqlite::connect(&file, readers, wait).await?;
            (readers, connections, writer)
        }
        Target::Postgres => {
            let writers = (limits.postgres_connections / 2).max(1);
            let readers = (limits.postgres_connections - writers).max(1);
            let server = Server::find(url).await?;
            let options = |connections, plans| {
                postgres::condemned(
                    server.options(connections, limits, plans),
                    Arc::clone(&lost),
                )
            };
            let pool = postgres::connect(options(readers, Plans::Considered)).await?;
            postgres::check(&pool).await?;
            let writer = postgres::connect(options(writers, Plans::ByKeys)).await?;
            hosts = server.hosts;
            // A quarter is left to what looks up by a key.
            for _ in 0..(readers * 3).div_ceil(4).min(readers - 1).max(1) {
                let reader = Reader::new(pool.clone(), &lost, readers);
                let clock = Arc::default();
                lists.push(Connection { reader, clock });
            }
            (pool, readers, writer)
        }
    };
    let readers = Reader::new(readers, &lost, connections);
    let pages = Pages::new(lists, limits.connection_wait, limits.statement_time);
    let write_wait = limits.sqlite_write_wait;
    Ok(Db::new(
        readers, pages, writer, hosts, opened, write_wait, clock,
    ))
}

/// How long one process waits for another's migrations to let it in.
const MIGRATION_WAIT: Duration = Duration::from_secs(10);

/// One connection without a limit on a statement's time, for migrations. Creates SQLite's file where
/// there is none.
///
/// # Errors
/// When the database cannot be reached.
pub async fn open_for_migration(url: &SecretString) -> Result<DatabaseConnection, Refusal> {
    match Target::parse(url)? {
        Target::Sqlite(file) => {
            let file = place::create_database(&file)?;
            let options = sqlite::options(&file, 1, MIGRATION_WAIT, false);
            sqlite::connect(&file, options, MIGRATION_WAIT).await
        }
        Target::Postgres => one_to_postgres(url).await,
    }
}

/// One connection to a database as it is, which changes nothing of it by being opened.
///
/// # Errors
/// When there is none or it cannot be reached.
pub async fn open_as_it_is(url: &SecretString) -> Result<DatabaseConnection, Refusal> {
    match Target::parse(url)? {
        Target::Sqlite(file) => open_file(&place::existing_database(&file)?, false).await,
        Target::Postgres => one_to_postgres(url).await,
    }
}

async fn one_to_postgres(url: &SecretString) -> Result<DatabaseConnection, Refusal> {
    let limits = Limits {
        statement_time: Duration::ZERO,
        connection_wait: MIGRATION_WAIT,
        ..Limits::default()
    };
    let server = Server::find(url).await?;
    let db = postgres::connect(server.options(1, &limits, Plans::Considered)).await?;
    // Before anything is created in it.
    postgres::check(&db).await?;
    Ok(db)
}

/// Whether all connections were in use.
pub fn is_busy(error: &DbErr) -> bool {
    matches!(runtime(error), Some(SqlxError::PoolTimedOut))
        || matches!(error, DbErr::ConnectionAcquire(_))
}

/// What the driver said.
fn runtime(error: &DbErr) -> Option<&SqlxError> {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else {
        return None;
    };
    match runtime {
        RuntimeErr::SqlxError(error) => Some(error),
        RuntimeErr::Internal(_) => None,
    }
}

/// What both databases share: quiet logs, bounded waits, and no ping before each use. Connections stay,
/// however old or idle: the task by which sqlx 0.9.0 ends those can keep a thread busy for ever
/// (transact-rs/sqlx#3645, mended after it).
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

/// After how long a connection that nobody used is asked whether it lives before it is used.
const IDLE: Duration = Duration::from_secs(5);
