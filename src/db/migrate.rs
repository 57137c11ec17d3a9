//! Applies the migrations, one process at a time, and tells how the schema stands.
//!
//! Neither SeaORM's migrator nor SQLite has a lock for this: two replicas that start together would
//! both find the same migration missing. PostgreSQL holds an advisory lock on the connection that
//! migrates: what a killed holder had begun may still go on in the server, and the lock goes when that
//! has come to its end, not before. SQLite holds a lock on a file beside the database, which the
//! operating system gives up with the process.

use std::fs::{File, TryLockError};
use std::time::Duration;

use migrations::Migrator;
use migrations::sea_orm_migration::MigratorTrait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use secrecy::SecretString;

use super::connect::{self, Target};
use super::place;
use crate::config::Refusal;
use crate::error;

/// How long one process waits for another's migrations.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const LOCK_POLL: Duration = Duration::from_millis(200);
/// How often migrations are tried again after a deadlock.
const DEADLOCKS: u32 = 10;
/// "leadsmit" in ASCII.
const LOCK_NUMBER: i64 = 0x6c65_6164_736d_6974;

/// A migration and whether the database has it.
pub struct Step {
    /// The migration's name.
    pub name: String,
    /// Whether it was applied.
    pub applied: bool,
}

/// Applies every migration the database lacks.
///
/// # Errors
/// When the database cannot be reached, is newer than this program, or a migration fails; a failed
/// one leaves nothing behind.
pub async fn up(url: &SecretString) -> Result<(), Refusal> {
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let pending = pending(&db).await?;
        if pending == 0 {
            return Ok(());
        }
        let _lock = Lock::take(url, &db).await?;
        retried(async || Migrator::up(&db, None).await).await?;
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
/// As [`up`], and when the database does not have that many.
pub async fn down(url: &SecretString, steps: u32) -> Result<(), Refusal> {
    // What is no database of Leadsmith's stays as it is.
    let applied = status(url)
        .await?
        .iter()
        .filter(|step| step.applied)
        .count();
    if applied < steps as usize {
        return Err(Refusal::new(format!(
            "the database has {applied} migrations, of which {steps} cannot be reverted: leadsmith migrate \
             status lists them"
        )));
    }
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let _lock = Lock::take(url, &db).await?;
        pending(&db).await?;
        // None of them in a transaction of its own with others: a retry goes on where the deadlock was.
        let left = applied - steps as usize;
        retried(async || {
            let steps = self::applied(&db).await?.len().saturating_sub(left);
            Migrator::down(&db, u32::try_from(steps).ok()).await
        })
        .await
    }
    .await;
    let _ = db.close().await;
    result
}

/// That the database has every migration.
///
/// # Errors
/// When it lacks some, is newer than this program, is not there or cannot be reached.
pub async fn require_current(url: &SecretString) -> Result<(), Refusal> {
    match status(url)
        .await?
        .iter()
        .filter(|step| !step.applied)
        .count()
    {
        0 => Ok(()),
        pending => Err(Refusal::new(format!(
            "the database lacks {pending} migrations: run leadsmith migrate up, or serve with --migrate \
             true"
        ))),
    }
}

/// Every migration this program knows, oldest first. Changes nothing.
///
/// # Errors
/// When the database is not there, cannot be reached or is newer than this program.
pub async fn status(url: &SecretString) -> Result<Vec<Step>, Refusal> {
    let db = connect::open_as_it_is(url).await?;
    let result = steps(&db).await;
    let _ = db.close().await;
    result
}

/// How many migrations the database lacks.
///
/// # Errors
/// When the schema cannot be read or is newer than this program.
pub async fn pending(db: &DatabaseConnection) -> Result<usize, Refusal> {
    let steps = steps(db).await?;
    Ok(steps.iter().filter(|step| !step.applied).count())
}

async fn steps(db: &DatabaseConnection) -> Result<Vec<Step>, Refusal> {
    let applied = applied(db).await.map_err(|error| {
        Refusal::new(format!(
            "the database's schema cannot be read ({error}): check that it is Leadsmith's and that the role \
             may read its tables"
        ))
    })?;
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    if let Some(unknown) = applied.iter().find(|name| !known.contains(name)) {
        return Err(Refusal::new(format!(
            "the database's schema is newer than this program (it has the migration {unknown}): use the \
             newer version of Leadsmith, or revert its migrations with it"
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

/// The names of the migrations that were applied. The migrator's own way to ask would create their table
/// first, which not every role may do, nor every command.
async fn applied(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let backend = db.get_database_backend();
    // PostgreSQL's own schema lists only what the role has a right to.
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

/// Runs migrations, and again where PostgreSQL ended one of them to resolve a deadlock with a version of the
/// service that is still running. Each is a transaction of its own, so what was done stays done.
async fn retried(migrate: impl AsyncFn() -> Result<(), DbErr>) -> Result<(), Refusal> {
    let mut tries = DEADLOCKS;
    loop {
        match migrate().await {
            Err(error) if tries > 0 && error::is_conflict(&error) => {
                tries -= 1;
                tracing::warn!(%error, "a migration met a deadlock and is tried again");
                tokio::time::sleep(LOCK_POLL).await;
            }
            result => return result.map_err(failed),
        }
    }
}

fn failed(error: DbErr) -> Refusal {
    Refusal::new(format!(
        "a migration failed and was rolled back ({error}): fix the cause and run leadsmith migrate up \
         again, as the role that owns the tables"
    ))
}

/// Held while migrations run.
enum Lock {
    File {
        _held: File,
    },
    /// It goes with its connection.
    Connection,
}

impl Lock {
    /// Takes it for the changes that are made by `db`.
    async fn take(url: &SecretString, db: &DatabaseConnection) -> Result<Self, Refusal> {
        let late = || {
            Refusal::new(
                "another process has been migrating this database for two minutes: wait for it, or \
                 stop it and try again",
            )
        };
        let mut waited = Duration::ZERO;
        let mut lock = Candidate::open(url, db)?;
        loop {
            match lock.attempt().await? {
                Ok(held) => return Ok(held),
                Err(again) => lock = again,
            }
            if waited >= LOCK_WAIT {
                return Err(late());
            }
            tokio::time::sleep(LOCK_POLL).await;
            waited += LOCK_POLL;
        }
    }
}

/// What the lock can be taken on.
enum Candidate {
    File(File),
    Connection(DatabaseConnection),
}

impl Candidate {
    fn open(url: &SecretString, db: &DatabaseConnection) -> Result<Self, Refusal> {
        match Target::parse(url)? {
            Target::Sqlite(file) => {
                let file = place::existing_database(&file)?;
                place::migration_lock(&file).map(Self::File)
            }
            Target::Postgres => Ok(Self::Connection(db.clone())),
        }
    }

    async fn attempt(self) -> Result<Result<Lock, Self>, Refusal> {
        match self {
            Self::File(file) => match file.try_lock() {
                Ok(()) => Ok(Ok(Lock::File { _held: file })),
                Err(TryLockError::WouldBlock) => Ok(Err(Self::File(file))),
                Err(TryLockError::Error(error)) => Err(Refusal::new(format!(
                    "the database's folder does not let files be locked ({error}): put the database \
                     on a local disk"
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
                    .map_err(failed)?;
                let held = row.is_some_and(|row| row.try_get_by_index(0).unwrap_or(false));
                Ok(if held {
                    Ok(Lock::Connection)
                } else {
                    Err(Self::Connection(db))
                })
            }
        }
    }
}
