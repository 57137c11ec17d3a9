//! The lock that is held while migrations run, so that one process at a time migrates a database.

use std::fs::{File, TryLockError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use secrecy::SecretString;

use super::migration_failed;
use crate::config::StartupError;
use crate::db::connect::Target;
use crate::db::sqlite_files;

/// How long one process waits for the migrations of another.
pub const LOCK_WAIT: Duration = Duration::from_secs(120);
pub const LOCK_POLL: Duration = Duration::from_millis(200);
/// "leadsmit" in ASCII.
const LOCK_NUMBER: i64 = 0x6c65_6164_736d_6974;

/// The lock that is held while migrations run.
pub enum Lock {
    File {
        _file: File,
    },
    /// PostgreSQL releases the lock when its connection closes.
    Connection,
}

impl Lock {
    /// Acquires the lock for the migrations that run on `db`.
    pub async fn acquire(
        url: &SecretString,
        db: &DatabaseConnection,
    ) -> Result<Self, StartupError> {
        let timed_out = || {
            StartupError::new(
                "another process has been migrating this database for two minutes: wait for it, or \
                 stop it and try again",
            )
        };
        let mut waited = Duration::ZERO;
        let mut target = LockTarget::open(url, db)?;
        loop {
            match target.try_acquire().await? {
                Ok(lock) => return Ok(lock),
                Err(busy) => target = busy,
            }
            if waited >= LOCK_WAIT {
                return Err(timed_out());
            }
            tokio::time::sleep(LOCK_POLL).await;
            waited += LOCK_POLL;
        }
    }
}

/// What the lock is acquired on.
enum LockTarget {
    File(File),
    Connection(DatabaseConnection),
}

impl LockTarget {
    fn open(url: &SecretString, db: &DatabaseConnection) -> Result<Self, StartupError> {
        match Target::parse(url)? {
            Target::Sqlite(file) => {
                let file = sqlite_files::existing_database(&file)?;
                sqlite_files::migration_lock(&file).map(Self::File)
            }
            Target::Postgres => Ok(Self::Connection(db.clone())),
        }
    }

    async fn try_acquire(self) -> Result<Result<Lock, Self>, StartupError> {
        match self {
            Self::File(file) => match file.try_lock() {
                Ok(()) => Ok(Ok(Lock::File { _file: file })),
                Err(TryLockError::WouldBlock) => Ok(Err(Self::File(file))),
                Err(TryLockError::Error(error)) => Err(StartupError::new(format!(
                    "files in the database's folder cannot be locked ({error}): move the database to a local disk"
                ))),
            },
            Self::Connection(db) => {
                let row = db
                    .query_one_raw(Statement::from_sql_and_values(
                        DbBackend::Postgres,
                        "SELECT pg_try_advisory_lock($1)",
                        [LOCK_NUMBER.into()],
                    ))
                    .await
                    .map_err(migration_failed)?;
                let is_acquired = row.is_some_and(|row| row.try_get_by_index(0).unwrap_or(false));
                Ok(if is_acquired {
                    Ok(Lock::Connection)
                } else {
                    Err(Self::Connection(db))
                })
            }
        }
    }
}
