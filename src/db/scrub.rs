//! Removes what a database still holds of rows that were overwritten.
//!
//! SQLite overwrites them in its file (`secure_delete`), but the log beside it keeps
//! the pages as they were until it is cut. PostgreSQL keeps the rows as they were until they are
//! vacuumed, and a sample of their values in its statistics until they are computed again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::DbBackend;
use sea_orm::sqlx;
use tokio::sync::Mutex;

use super::Db;
use crate::error::{Error, Result};

/// How often the log is tried to be cut at once: a reader that is at work keeps it.
const TRIES: usize = 20;
/// How long writers have the connection to themselves between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// A try waits for readers no longer than this, because writers wait for it.
const WAIT: Duration = Duration::from_millis(50);

/// How long a vacuum may take. One whose server went away without a word would never end.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What an erasure touches.
const TABLES: &str = "leads, lead_search, opportunities, orders, action_runs, history, events, \
                      idempotency_records";

/// Who asks while others are at it is served by the next run, with all others who asked by then.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    asked: AtomicU64,
    done: Mutex<u64>,
}

impl Scrubbing {
    /// Whether nobody is at what was asked for.
    fn is_owed(&self) -> bool {
        let asked = self.asked.load(Ordering::SeqCst);
        self.done.try_lock().is_ok_and(|done| *done < asked)
    }
}

impl Db {
    /// Removes what is left of what was overwritten up to now. On SQLite that is waited for; on
    /// PostgreSQL, which reads whole tables for it, it goes on in the background. A failure is only
    /// logged here: [`Db::scrub_if_owed`] tries again.
    pub async fn scrub(&self) {
        let db = self.clone();
        let ticket = self.scrubbing.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let task = async move {
            let scrubbing = Arc::clone(&db.scrubbing);
            let mut done = scrubbing.done.lock().await;
            if *done >= ticket {
                return;
            }
            let asked = scrubbing.asked.load(Ordering::SeqCst);
            let scrubbed = if db.backend() == DbBackend::Postgres {
                let vacuumed = tokio::time::timeout(LONGEST, db.vacuum()).await;
                vacuumed.unwrap_or_else(|_| Err(Error::internal("a vacuum came to no end")))
            } else {
                db.cut_log().await
            };
            match scrubbed {
                Ok(()) => *done = asked,
                Err(error) => tracing::warn!(
                    ?error,
                    "what was erased is still in the database's files for a while"
                ),
            }
        };
        let waits = self.backend() != DbBackend::Postgres;
        let task = tokio::spawn(task);
        if waits {
            // It only ends early by a panic, which is logged where it happens.
            let _ = task.await;
        }
    }

    /// Does what [`Db::scrub`] could not.
    pub async fn scrub_if_owed(&self) {
        if self.scrubbing.is_owed() {
            self.scrub().await;
        }
    }

    /// Writes all of SQLite's log into its file and cuts it to nothing.
    async fn cut_log(&self) -> Result<()> {
        for _ in 0..TRIES {
            if self.restart_log(WAIT).await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Error::internal("readers keep SQLite's log from being cut"))
    }

    /// Takes as long as it takes, and pauses on the way as PostgreSQL's own vacuum does. First makes
    /// the statistics again, which is quick, then vacuums with the indexes, which it would leave
    /// for another time when little is to be removed.
    async fn vacuum(&self) -> Result<()> {
        let failed = |error: sqlx::Error| Error::DatabaseUnavailable(error.to_string());
        let pool = self.readers.pool().get_postgres_connection_pool();
        // Of its own, so that the settings end with it.
        let mut connection = pool.acquire().await.map_err(failed)?.detach();
        let statements = [
            "SET statement_timeout = 0".to_owned(),
            // Another ANALYZE or VACUUM of the same table, which began earlier, is waited for.
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
            // PostgreSQL has left the tables as they are and reported it in its own log only.
            tracing::warn!(
                "the service's role is not the owner of the tables, so what was erased stays in their files \
                 and statistics until PostgreSQL's autovacuum comes: have their owner run \
                 VACUUM (ANALYZE, INDEX_CLEANUP ON) {TABLES}"
            );
        }
        sqlx::Connection::close(connection).await.map_err(failed)
    }
}

/// Whether this role may vacuum every table that an erasure touches: as its owner, the database's or a
/// superuser, and from PostgreSQL 17 on by the right MAINTAIN.
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
