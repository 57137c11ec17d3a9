//! Finds out what happened to a transaction whose connection was lost during COMMIT.
//!
//! The transaction may be committed or not. On PostgreSQL it may also still be in progress, waiting for the
//! disk or for a standby. So this module waits for the end of the transaction, by its number, and then
//! checks for a row that it wrote, the marker row. The number alone is not enough: after a failover the new
//! primary may assign it to another transaction.
//!
//! A marker row that is found is not necessarily on the standby: if a session ends while it waits for the
//! standby, the primary shows its commit at once ([`Tx::replication_barrier`]).

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::idempotency::ScopedId;
use crate::db::entities::{history, idempotency_record};
use crate::db::{Db, Tx, Verdict};
use crate::error::Result;

/// The maximum time to find out.
const MAX_WAIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The data to find out whether a transaction was committed.
#[derive(Clone, Debug)]
pub struct CommitProbe {
    /// The transaction number on PostgreSQL.
    pub transaction: String,
    /// A row that the transaction wrote.
    pub marker: MarkerRow,
}

/// A row that only this transaction wrote.
#[derive(Clone, Debug)]
pub enum MarkerRow {
    /// A history row.
    History(Uuid),
    /// A row of a log, if nothing was changed.
    Appended {
        /// The table.
        table: String,
        /// The id of the row.
        id: Uuid,
    },
    /// A stored response, if nothing else was written.
    Response(ScopedId),
}

/// What happened to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is on disk.
    Committed,
    /// It wrote nothing and never will.
    RolledBack,
}

/// Polls while `is_awaited` returns true. Returns `None` if the database does not come back in time.
pub async fn resolve(
    db: &Db,
    probe: &CommitProbe,
    mut is_awaited: impl FnMut() -> bool,
) -> Option<CommitOutcome> {
    let deadline = Instant::now() + MAX_WAIT;
    while is_awaited() && Instant::now() < deadline {
        match query_outcome(db, probe).await {
            Ok(Some(outcome)) => return Some(outcome),
            // Still in progress, or no server can be reached.
            Ok(None) | Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
    None
}

/// Runs in a write transaction: it gets a number itself, and only a primary accepts it.
async fn query_outcome(db: &Db, probe: &CommitProbe) -> Result<Option<CommitOutcome>> {
    let probe = probe.clone();
    db.write(move |tx| {
        Box::pin(async move {
            let outcome = if is_in_progress(tx, &probe.transaction).await? {
                None
            } else if marker_exists(tx, &probe.marker).await? {
                tx.replication_barrier().await?;
                Some(CommitOutcome::Committed)
            } else {
                Some(CommitOutcome::RolledBack)
            };
            Ok(Verdict::Done(outcome))
        })
    })
    .await
}

/// Whether a transaction with this number is in progress. On a new primary the number may not have been
/// assigned yet, and `pg_xact_status` fails for such numbers. There, every assigned number is below the
/// next one.
async fn is_in_progress(tx: &Tx, number: &str) -> Result<bool> {
    let sql = "SELECT CASE WHEN $1::xid8 < pg_current_xact_id() \
               THEN pg_xact_status($1::xid8) = 'in progress' ELSE FALSE END";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [number.into()]);
    let row = tx.query_one_raw(statement).await?;
    let in_progress: Option<Option<bool>> = row.map(|row| row.try_get_by_index(0)).transpose()?;
    // `pg_xact_status` returns NULL for a transaction that is too old, which is not in progress.
    Ok(in_progress.flatten().unwrap_or(false))
}

/// A separate statement, so that it sees everything that was committed before it began.
async fn marker_exists(tx: &Tx, marker: &MarkerRow) -> Result<bool> {
    let db = &**tx;
    Ok(match marker {
        MarkerRow::History(id) => history::Entity::find_by_id(*id).one(db).await?.is_some(),
        MarkerRow::Appended { table, id } => {
            let sql = format!("SELECT 1 FROM {table} WHERE id = $1");
            let statement =
                Statement::from_sql_and_values(DbBackend::Postgres, sql, [(*id).into()]);
            db.query_one_raw(statement).await?.is_some()
        }
        MarkerRow::Response(scoped_id) => {
            let stored = idempotency_record::Entity::find_by_id(*scoped_id);
            stored.one(db).await?.is_some()
        }
    })
}
