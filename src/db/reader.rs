//! Read-only queries, which are retried when their connection turns out to be lost.
//!
//! When PostgreSQL restarts or fails over, its connections are dead, but the driver reports
//! nothing: each one is detected by the next query on it. The first detection marks every
//! connection that was opened before that moment as stale ([`ConnectionEpoch`]), so that the others
//! are replaced before they are used.
//!
//! A host that froze or lost power sends nothing at all. A query on it would wait for minutes and
//! keep its connection. Such queries are aborted when another server is found that responds.
//!
//! It is written by hand because the pool of sqlx neither invalidates connections as a group nor
//! retries queries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::error::ConnAcquireErr;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    SqlxError, Statement,
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{is_locked, is_lost};

/// The delays before each retry of a query. A longer outage is reported to the caller.
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// The error for a query that waited for a locked table as long as it may wait for a connection.
const UNAVAILABLE: DbErr = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);

/// Records when a connection was last found dead. Connections that were opened before are stale.
#[derive(Debug)]
pub struct ConnectionEpoch {
    created: Instant,
    /// Milliseconds since `created`; 0 means never.
    last_failure: AtomicU64,
    /// Notified when the running queries are aborted.
    aborts: watch::Sender<()>,
}

impl Default for ConnectionEpoch {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            last_failure: AtomicU64::new(0),
            aborts: watch::Sender::default(),
        }
    }
}

impl ConnectionEpoch {
    /// Marks all current connections as stale if `error` says that a connection is dead.
    pub fn note_error(&self, error: &DbErr) {
        if is_lost(error) {
            self.invalidate();
        }
    }

    /// Marks all current connections as stale.
    pub fn invalidate(&self) {
        self.last_failure
            .store(self.now().max(1), Ordering::Relaxed);
    }

    /// Marks all current connections as stale and aborts the work that runs on them.
    pub fn abort_pending(&self) {
        self.invalidate();
        self.aborts.send_replace(());
    }

    /// Runs `work` until it ends or [`abort_pending`](Self::abort_pending) is called. Then `work`
    /// is dropped, and its connection with it.
    pub async fn abortable<T, E: From<DbErr>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut aborts = self.aborts.subscribe();
        tokio::select! {
            biased;
            result = work => result,
            _ = aborts.changed() => Err(unresponsive().into()),
        }
    }

    /// Whether a connection of this age was opened before the last one was found dead.
    pub fn is_stale(&self, age: Duration) -> bool {
        let last_failure = self.last_failure.load(Ordering::Relaxed);
        let opened = u128::from(self.now()).saturating_sub(age.as_millis());
        last_failure > 0 && opened <= u128::from(last_failure)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The error for work that was aborted.
fn unresponsive() -> DbErr {
    let why = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer");
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(why))))
}

/// A pool for read-only queries.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) pool: DatabaseConnection,
    pub(super) epoch: Arc<ConnectionEpoch>,
    pub(super) connections: u32,
}

impl Reader {
    pub(super) fn new(
        pool: DatabaseConnection,
        epoch: &Arc<ConnectionEpoch>,
        connections: u32,
    ) -> Self {
        Self {
            pool,
            epoch: Arc::clone(epoch),
            connections,
        }
    }

    /// The maximum number of connections.
    pub fn connections(&self) -> usize {
        self.connections as usize
    }

    /// The pool itself, for code that needs its concrete type.
    pub fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Runs `query`, and retries it after a lost connection.
    async fn with_retry<T, F>(&self, query: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        for delay in RETRY_DELAYS {
            match self.epoch.abortable(query()).await {
                Err(error) if is_lost(&error) => self.epoch.note_error(&error),
                Err(error) if is_locked(&error) => return Err(UNAVAILABLE),
                result => return result,
            }
            tokio::time::sleep(delay).await;
        }
        let result = self.epoch.abortable(query()).await;
        if let Err(error) = &result {
            self.epoch.note_error(error);
        }
        result
    }
}

#[tonic::async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.pool.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.pool.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.pool.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.with_retry(|| self.pool.query_one_raw(statement.clone()))
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.with_retry(|| self.pool.query_all_raw(statement.clone()))
            .await
    }
}
