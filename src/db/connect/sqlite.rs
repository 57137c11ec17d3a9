//! SQLite: one file, a pool for reading and one connection for writing.
//!
//! The settings of a connection are made here and nowhere else, because each of them decides
//! whether an acknowledged change is on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, SqlxError};
use tokio::time::Instant;

use super::{PING_AFTER_IDLE, driver_error, pooled};
use crate::config::StartupError;
use crate::db::open_file::OpenFile;
use crate::db::page_pool::StatementDeadline;
use crate::db::sqlite_files;

/// One connection to an existing SQLite file. It creates nothing and keeps the journal mode. With
/// `read_only`, the file is treated as immutable, and a log beside it is left alone.
pub async fn open_file(file: &Path, read_only: bool) -> Result<DatabaseConnection, StartupError> {
    let mut options = pooled("sqlite::memory:".into(), 1, Duration::from_secs(10));
    let name = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        SqliteConnectOptions::clone(&defaults)
            .filename(&name)
            .in_memory(false)
            .shared_cache(false)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(1))
            .read_only(read_only)
            .immutable(read_only)
    });
    let result = Database::connect(options).await;
    result.map_err(|error| open_error(file, &error))
}

fn open_error(file: &Path, error: &DbErr) -> StartupError {
    let why = match driver_error(error) {
        Some(SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    };
    StartupError::new(format!(
        "the file {} cannot be opened ({why}): check that it is a Leadsmith database, and that the service's user \
         can write to it and to its folder",
        file.display()
    ))
}

/// Makes this connection the only one to its file, until it is closed. Only if no other process has the file open does
/// SQLite remove its log, and keep others out.
pub async fn lock_exclusively(db: &DatabaseConnection) -> Result<(), DbErr> {
    for sql in [
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = DELETE",
        "BEGIN EXCLUSIVE",
        // The mode keeps the lock.
        "COMMIT",
    ] {
        db.execute_unprepared(sql).await?;
    }
    Ok(())
}

/// The identity of the database file, if it is writable.
pub fn writable_file(file: &Path) -> Result<OpenFile, StartupError> {
    let opened = std::fs::OpenOptions::new().append(true).open(file);
    opened
        .and_then(|_| OpenFile::new(file))
        .map_err(|error| sqlite_files::not_writable(file, &error))
}

/// Opens a file. When two processes switch a new file to a write-ahead log at the same moment,
/// SQLite reports to one of them that the file is locked, whatever the busy timeout is. Then
/// opening is retried.
pub async fn connect(
    file: &Path,
    options: ConnectOptions,
    wait: Duration,
) -> Result<DatabaseConnection, StartupError> {
    let deadline = Instant::now() + wait;
    loop {
        match Database::connect(options.clone()).await {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOCKED_POLL).await;
            }
            result => return result.map_err(|error| open_error(file, &error)),
        }
    }
}

/// The delay before opening a locked file again.
const LOCKED_POLL: Duration = Duration::from_millis(20);

/// Whether the error says that another connection holds a lock.
pub fn is_locked(error: &DbErr) -> bool {
    let code = driver_error(error)
        .and_then(|error| error.as_database_error())
        .and_then(|error| error.code());
    // SQLITE_BUSY and its extended codes (SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT).
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

pub fn options(file: &Path, connections: u32, wait: Duration, read_only: bool) -> ConnectOptions {
    let mut options = pooled("sqlite::memory:".into(), connections, wait);
    options.test_before_acquire_if_idle_for(PING_AFTER_IDLE);
    let file = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        SqliteConnectOptions::clone(&defaults)
                .filename(&file)
                .in_memory(false)
                .shared_cache(false)
                .create_if_missing(false)
                .busy_timeout(Duration::from_secs(5))
                .journal_mode(SqliteJournalMode::Wal)
                // The log is synced at every commit, so an acknowledged change is on disk.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .pragma("journal_size_limit", "67108864")
                // 8 MiB per connection: the index pages of millions of leads stay in memory.
                .pragma("cache_size", "-8192")
                // Deleted and overwritten data is removed from the file, because a person may ask
                // for erasure.
                .pragma("secure_delete", "ON")
                .pragma("query_only", if read_only { "ON" } else { "OFF" })
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_reusable(connection)))
    });
    options
}

/// Makes the statements of a connection end at their deadline.
pub fn with_deadline(
    mut options: ConnectOptions,
    deadline: Arc<StatementDeadline>,
) -> ConnectOptions {
    options.map_sqlx_sqlite_pool_opts(move |pool| {
        let deadline = Arc::clone(&deadline);
        let pool = pool.after_release(|connection, _| Box::pin(is_reusable(connection)));
        pool.after_connect(move |connection, _| {
            let deadline = Arc::clone(&deadline);
            Box::pin(async move {
                let mut handle = connection.lock_handle().await?;
                handle.set_progress_handler(PROGRESS_STEPS, move || deadline.is_pending());
                Ok(())
            })
        })
    });
    options
}

/// The deadline is checked after this many steps of SQLite's virtual machine: about ten
/// microseconds.
const PROGRESS_STEPS: i32 = 1_000;

/// Whether a returned connection can be used again. When a COMMIT fails because the disk is full or
/// faulty, SQLite rolls the transaction back itself, but sqlx 0.9.0 still counts it as open. It
/// would then run the following transactions as savepoints inside it, and acknowledge changes that
/// are never committed. Such a connection is closed.
async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    if connection.is_in_transaction() {
        // A ROLLBACK may be queued. The ping is executed after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
