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
use migrations::sea_orm_migration::{MigratorTrait, SchemaManager};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use secrecy::SecretString;

use super::connect::{self, Target};
use crate::config::Refusal;
use crate::seeded::{Bug, sown};

/// How long one process waits for another's migrations.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const LOCK_POLL: Duration = Duration::from_millis(200);
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
        let _lock = match sown(Bug::MigrateUnlocked) {
            true => None,
            false => Some(Lock::take(url, &db).await?),
        };
        Migrator::up(&db, None).await.map_err(failed)?;
        spoil(&db).await.map_err(failed)?;
        tracing::info!(migrations = pending, "the schema is up to date");
        Ok(())
    }
    .await;
    let _ = db.close().await;
    result
}

/// What a migration must never do.
async fn spoil(db: &DatabaseConnection) -> Result<(), DbErr> {
    if sown(Bug::RetypedColumn) {
        // What is prepared on the connections of those who serve does not fit any more.
        let sql = "ALTER TABLE orders ALTER COLUMN state TYPE VARCHAR(32)";
        db.execute_unprepared(sql).await?;
    }
    if sown(Bug::RowsLeftBehind) {
        db.execute_unprepared("DELETE FROM idempotency_records")
            .await?;
    }
    Ok(())
}

/// Takes the newest `steps` migrations back, and with them their data.
///
/// # Errors
/// As [`up`].
pub async fn down(url: &SecretString, steps: u32) -> Result<(), Refusal> {
    let db = connect::open_for_migration(url).await?;
    let result = async {
        let _lock = Lock::take(url, &db).await?;
        pending(&db).await?;
        Migrator::down(&db, Some(steps)).await.map_err(failed)
    }
    .await;
    let _ = db.close().await;
    result
}

/// Every migration this program knows, oldest first.
///
/// # Errors
/// When the database cannot be reached or is newer than this program.
pub async fn status(url: &SecretString) -> Result<Vec<Step>, Refusal> {
    let db = connect::open_for_migration(url).await?;
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
    let table = Migrator::migration_table_name().to_string();
    let applied = if SchemaManager::new(db)
        .has_table(table)
        .await
        .map_err(failed)?
    {
        Migrator::get_migration_models(db).await.map_err(failed)?
    } else {
        Vec::new()
    };
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    if let Some(unknown) = applied.iter().find(|row| !known.contains(&row.version)) {
        return Err(Refusal::new(format!(
            "the database's schema is newer than this program (it has the migration {}): use the \
             newer version of Leadsmith, or take its migrations back with it",
            unknown.version
        )));
    }
    Ok(known
        .into_iter()
        .map(|name| Step {
            applied: applied.iter().any(|row| row.version == name),
            name,
        })
        .collect())
}

fn failed(error: DbErr) -> Refusal {
    Refusal::new(format!(
        "a migration failed and was rolled back ({error}): mend the cause and run leadsmith migrate \
         up again"
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
                let mut name = file.into_os_string();
                name.push(".migrate-lock");
                File::create(&name).map(Self::File).map_err(|error| {
                    Refusal::new(format!(
                        "the file {} cannot be written ({error}): give the service's user the right \
                         to write into the database's folder",
                        name.display()
                    ))
                })
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
