//! The readiness check of the database, SQLite or PostgreSQL.
//!
//! It only reports whether the database is available. `server/` decides how often to check and what to do then.
//! The check of PostgreSQL is part of the failover (`failover/primary.rs`).

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::Instant;

use super::failover::PrimaryWatch;
use super::{Db, connect};
use crate::config::StartupError;

/// The least free space on the disk of an SQLite database, in bytes: a large batch of changes writes about as much.
const LEAST_FREE_SPACE: u64 = 1 << 20;

impl Db {
    /// The check that reports whether the database is available.
    pub fn watch(&self) -> Watch {
        if self.backend() != DbBackend::Postgres {
            return Watch::Sqlite {
                db: self.clone(),
                refused: None,
            };
        }
        let pools = [&self.readers.pool, &self.writer];
        let pools = pools.map(|pool| pool.get_postgres_connection_pool().clone());
        let epoch = Arc::clone(&self.readers.epoch);
        Watch::Postgres(PrimaryWatch::new(pools, self.hosts.clone(), epoch))
    }
}

/// Reports whether the database is available. On PostgreSQL it also keeps the pools connected to
/// the server that accepts writes.
pub enum Watch {
    /// A SQLite file.
    Sqlite {
        /// The database.
        db: Db,
        /// Why the last write that was tried here failed; none if it did not.
        refused: Option<String>,
    },
    /// One or more PostgreSQL servers.
    Postgres(PrimaryWatch),
}

/// How long a server that starts waits while migrations are being reverted.
const HOLD_WAIT: Duration = Duration::from_secs(60);
const HOLD_POLL: Duration = Duration::from_secs(1);

impl Watch {
    /// Keeps migrations from being reverted for as long as this value exists. While the database is unavailable this
    /// is not possible, and follows when it is available again.
    ///
    /// # Errors
    /// If migrations are being reverted now, and for a minute.
    pub async fn hold_schema(&mut self) -> Result<(), StartupError> {
        let deadline = Instant::now() + HOLD_WAIT;
        loop {
            let is_available = self.check().await.is_ok();
            match self {
                Self::Postgres(watch) if is_available && !watch.holds_schema() => {}
                Self::Postgres(_) | Self::Sqlite { .. } => return Ok(()),
            }
            if Instant::now() >= deadline {
                return Err(StartupError::new(
                    "the lock on the schema cannot be acquired: wait until leadsmith migrate down has ended, and start \
                     again; the log has the cause if it is another one",
                ));
            }
            tokio::time::sleep(HOLD_POLL).await;
        }
    }

    /// Whether the database responds and accepts changes. When every connection is in use, the check
    /// cannot tell, and the result is the one of before.
    ///
    /// # Errors
    /// Why it is not available, for the log.
    pub async fn check(&mut self) -> Result<(), String> {
        match self {
            Self::Postgres(watch) => watch.check().await,
            Self::Sqlite { db, refused } => {
                check_file(db)?;
                check_reading(db).await?;
                check_writing(db, refused).await;
                refused.clone().map_or(Ok(()), Err)
            }
        }
    }
}

/// Checks that the file has its name, is writable, and has space to grow.
fn check_file(db: &Db) -> Result<(), String> {
    let Some(file) = &db.file else { return Ok(()) };
    file.check().map_err(|error| {
        let why = error.cause().unwrap_or(error.message());
        why.to_owned()
    })?;
    match file.free_space() {
        Some(space) if space < LEAST_FREE_SPACE => Err(format!(
            "the disk of the database has {space} bytes left: free some space"
        )),
        Some(_) | None => Ok(()),
    }
}

async fn check_reading(db: &Db) -> Result<(), String> {
    let sql = "SELECT count(*) FROM seaql_migrations";
    let query = Statement::from_string(DbBackend::Sqlite, sql);
    match db.readers.query_one_raw(query).await {
        Err(error) if !connect::is_pool_exhausted(&error) => Err(error.to_string()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Tries a write, if a change has failed since the last write that succeeded. Most reasons to fail are seen only so: a
/// quota, a disk that fails, a file system that became read-only.
async fn check_writing(db: &Db, refused: &mut Option<String>) {
    let Some(file) = &db.file else { return };
    if !file.is_suspect() {
        *refused = None;
        return;
    }
    match db.touch().await {
        Ok(()) => {
            file.clear_suspicion();
            *refused = None;
        }
        // Another change is being written, or another process writes.
        Err(error) if connect::is_pool_exhausted(&error) || connect::is_locked(&error) => {}
        Err(error) => *refused = Some(error.to_string()),
    }
}

impl Db {
    /// Writes to the SQLite file without changing its content.
    async fn touch(&self) -> Result<(), sea_orm::DbErr> {
        // SQLite writes the page with this number even if the number stays the same. Nothing uses the number.
        let writer = self.writer.clone();
        // In a task of its own, so that the statement always ends before its connection is returned.
        let task = tokio::spawn(async move {
            let written = writer.execute_unprepared("PRAGMA user_version = 0").await;
            written.map(|_| ())
        });
        match task.await {
            Ok(written) => written,
            Err(error) => Err(sea_orm::DbErr::Custom(error.to_string())),
        }
    }
}
