//! One server at a time on an SQLite file.
//!
//! A second one would be correct, because SQLite has locks of its own, but each would wait for the other's changes, and
//! limits that count in memory would hold for each alone. The lock is on a file beside the database, so commands can
//! use the database meanwhile, and the operating system releases it when the process ends in whatever way.

use std::fs::{File, TryLockError};

use secrecy::SecretString;

use super::connect::Target;
use super::sqlite_files;
use crate::config::StartupError;

/// Held while a server runs on an SQLite file.
pub struct ServerLock {
    _file: Option<File>,
}

impl ServerLock {
    /// Locks the database for this server. On PostgreSQL several servers may run, and nothing is locked.
    ///
    /// # Errors
    /// If another server holds the lock, or the lock cannot be made.
    pub fn acquire(url: &SecretString) -> Result<Self, StartupError> {
        let Target::Sqlite(file) = Target::parse(url)? else {
            return Ok(Self { _file: None });
        };
        let database = sqlite_files::database(&file)?;
        let lock = sqlite_files::server_lock(&database)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _file: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(StartupError::new(format!(
                "another server uses the database {}: stop it first, or use another file. Several servers need \
                 PostgreSQL",
                database.display()
            ))),
            Err(TryLockError::Error(error)) => Err(StartupError::new(format!(
                "files in the database's folder cannot be locked ({error}): move the database to a local disk"
            ))),
        }
    }
}
