//! Read-only queries, which are retried when their connection turns out to be lost.
//!
//! A lost connection is reported to the [`ConnectionEpoch`], so that the retry gets a new one. Queries on a
//! server that does not respond are aborted by it (`failover/`), and retried in the same way.
//!
//! It is written by hand because the pool of sqlx does not retry queries.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::error::ConnAcquireErr;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use super::failover::ConnectionEpoch;
use crate::error::{is_locked, is_lost};

/// The delays before each retry of a query. A longer outage is reported to the caller.
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// The error for a query that waited for a locked table as long as it may wait for a connection.
const UNAVAILABLE: DbErr = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);

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
