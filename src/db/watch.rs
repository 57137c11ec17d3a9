//! The readiness check of the database, SQLite or PostgreSQL.
//!
//! It only reports whether the database is available. `server/` decides how often to check and what to do then.
//! The check of PostgreSQL is part of the failover (`failover/primary.rs`).

use std::sync::Arc;

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::Instant;

use super::failover::PrimaryWatch;
use super::open_file::OpenFile;
use super::reader::Reader;
use super::{Db, connect};
use crate::config::StartupError;

impl Db {
    /// The check that reports whether the database is available.
    pub fn watch(&self) -> Watch {
        if self.backend() != DbBackend::Postgres {
            return Watch::Sqlite(self.readers.clone(), self.file.clone());
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
    Sqlite(Reader, Option<Arc<OpenFile>>),
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
            let is_available = self.is_available().await;
            match self {
                Self::Postgres(watch) if is_available && !watch.holds_schema() => {}
                Self::Postgres(_) | Self::Sqlite(..) => return Ok(()),
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

    /// Whether the database is available. On SQLite, when every connection is in use, the check
    /// cannot tell and returns true.
    pub async fn is_available(&mut self) -> bool {
        match self {
            Self::Postgres(watch) => watch.is_available().await,
            Self::Sqlite(_, Some(file)) if file.check().is_err() => false,
            Self::Sqlite(reader, _) => {
                let sql = "SELECT count(*) FROM seaql_migrations";
                let query = Statement::from_string(DbBackend::Sqlite, sql);
                match reader.query_one_raw(query).await {
                    Ok(_) => true,
                    Err(error) => connect::is_pool_exhausted(&error),
                }
            }
        }
    }
}
