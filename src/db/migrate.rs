//! Applies and reverts migrations, in one process at a time, and reports the state of the schema.
//!
//! Neither SeaORM's migrator nor SQLite has a lock for this: two replicas that start together would
//! both find the same migration missing. On PostgreSQL the lock is an advisory lock on the
//! connection that migrates. What a killed process had begun may still run in the server, and the
//! lock is only released when that has ended. On SQLite it is a lock on a file beside the database,
//! which the operating system releases when the process ends.
//!
//! The migrations themselves are in the crate `migrations`.

use std::fs::{File, TryLockError};
use std::time::Duration;

use migrations::Migrator;
use migrations::sea_orm_migration::MigratorTrait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use secrecy::SecretString;

use super::connect::{self, Target};
use super::sqlite_files;
use crate::config::StartupError;
use crate::error;

/// How long one process waits for the migrations of another.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const LOCK_POLL: Duration = Duration::from_millis(200);
/// How often migrations are retried after a deadlock.
const MAX_DEADLOCK_RETRIES: u32 = 10;
/// "leadsmit" in ASCII.
const LOCK_NUMBER: i64 = 0x6c65_6164_736d_6974;

/// A migration, and whether the database has it.
pub struct Step {
    /// The migration's name.
    pub name: String,
    /// Whether it was applied.
    pub applied: bool,
}

/// Applies every migration that the database lacks.
///
/// # Errors
/// If the database cannot be reached, is newer than this program, or a migration fails. A failed
/// migration leaves nothing behind.
pub async fn up(url: &SecretString) -> Result<(), StartupError> {
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let pending = pending(&db).await?;
        if pending == 0 {
            return Ok(());
        }
        let _lock = Lock::acquire(url, &db).await?;
        retry_on_deadlock(async || Migrator::up(&db, None).await).await?;
        tracing::info!(migrations = pending, "the schema is up to date");
        Ok(())
    }
    .await;
    let _ = db.close().await;
    result
}

/// Reverts the newest `steps` migrations, and deletes the data of what they created.
///
/// # Errors
/// As [`up`], and if the database has fewer migrations.
pub async fn down(url: &SecretString, steps: u32) -> Result<(), StartupError> {
    // A database that is not Leadsmith's must stay unchanged.
    let applied = status(url)
        .await?
        .iter()
        .filter(|step| step.applied)
        .count();
    if applied < steps as usize {
        return Err(StartupError::new(format!(
            "the database has {applied} migrations, so {steps} cannot be reverted: run leadsmith migrate status to \
             list them"
        )));
    }
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let _lock = Lock::acquire(url, &db).await?;
        pending(&db).await?;
        // Each migration is reverted in a transaction of its own, so a retry continues where the
        // deadlock was.
        let remaining = applied - steps as usize;
        retry_on_deadlock(async || {
            let steps = self::applied(&db).await?.len().saturating_sub(remaining);
            Migrator::down(&db, u32::try_from(steps).ok()).await
        })
        .await
    }
    .await;
    let _ = db.close().await;
    result
}

/// Checks that the database has every migration.
///
/// # Errors
/// If it lacks some, is newer than this program, does not exist or cannot be reached.
pub async fn require_current(url: &SecretString) -> Result<(), StartupError> {
    match status(url)
        .await?
        .iter()
        .filter(|step| !step.applied)
        .count()
    {
        0 => Ok(()),
        pending => Err(StartupError::new(format!(
            "the database lacks {pending} migrations: run leadsmith migrate up, or serve with --migrate \
             true"
        ))),
    }
}

/// Every migration that this program knows, oldest first. Changes nothing.
///
/// # Errors
/// If the database does not exist, cannot be reached or is newer than this program.
pub async fn status(url: &SecretString) -> Result<Vec<Step>, StartupError> {
    let db = connect::open_existing(url).await?;
    let result = steps(&db).await;
    let _ = db.close().await;
    result
}

/// The number of migrations that the database lacks.
///
/// # Errors
/// If the schema cannot be read or is newer than this program.
pub async fn pending(db: &DatabaseConnection) -> Result<usize, StartupError> {
    let steps = steps(db).await?;
    Ok(steps.iter().filter(|step| !step.applied).count())
}

async fn steps(db: &DatabaseConnection) -> Result<Vec<Step>, StartupError> {
    let applied = applied(db).await.map_err(|error| {
        StartupError::new(format!(
            "the database's schema cannot be read ({error}): check that it is a Leadsmith database and that the \
             role can read its tables"
        ))
    })?;
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    if let Some(unknown) = applied.iter().find(|name| !known.contains(name)) {
        return Err(StartupError::new(format!(
            "the database's schema is newer than this program (it has the migration {unknown}): use the newer \
             version of Leadsmith, or revert its migrations with that version"
        )));
    }
    Ok(known
        .into_iter()
        .map(|name| Step {
            applied: applied.contains(&name),
            name,
        })
        .collect())
}

/// The names of the applied migrations. The migrator's own query would create their table first,
/// which not every role may do and not every command should do.
async fn applied(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let backend = db.get_database_backend();
    // PostgreSQL's `information_schema` would list only what the role has a right to.
    let exists = match backend == DbBackend::Postgres {
        true => "SELECT to_regclass('seaql_migrations') IS NOT NULL",
        false => "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'seaql_migrations'",
    };
    let exists = db
        .query_one_raw(Statement::from_string(backend, exists))
        .await?;
    let exists = exists
        .map(|row| row.try_get_by_index::<bool>(0))
        .transpose()?;
    if exists != Some(true) {
        return Ok(Vec::new());
    }
    let sql = "SELECT version FROM seaql_migrations";
    let rows = db
        .query_all_raw(Statement::from_string(backend, sql))
        .await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Runs migrations, and retries them when PostgreSQL aborted one to resolve a deadlock with a
/// version of the service that is still running. Each migration is a transaction of its own, so the
/// completed ones stay.
async fn retry_on_deadlock(
    migrate: impl AsyncFn() -> Result<(), DbErr>,
) -> Result<(), StartupError> {
    let mut retries = MAX_DEADLOCK_RETRIES;
    loop {
        match migrate().await {
            Err(error) if retries > 0 && error::is_conflict(&error) => {
                retries -= 1;
                tracing::warn!(%error, "a migration was aborted to resolve a deadlock: retrying it");
                tokio::time::sleep(LOCK_POLL).await;
            }
            result => return result.map_err(migration_failed),
        }
    }
}

fn migration_failed(error: DbErr) -> StartupError {
    StartupError::new(format!(
        "a migration failed and was rolled back ({error}): fix the cause and run leadsmith migrate up \
         again, as the role that owns the tables"
    ))
}

/// The lock that is held while migrations run.
enum Lock {
    File {
        _file: File,
    },
    /// PostgreSQL releases the lock when its connection closes.
    Connection,
}

impl Lock {
    /// Acquires the lock for the migrations that run on `db`.
    async fn acquire(url: &SecretString, db: &DatabaseConnection) -> Result<Self, StartupError> {
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
