//! The connection pool for lists and searches, whose queries may take a long time.
//!
//! These connections are separate from those for lookups by key, which therefore work whatever
//! lists are running, and one principal never gets all of them.
//!
//! A query keeps its connection until it ends, whether or not its caller still waits. So its cost
//! counts against the caller's share as long as it costs. SQLite ends a query when its caller has
//! disconnected or its deadline is reached. PostgreSQL ends it at its deadline
//! (`statement_timeout`).
//!
//! It is written by hand because the pool of sqlx has neither shares per principal nor deadlines
//! for statements on SQLite.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::reader::Reader;
use crate::core::keyed::{KeyedSemaphore, Ticket};
use crate::error::{Error, Result, too_slow};

/// The deadline of the statement that runs on a connection. SQLite checks it while the statement
/// runs.
#[derive(Debug)]
pub struct StatementDeadline {
    origin: Instant,
    /// Microseconds since `origin`, at which the statement started and has to end.
    started: AtomicU64,
    deadline: AtomicU64,
}

impl Default for StatementDeadline {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            started: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
        }
    }
}

impl StatementDeadline {
    /// Whether the deadline is still in the future.
    pub fn is_pending(&self) -> bool {
        self.now() < self.deadline.load(Ordering::Relaxed)
    }

    fn start(&self, time: Duration) {
        let now = self.now();
        self.started.store(now, Ordering::Relaxed);
        self.deadline.store(now + micros(time), Ordering::Relaxed);
    }

    /// Ends the current statement once it has run for `time`.
    fn limit_to(&self, time: Duration) {
        let deadline = self.started.load(Ordering::Relaxed) + micros(time);
        self.deadline.fetch_min(deadline, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2)
}

/// A connection. On PostgreSQL it stands for one connection of the shared pool.
#[derive(Debug)]
pub struct PageConnection {
    pub reader: Reader,
    pub deadline: Arc<StatementDeadline>,
}

/// The connections for lists and searches.
#[derive(Debug)]
pub struct PagePool {
    deadlines: Vec<Arc<StatementDeadline>>,
    idle: Mutex<Vec<PageConnection>>,
    connections: Arc<Semaphore>,
    principals: Arc<KeyedSemaphore<Uuid>>,
    /// How long a call may wait for a connection.
    wait: Duration,
    statement_time: Duration,
}

impl PagePool {
    pub fn new(
        connections: Vec<PageConnection>,
        wait: Duration,
        statement_time: Duration,
    ) -> Arc<Self> {
        let count = connections.len();
        let share = max_per_principal(count);
        Arc::new(Self {
            deadlines: connections
                .iter()
                .map(|connection| Arc::clone(&connection.deadline))
                .collect(),
            idle: Mutex::new(connections),
            connections: Arc::new(Semaphore::new(count)),
            // The number of waiting calls needs no limit here: the calls of a principal are limited
            // already.
            principals: KeyedSemaphore::new(share, usize::MAX),
            wait,
            statement_time,
        })
    }

    /// A connection for a call of `principal`.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED` when the call would have to wait too long.
    pub async fn acquire(self: &Arc<Self>, principal: Uuid) -> Result<PageReader> {
        let admission = async {
            let mut ticket = self.principals.enter(principal)?;
            ticket.acquire().await.ok()?;
            let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
            Some((permit, ticket))
        };
        let admission = timeout(self.wait, admission).await.ok().flatten();
        let (permit, ticket) = admission.ok_or_else(Error::server_overloaded)?;
        let connection = self.idle().pop();
        let connection =
            connection.ok_or_else(|| Error::internal("a permit without connection"))?;
        let backend = connection.reader.get_database_backend();
        let deadline = Arc::clone(&connection.deadline);
        let lease = Arc::new(Lease {
            pool: Arc::clone(self),
            connection: Some(connection),
            _permit: permit,
            _ticket: ticket,
        });
        Ok(PageReader {
            lease,
            deadline,
            backend,
        })
    }

