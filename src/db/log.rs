//! Keeps SQLite's write-ahead log short. The log can be restarted only while no reader needs what is in it;
//! with queries that overlap that never happens, and it grows without limit. So when it is long, changes
//! wait a moment for the current readers to end, and when it is longer still, queries that take long are
//! ended. A reader in another process, such as a backup, is not: while it reads, the log grows, and
//! changes do not wait for it for long.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::{MissedTickBehavior, interval};

use super::Db;
use crate::error::Result;

/// Above this length in bytes, changes wait up to [`WAIT`] for readers, so that the log can be restarted.
const LONG: u64 = 32 << 20;
/// Above this, queries that take longer than [`QUERY`] are ended for it. As long as it takes until they
/// have ended, up to [`LAST_WAIT`], the log may still grow by what is on its way.
const TOO_LONG: u64 = 64 << 20;
const WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_millis(2_500);
const QUERY: Duration = Duration::from_secs(1);

/// How often the log's length is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// The shortest and the longest pause after the log could not be restarted, in which changes do not wait.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

impl Db {
    /// Keeps the log short until the future is dropped; on PostgreSQL there is nothing to do.
    pub async fn keep_log_short(self) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let mut pause = PAUSES[0];
        loop {
            tokio::time::sleep(EVERY).await;
            let length = file.log_length();
            if length <= LONG {
                continue;
            }
            let restarted = match length > TOO_LONG {
                false => self.restart_log(WAIT).await,
                true => self.end_readers_of_log().await,
            };
            match restarted {
                Ok(true) => pause = PAUSES[0],
                Ok(false) if length <= TOO_LONG => tokio::time::sleep(PAUSES[0]).await,
                failed => {
                    tracing::warn!(
                        ?failed,
                        length,
                        "the database's write-ahead log grows: another process reads the file"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }

    /// Restarts the log, and ends the queries of this process that would prevent it.
    async fn end_readers_of_log(&self) -> Result<bool> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut begin = std::pin::pin!(self.restart_log(LAST_WAIT));
        loop {
            tokio::select! {
                begun = &mut begin => return begun,
                _ = ticks.tick() => self.pages.end_after(QUERY),
            }
        }
    }

    /// Writes all of the log into the database's file and cuts it to nothing, once no reader needs it.
    /// Changes wait meanwhile, for `wait` at most. Says whether it came about.
    pub(super) async fn restart_log(&self, wait: Duration) -> Result<bool> {
        let sql = format!(
            "PRAGMA busy_timeout = {}; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = {}",
            wait.as_millis(),
            self.write_wait.as_millis()
        );
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        let writer = self.writer.clone();
        // In a task of its own, so that it always comes to its last statement.
        let task = tokio::spawn(async move { writer.query_all_raw(statement).await });
        let rows = task.await.map_err(crate::error::Error::internal)??;
        // The second of three answers: whether a reader was in the way.
        let busy = rows.get(1).map(|row| row.try_get_by_index::<i32>(0));
        Ok(busy.transpose()? == Some(0))
    }
}
