//! Removes what the database files still contain of overwritten rows.
//!
//! SQLite overwrites deleted data in its file (`secure_delete`), but its log keeps the old pages
//! until it is truncated. PostgreSQL keeps the old rows until they are vacuumed, and samples of
//! their values in its statistics until those are computed again.
//!
//! This module only removes old data. `commit/` decides what is erased and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::DbBackend;
use sea_orm::sqlx;
use tokio::sync::Mutex;

use super::Db;
use crate::error::{Error, Result};

/// How often truncating the log is tried in one run: a running reader prevents it.
const MAX_ATTEMPTS: usize = 20;
/// How long writers can use the connection between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long an attempt waits for readers. It is short because writers wait for the attempt.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(50);

/// How long a vacuum may take. Without a limit it would never end when the server stops responding.
const VACUUM_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The tables that an erasure changes.
const TABLES: &str = "leads, lead_search, opportunities, orders, action_runs, history, events, \
                      idempotency_records";

/// The requested and completed runs. All requests that arrive during a run are served together by
/// the next run.
#[derive(Debug, Default)]
pub(super) struct ScrubState {
    requested: AtomicU64,
    completed: Mutex<u64>,
}

impl ScrubState {
    /// Whether a request is neither served nor being served.
    fn is_pending(&self) -> bool {
        let requested = self.requested.load(Ordering::SeqCst);
        self.completed
            .try_lock()
            .is_ok_and(|completed| *completed < requested)
    }
}

impl Db {
    /// Removes what is left of everything that was overwritten up to now. On SQLite it waits for
    /// that. On PostgreSQL, where it reads whole tables, it continues in the background. A failure
    /// is only logged: [`Db::scrub_if_pending`] retries it.
    pub async fn scrub(&self) {
        let db = self.clone();
        let ticket = self.scrub_state.requested.fetch_add(1, Ordering::SeqCst) + 1;
        let task = async move {
            let state = Arc::clone(&db.scrub_state);
            let mut completed = state.completed.lock().await;
            if *completed >= ticket {
                return;
            }
            let requested = state.requested.load(Ordering::SeqCst);
            let result = if db.backend() == DbBackend::Postgres {
                let vacuum = tokio::time::timeout(VACUUM_TIMEOUT, db.vacuum()).await;
                vacuum.unwrap_or_else(|_| Err(Error::internal("a vacuum did not end in time")))
            } else {
                db.truncate_wal().await
            };
            match result {
                Ok(()) => *completed = requested,
                Err(error) => tracing::warn!(
                    ?error,
                    "erased data could not be removed from the database's files yet: it will be retried"
                ),
            }
        };
        let is_awaited = self.backend() != DbBackend::Postgres;
        let task = tokio::spawn(task);
        if is_awaited {
            // The task only fails by a panic, which is logged where it happens.
            let _ = task.await;
        }
    }

    /// Retries what [`Db::scrub`] could not complete.
    pub async fn scrub_if_pending(&self) {
        if self.scrub_state.is_pending() {
            self.scrub().await;
        }
    }

    /// Copies all of SQLite's log into its file and truncates the log.
    async fn truncate_wal(&self) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            if self.checkpoint_wal(CHECKPOINT_WAIT).await? {
                return Ok(());
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        Err(Error::internal(
            "readers prevent SQLite's log from being truncated",
        ))
    }

    /// Vacuums the tables without a statement timeout, with pauses like those of PostgreSQL's
    /// autovacuum. It first computes the statistics, which is quick, then vacuums with the indexes,
    /// which PostgreSQL would skip when there is little to remove.
    async fn vacuum(&self) -> Result<()> {
        let failed = |error: sqlx::Error| Error::database_unavailable(error);
        let pool = self.readers.pool().get_postgres_connection_pool();
        // A dedicated connection, so that the settings end with it.
        let mut connection = pool.acquire().await.map_err(failed)?.detach();
        let statements = [
            "SET statement_timeout = 0".to_owned(),
            // It waits for an earlier ANALYZE or VACUUM of the same table.
            "SET lock_timeout = 0".to_owned(),
            "SET vacuum_cost_delay = 2".to_owned(),
            format!("ANALYZE {TABLES}"),
            format!("VACUUM (INDEX_CLEANUP ON) {TABLES}"),
        ];
        for statement in statements {
            sqlx::Executor::execute(&mut connection, sqlx::AssertSqlSafe(statement))
                .await
                .map_err(failed)?;
        }
        if !may_vacuum(&mut connection).await.map_err(failed)? {
            // PostgreSQL leaves such tables unchanged and reports it only in its own log.
            tracing::warn!(
                "the service's role does not own the tables, so erased data stays in their files and \
                 statistics until PostgreSQL's autovacuum runs: let their owner run \
                 VACUUM (ANALYZE, INDEX_CLEANUP ON) {TABLES}"
            );
        }
        sqlx::Connection::close(connection).await.map_err(failed)
    }
}

/// Whether this role may vacuum every table that an erasure changes: as the owner of the table or
/// of the database, as a superuser, or, from PostgreSQL 17, with the privilege MAINTAIN.
async fn may_vacuum(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT coalesce(bool_and( \
                 pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE') \
                 OR CASE WHEN current_setting('server_version_num')::int >= 170000 \
                         THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE FALSE END), FALSE) \
               FROM pg_database d, unnest(string_to_array($1, ', ')) AS t(name), pg_class c \
               WHERE d.datname = current_database() AND c.oid = to_regclass(t.name)";
    let row = sqlx::query(sql).bind(TABLES).fetch_one(connection).await?;
    sqlx::Row::try_get(&row, 0)
}
