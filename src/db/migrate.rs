//! Applies and reverts migrations, in one process at a time, and reports the state of the schema.
//!
//! Neither SeaORM's migrator nor SQLite has a lock for this: two replicas that start together would
//! both find the same migration missing. On PostgreSQL the lock is an advisory lock on the
//! connection that migrates. What a killed process had begun may still run in the server, and the
//! lock is only released when that has ended. On SQLite it is a lock on a file beside the database,
//! which the operating system releases when the process ends.
//!
//! Only [`up`] creates or changes anything without being asked. Migrations are applied beside running
//! servers, and reverted only when no server uses the schema (`in_use.rs`).
//!
//! The migrations themselves are in the crate `migrations`.

mod in_use;
mod lock;
mod schema;

use migrations::Migrator;
use migrations::sea_orm_migration::MigratorTrait;
use sea_orm::{DatabaseConnection, DbErr};
use secrecy::SecretString;

use super::{Db, connect};
use crate::config::StartupError;
use crate::error;
use lock::{LOCK_POLL, Lock};
use schema::{Schema, applied};
pub use schema::{Step, StepState};

/// How often migrations are retried after a deadlock.
const MAX_DEADLOCK_RETRIES: u32 = 10;

/// Applies every migration that the database lacks. It does nothing on a schema that is newer than this program, if
/// this program works with it.
///
/// # Errors
/// If the database cannot be reached, is too new for this program, or a migration fails. A failed
/// migration leaves nothing behind.
pub async fn up(url: &SecretString) -> Result<(), StartupError> {
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let pending = pending(&db).await?;
        if pending == 0 {
            return Ok(());
        }
        let _lock = Lock::acquire(url, &db).await?;
        // A newer program may have migrated while this one waited.
        self::pending(&db).await?;
        retry_on_deadlock(async || Migrator::up(&db, None).await).await?;
        tracing::info!(migrations = pending, "the schema is up to date");
        Ok(())
    }
    .await;
    let _ = db.close().await;
    result
}

/// The number of migrations that the database lacks and this program may apply.
async fn pending(db: &DatabaseConnection) -> Result<usize, StartupError> {
    let schema = Schema::read(db).await?;
    schema.require_compatible()?;
    let pending = schema.count(StepState::Pending);
    if pending > 0 {
        schema.require_known()?;
    }
    log_newer(&schema);
    Ok(pending)
}

/// Logs which migrations this program does not know.
fn log_newer(schema: &Schema) {
    let newer: Vec<&str> = schema.in_state(StepState::Newer).collect();
    if !newer.is_empty() {
        tracing::info!(
            migrations = newer.join(", "),
            "the schema is newer than this program, which works with it"
        );
    }
}

/// The newest `steps` migrations of the database, newest first: those that [`down`] would revert. Changes nothing.
///
/// # Errors
/// If the database does not exist, cannot be reached, is newer than this program, or has fewer migrations.
pub async fn newest(url: &SecretString, steps: u32) -> Result<Vec<String>, StartupError> {
    let schema = read(url).await?;
    schema.require_known()?;
    let mut applied: Vec<String> = schema
        .in_state(StepState::Applied)
        .map(str::to_owned)
        .collect();
    let count = applied.len();
    if count < steps as usize {
        return Err(StartupError::new(format!(
            "the database has {count} migrations, so {steps} cannot be reverted: run leadsmith migrate status to \
             list them"
        )));
    }
    applied.reverse();
    applied.truncate(steps as usize);
    Ok(applied)
}

/// Reverts the newest `steps` migrations, and deletes the data of what they created.
///
/// # Errors
/// As [`newest`]; if the database is in use; if another process changed the schema meanwhile; or if a migration
/// cannot be reverted.
pub async fn down(url: &SecretString, steps: u32) -> Result<(), StartupError> {
    // A database that is not Leadsmith's must stay unchanged.
    let reverted = newest(url, steps).await?;
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let _lock = Lock::acquire(url, &db).await?;
        in_use::exclude_servers(url, &db).await?;
        let before = Schema::read(&db).await?;
        before.require_known()?;
        let before: Vec<&str> = before.in_state(StepState::Applied).collect();
        if !before.iter().rev().take(reverted.len()).eq(&reverted) {
            return Err(StartupError::new(
                "another process has changed the schema meanwhile, and nothing was reverted: run leadsmith migrate \
                 status, and try again",
            ));
        }
        // Each migration is reverted in a transaction of its own, so a retry continues where the
        // deadlock was.
        let remaining = before.len() - reverted.len();
        retry_on_deadlock(async || {
            let steps = applied(&db).await?.len().saturating_sub(remaining);
            Migrator::down(&db, u32::try_from(steps).ok()).await
        })
        .await
    }
    .await;
    let _ = db.close().await;
    result
}

/// Checks that the service works on the schema: it has every migration of this program, and what is newer only adds.
///
/// # Errors
/// If it lacks some, is too new for this program, does not exist or cannot be reached.
pub async fn require_usable(url: &SecretString) -> Result<(), StartupError> {
    let schema = read(url).await?;
    schema.require_usable()?;
    log_newer(&schema);
    Ok(())
}

/// The same for an open database.
///
/// # Errors
/// As [`require_usable`].
pub async fn require_usable_by(db: &Db) -> Result<(), StartupError> {
    Schema::read(db.read().pool()).await?.require_usable()
}

/// Checks that this program can read a database, whose schema may be older.
///
/// # Errors
/// If the schema cannot be read or is too new for this program.
pub async fn require_readable(db: &DatabaseConnection) -> Result<(), StartupError> {
    Schema::read(db).await?.require_compatible()
}

/// The migrations that this program knows, oldest first, then those of the database that it does not know. Changes
/// nothing.
///
/// # Errors
/// If the database does not exist, cannot be reached or is too new for this program.
pub async fn status(url: &SecretString) -> Result<Vec<Step>, StartupError> {
    let schema = read(url).await?;
    schema.require_compatible()?;
    Ok(schema.steps)
}

async fn read(url: &SecretString) -> Result<Schema, StartupError> {
    let db = connect::open_existing(url).await?;
    let schema = Schema::read(&db).await;
    let _ = db.close().await;
    schema
}

/// The name of the newest migration that the database has, which may be newer than this program.
///
/// # Errors
/// If the schema cannot be read, or has no migration.
pub async fn version(db: &Db) -> Result<String, StartupError> {
    let newest = applied(db.read().pool())
        .await
        .map_err(schema::unreadable)?;
    let newest = newest.into_iter().next_back();
    newest
        .ok_or_else(|| StartupError::new("the database has no migration: run leadsmith migrate up"))
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
        "a migration failed and was rolled back ({error}): fix the cause and run the command again, as the \
         role that owns the tables"
    ))
}
