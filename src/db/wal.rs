//! Keeps SQLite's write-ahead log short.
//!
//! SQLite can restart the log only while no reader needs its content. With overlapping queries that
//! never happens, and the log grows without limit. So when the log is long, changes wait briefly
//! for the current readers to end. When it is longer still, slow queries are ended. A reader in
//! another process, such as a backup, cannot be ended: while it reads, the log grows, and changes
//! do not wait for it for long.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::{MissedTickBehavior, interval};

use super::Db;
use crate::error::Result;

/// Above this length in bytes, changes wait up to [`CHECKPOINT_WAIT`] for readers, so that the log
/// can be restarted.
const LONG_WAL: u64 = 32 << 20;
/// Above this length in bytes, queries that run longer than [`SLOW_QUERY`] are ended. Until they
/// have ended, up to [`LAST_CHECKPOINT_WAIT`], pending changes can still make the log longer.
const TOO_LONG_WAL: u64 = 64 << 20;
const CHECKPOINT_WAIT: Duration = Duration::from_millis(200);
const LAST_CHECKPOINT_WAIT: Duration = Duration::from_millis(2_500);
const SLOW_QUERY: Duration = Duration::from_secs(1);

/// How often the length of the log is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest and the longest pause after the log could not be restarted. Changes do not wait
/// during a pause. A pause while the log is long ends when it becomes too long, so that its length
/// does not depend on how much the machine writes during the pause.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

impl Db {
    /// Keeps the log short until the future is dropped. On PostgreSQL it does nothing.
    pub async fn keep_wal_short(self) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let mut pause = PAUSES[0];
        let mut next_wait = Instant::now();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let length = file.wal_length();
            let is_pause = length <= TOO_LONG_WAL && Instant::now() < next_wait;
            if length <= LONG_WAL || is_pause {
                continue;
            }
            let checkpointed = match length > TOO_LONG_WAL {
                false => self.checkpoint_wal(CHECKPOINT_WAIT).await,
                true => self.end_slow_readers().await,
            };
            match checkpointed {
                Ok(true) => pause = PAUSES[0],
                Ok(false) if length <= TOO_LONG_WAL => next_wait = Instant::now() + PAUSES[0],
                result => {
                    tracing::warn!(
                        ?result,
                        length,
                        "the database's write-ahead log cannot be restarted and grows: another process reads the file"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }

    /// Restarts the log, and ends the slow queries of this process that would prevent it.
    async fn end_slow_readers(&self) -> Result<bool> {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checkpoint = std::pin::pin!(self.checkpoint_wal(LAST_CHECKPOINT_WAIT));
        loop {
            tokio::select! {
                result = &mut checkpoint => return result,
                _ = ticks.tick() => self.pages.limit_to(SLOW_QUERY),
            }
        }
    }

    /// Copies all of the log into the database file and truncates the log, once no reader needs it.
    /// Changes wait meanwhile, at most for `wait`. Returns whether it succeeded.
    pub(super) async fn checkpoint_wal(&self, wait: Duration) -> Result<bool> {
        let sql = format!(
            "PRAGMA busy_timeout = {}; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = {}",
            wait.as_millis(),
            self.write_wait.as_millis()
        );
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        let writer = self.writer.clone();
        // In a task of its own, so that the last statement, which restores the timeout, always
        // runs.
        let task = tokio::spawn(async move { writer.query_all_raw(statement).await });
        let rows = task.await.map_err(crate::error::Error::internal)??;
        // The result of the second of the three statements says whether a reader prevented it.
        let busy = rows.get(1).map(|row| row.try_get_by_index::<i32>(0));
        Ok(busy.transpose()? == Some(0))
    }
}