    /// How many connections are in use, and how many there are.
    pub fn usage(&self) -> (usize, usize) {
        let all = self.deadlines.len();
        (
            all.saturating_sub(self.connections.available_permits()),
            all,
        )
    }

    /// Ends every statement once it has run for `time`. Those that have run longer already end now.
    pub fn limit_to(&self, time: Duration) {
        for deadline in &self.deadlines {
            deadline.limit_to(time);
        }
    }

    /// Closes the idle connections.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // An error here means that the connection is closed already.
            let _ = connection.reader.pool.close_by_ref().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PageConnection>> {
        self.idle
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The maximum number of connections of one principal: three quarters, and never all of them unless
/// there is only one.
fn max_per_principal(connections: usize) -> usize {
    (connections * 3).div_ceil(4).min(connections - 1).max(1)
}

/// A connection in use, until its last statement has ended.
#[derive(Debug)]
struct Lease {
    pool: Arc<PagePool>,
    connection: Option<PageConnection>,
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket<Uuid>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The connection must be back before the permit is released.
        self.pool.idle().extend(self.connection.take());
    }
}

/// A connection for the queries of one call. Dropping it ends the running query.
#[derive(Debug)]
pub struct PageReader {
    lease: Arc<Lease>,
    deadline: Arc<StatementDeadline>,
    backend: DbBackend,
}

impl PageReader {
    async fn run<T, F>(&self, query: impl FnOnce(Reader) -> F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let Some(connection) = &self.lease.connection else {
            return Err(internal("a connection that was given back"));
        };
        self.deadline.start(self.lease.pool.statement_time);
        let query = Query {
            future: Some(Box::pin(query(connection.reader.clone()))),
            lease: Arc::clone(&self.lease),
        };
        query.await.map_err(too_slow)
    }
}

/// A query that keeps running when this is dropped. Its connection is in use until the database has
/// ended the query.
struct Query<T: Send + 'static> {
    /// `None` once the query has ended.
    future: Option<BoxFuture<'static, Result<T, DbErr>>>,
    lease: Arc<Lease>,
}

impl<T: Send + 'static> Future for Query<T> {
    type Output = Result<T, DbErr>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(Err(internal("a query that has ended already")));
        };
        let result = ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(result)
    }
}

impl<T: Send + 'static> Drop for Query<T> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) {
            let lease = Arc::clone(&self.lease);
            runtime.spawn(async move {
                // The result is discarded: its caller is gone.
                let _ = future.await;
                drop(lease);
            });
        }
    }
}

impl Drop for PageReader {
    fn drop(&mut self) {
        self.deadline.limit_to(Duration::ZERO);
    }
}

fn internal(error: impl ToString) -> DbErr {
    DbErr::Query(RuntimeErr::Internal(error.to_string()))
}

#[tonic::async_trait]
impl ConnectionTrait for PageReader {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(|reader| async move { reader.execute_raw(statement).await })
            .await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        self.run(|reader| async move { reader.execute_unprepared(&sql).await })
            .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(|reader| async move { reader.query_one_raw(statement).await })
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(|reader| async move { reader.query_all_raw(statement).await })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_principal_has_all_connections_where_there_are_several() {
        let shares: Vec<usize> = (1..=8).map(max_per_principal).collect();
        assert_eq!(shares, [1, 1, 2, 3, 4, 5, 6, 6]);
    }

    #[test]
    fn a_statement_ends_when_its_time_is_over_or_cut_short() {
        let deadline = StatementDeadline::default();
        assert!(deadline.is_pending());
        deadline.start(Duration::from_secs(60));
        assert!(deadline.is_pending());
        deadline.limit_to(Duration::from_secs(50));
        assert!(deadline.is_pending());
        deadline.limit_to(Duration::ZERO);
        assert!(!deadline.is_pending());
        deadline.start(Duration::from_secs(60));
        assert!(deadline.is_pending(), "the next one has a time of its own");
    }
}
