//! SQLite: one file, a pool that reads it and the one writer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, SqlxError};
use tokio::time::Instant;

use super::{IDLE, pooled, runtime};
use crate::config::Refusal;
use crate::db::file::OpenFile;
use crate::db::pages::StatementClock;
use crate::db::place;

/// One connection to a file of SQLite's as it lies there: nothing is created, and its journal stays
/// what it is. `read` takes it for a file that nobody changes, and leaves a log beside it alone.
pub async fn open_file(file: &Path, read: bool) -> Result<DatabaseConnection, Refusal> {
    let mut options = pooled("sqlite::memory:".into(), 1, Duration::from_secs(10));
    let name = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        let log = defaults;
        SqliteConnectOptions::clone(&log)
            .filename(&name)
            .in_memory(false)
            .shared_cache(false)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(1))
            .read_only(read)
            .immutable(read)
    });
    let connected = Database::connect(options).await;
    connected.map_err(|error| unopened_file(file, &error))
}

fn unopened_file(file: &Path, error: &DbErr) -> Refusal {
    let why = match runtime(error) {
        Some(SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    };
    Refusal::new(format!(
        "the file {} cannot be opened ({why}): check that it is a database of Leadsmith's, and that the \
         service's user may write to it and to its folder",
        file.display()
    ))
}

/// The database's file as it is now, if it may be written.
pub fn opened(file: &Path) -> Result<OpenFile, Refusal> {
    let writable = std::fs::OpenOptions::new().append(true).open(file);
    writable
        .and_then(|_| OpenFile::new(file))
        .map_err(|error| place::no_right(file, &error))
}

/// Opens a file. Where two processes turn a new file's journal into a write-ahead log at the same
/// moment, SQLite tells one that it is locked, whatever the busy timeout: it is asked again.
pub async fn connect(
    file: &Path,
    options: ConnectOptions,
    wait: Duration,
) -> Result<DatabaseConnection, Refusal> {
    let last = Instant::now() + wait;
    loop {
        match Database::connect(options.clone()).await {
            Err(error) if is_locked(&error) && Instant::now() < last => {
                tokio::time::sleep(LOCKED_POLL).await;
            }
            connected => return connected.map_err(|error| unopened_file(file, &error)),
        }
    }
}

/// After how long a locked file is asked for again.
const LOCKED_POLL: Duration = Duration::from_millis(20);

/// Whether another connection keeps SQLite from doing this now.
pub fn is_locked(error: &DbErr) -> bool {
    let code = runtime(error)
        .and_then(|error| error.as_database_error())
        .and_then(|error| error.code());
    // SQLITE_BUSY and what extends it (SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT).
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

pub fn options(file: &Path, connections: u32, wait: Duration, read: bool) -> ConnectOptions {
    let mut options = pooled("sqlite::memory:".into(), connections, wait);
    options.test_before_acquire_if_idle_for(IDLE);
    let file = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        let log = defaults;
        SqliteConnectOptions::clone(&log)
                .filename(&file)
                .in_memory(false)
                .shared_cache(false)
                .create_if_missing(false)
                .busy_timeout(Duration::from_secs(5))
                .journal_mode(SqliteJournalMode::Wal)
                // An OK is on disk: the log is synced at every commit.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .pragma("journal_size_limit", "67108864")
                // 8 MiB a connection: what leads to the rows of millions of leads stays in memory.
                .pragma("cache_size", "-8192")
                // What is deleted or overwritten is gone from the file: people may ask to be forgotten.
                .pragma("secure_delete", "ON")
                .pragma("query_only", if read { "ON" } else { "OFF" })
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_done(connection)))
    });
    options
}

/// A connection whose statements end when its clock says so.
pub fn timed(mut options: ConnectOptions, clock: Arc<StatementClock>) -> ConnectOptions {
    options.map_sqlx_sqlite_pool_opts(move |pool| {
        let clock = Arc::clone(&clock);
        let pool = pool.after_release(|connection, _| Box::pin(is_done(connection)));
        pool.after_connect(move |connection, _| {
            let clock = Arc::clone(&clock);
            Box::pin(async move {
                let mut handle = connection.lock_handle().await?;
                handle.set_progress_handler(STEPS, move || clock.goes_on());
                Ok(())
            })
        })
    });
    options
}

/// After how many steps of SQLite's machine the clock is looked at: some ten microseconds.
const STEPS: i32 = 1_000;

/// Whether a connection that is given back may be used again. When a COMMIT fails, by a full or a failing
/// disk, SQLite rolls the transaction back by itself, and sqlx 0.9.0 goes on counting it: to it the next
/// transactions are savepoints inside, and what is answered OK then is never committed. Such a connection
/// is closed.
async fn is_done(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    if connection.is_in_transaction() {
        // A ROLLBACK may be on its way: what is asked now is answered after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
