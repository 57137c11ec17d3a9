//! Keeps migrations from being reverted under a server that works on the schema.
//!
//! On PostgreSQL a lock does (`schema_lock.rs`). On SQLite every process that has the file open holds locks on it, so
//! none of our own is needed: migrations are reverted in SQLite's exclusive locking mode, beside which no other process
//! can have the file open.
//!
//! Applying migrations does not need this, because it must be possible beside running servers.

use sea_orm::DatabaseConnection;
use secrecy::SecretString;

use crate::config::StartupError;
use crate::db::connect::{self, Target};
use crate::db::schema_lock;

/// Keeps servers from using the database for as long as this connection is open.
///
/// # Errors
/// If a server uses it now. On SQLite, if any process does.
pub async fn exclude_servers(
    url: &SecretString,
    db: &DatabaseConnection,
) -> Result<(), StartupError> {
    match Target::parse(url)? {
        Target::Sqlite(file) => match connect::lock_exclusively(db).await {
            Ok(()) => Ok(()),
            Err(error) if connect::is_locked(&error) => Err(StartupError::new(format!(
                "another process uses {}: stop the server first, and close what else has the database open",
                file.display()
            ))),
            Err(error) => Err(StartupError::new(format!(
                "the database {} cannot be locked ({error}): check that it is not damaged",
                file.display()
            ))),
        },
        Target::Postgres => {
            let failed = |error| {
                StartupError::new(format!(
                    "it cannot be found out whether servers use the database ({error}): try again"
                ))
            };
            if schema_lock::try_exclude(db).await.map_err(failed)? {
                return Ok(());
            }
            let holders = schema_lock::holders(db).await.map_err(failed)?;
            Err(StartupError::new(format!(
                "servers are running on this database (PostgreSQL's process ids of their connections: {holders}): stop \
                 them first. If one of them is gone, end its connection with pg_terminate_backend"
            )))
        }
    }
}
