//! Which log it is. A restore of a dump into another database makes another log of it: there the ids of transactions are
//! others, so that positions in the old log would be misread.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::EventLog;
use crate::db::{Tx, Verdict};
use crate::error::{Error, Result};

/// The database among all databases: its cluster and its id there. A failover keeps both.
const IDENTITY: &str = "SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || \
     (SELECT oid FROM pg_database WHERE datname = current_database())::text";
/// The same where an administrator has withdrawn the right to read the cluster's identity from everybody.
const IDENTITY_IN_CLUSTER: &str =
    "SELECT '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text";

impl EventLog {
    /// Makes another log of it if the database was restored into another one. Called when the server starts, and before
    /// the log is followed. On SQLite a restore is found by the events that are missing.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn identify(&self) -> Result<()> {
        if !self.is_postgres() {
            return Ok(());
        }
        // Not in one statement: PostgreSQL checks the right also where the function is not called.
        let right = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";
        let identity = match self.is_true(right.to_owned()).await? {
            true => IDENTITY,
            false => IDENTITY_IN_CLUSTER,
        };
        let is_same = format!("SELECT ({identity}) = cluster FROM event_log");
        if self.is_true(is_same).await? {
            return Ok(());
        }
        let write = self.db.write_with_retry(move |tx| {
            Box::pin(async move {
                identify(tx, identity).await?;
                Ok(Verdict::Done(()))
            })
        });
        write.await
    }

    async fn is_true(&self, sql: String) -> Result<bool> {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = self.db.read().query_one_raw(statement).await?;
        let value: Option<bool> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(value == Some(true))
    }
}

async fn identify(tx: &Tx, identity: &str) -> Result<()> {
    let sql = format!("SELECT cluster, ({identity}) AS identity FROM event_log FOR UPDATE");
    let row = tx
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await?;
    let row = row.ok_or_else(|| Error::internal("the row of event_log is missing"))?;
    let known: String = row.try_get("", "cluster")?;
    let identity: String = row.try_get("", "identity")?;
    if known == identity {
        return Ok(());
    }
    // Nothing is known of a log that no server has opened yet, and nobody has a position in it.
    if !known.is_empty() {
        tracing::warn!(
            "the database was restored into another one: clients that watch events must begin again"
        );
        // As many rows as there are events.
        tx.execute_unprepared("SET LOCAL statement_timeout = 0")
            .await?;
        tx.execute_unprepared("UPDATE events SET transaction_id = 0 WHERE transaction_id <> 0")
            .await?;
        let sql = "UPDATE event_log SET incarnation = $1, deleted_transaction = 0";
        let values = [tx.clock.new_id().into()];
        tx.execute_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            sql,
            values,
        ))
        .await?;
    }
    let sql = "UPDATE event_log SET cluster = $1";
    tx.execute_raw(Statement::from_sql_and_values(
        DbBackend::Postgres,
        sql,
        [identity.into()],
    ))
    .await?;
    Ok(())
}
