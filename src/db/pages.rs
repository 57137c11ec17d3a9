//! Connections for lists and searches, the queries that may take long. They are apart from those for
//! look-ups by a key, which go on whatever lists there are, and no principal has all of them.
//!
//! A query keeps its connection until it ends, whether or not its caller still waits: what it costs is
//! counted as long as it costs. SQLite ends it when its caller has gone or its time is over;
//! PostgreSQL when its time is over (`statement_timeout`).

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
use crate::error::{Error, Result, too_slow};
use crate::keyed::{KeyedSemaphore, Ticket};

/// When the statement that runs on a connection has to end. SQLite asks it while the statement runs.
#[derive(Debug)]
pub struct StatementClock {
    begin: Instant,
    /// Microseconds from `begin` at which the statement began and has to end.
    begun: AtomicU64,
    end: AtomicU64,
}

impl Default for StatementClock {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            begun: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
        }
    }
}

impl StatementClock {
    /// Whether the statement may go on.
    pub fn goes_on(&self) -> bool {
        self.now() < self.end.load(Ordering::Relaxed)
    }

    fn start(&self, time: Duration) {
        let now = self.now();
        self.begun.store(now, Ordering::Relaxed);
        self.end.store(now + micros(time), Ordering::Relaxed);
    }

    /// Has the statement end that runs now, once it ran for so long.
    fn end_after(&self, time: Duration) {
        let end = self.begun.load(Ordering::Relaxed) + micros(time);
        self.end.fetch_min(end, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        micros(self.begin.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2)
}

/// One connection, or on PostgreSQL a claim to one of the pool's.
#[derive(Debug)]
pub struct Connection {
    pub reader: Reader,
    pub clock: Arc<StatementClock>,
}

/// The connections for lists and searches.
#[derive(Debug)]
pub struct Pages {
    clocks: Vec<Arc<StatementClock>>,
    free: Mutex<Vec<Connection>>,
    connections: Arc<Semaphore>,
    principals: Arc<KeyedSemaphore<Uuid>>,
    /// How long a call may wait for a connection.
    wait: Duration,
    statement_time: Duration,
}

impl Pages {
    pub fn new(
        connections: Vec<Connection>,
        wait: Duration,
        statement_time: Duration,
    ) -> Arc<Self> {
        let count = connections.len();
        let share = share(count);
        Arc::new(Self {
            clocks: connections
                .iter()
                .map(|one| Arc::clone(&one.clock))
                .collect(),
            free: Mutex::new(connections),
            connections: Arc::new(Semaphore::new(count)),
            // How many wait is limited by the calls that a principal may have at once.
            principals: KeyedSemaphore::new(share, usize::MAX),
            wait,
            statement_time,
        })
    }

    /// A connection for a call of `principal`.
    ///
    /// # Errors
    /// [`Error::ServerOverloaded`] when it would have to wait for too long.
    pub async fn take(self: &Arc<Self>, principal: Uuid) -> Result<PageReader> {
        let turn = async {
            let mut ticket = self.principals.enter(principal)?;
            ticket.acquire().await.ok()?;
            let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
            Some((permit, ticket))
        };
        let turn = timeout(self.wait, turn).await.ok().flatten();
        let (permit, ticket) = turn.ok_or(Error::ServerOverloaded)?;
        let connection = self.free().pop();
        let connection =
            connection.ok_or_else(|| Error::internal("a permit without connection"))?;
        let backend = connection.reader.get_database_backend();
        let clock = Arc::clone(&connection.clock);
        let held = Arc::new(Held {
            pages: Arc::clone(self),
            connection: Some(connection),
            _permit: permit,
            _ticket: ticket,
        });
        Ok(PageReader {
            held,
            clock,
            backend,
        })
    }

    /// Has the statements end that ran for so long already, and those that run now once they did.
    pub fn end_after(&self, time: Duration) {
        for clock in &self.clocks {
            clock.end_after(time);
        }
    }

    /// Closes the connections that are free.
    pub async fn close(&self) {
        let free = std::mem::take(&mut *self.free());
        for connection in free {
            // An error here means that it is gone, which is what was wanted.
            let _ = connection.reader.pool.close_by_ref().await;
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// How many of the connections one principal may have: three quarters, and never all where there is
/// more than one.
fn share(connections: usize) -> usize {
    (connections * 3).div_ceil(4).min(connections - 1).max(1)
}

/// A connection that is taken, until its last statement has ended.
#[derive(Debug)]
struct Held {
    pages: Arc<Pages>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket<Uuid>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the permit goes.
        self.pages.free().extend(self.connection.take());
    }
}

/// A connection for the queries of one call. Dropping it ends the one that runs.
#[derive(Debug)]
pub struct PageReader {
    held: Arc<Held>,
    clock: Arc<StatementClock>,
    backend: DbBackend,
}

impl PageReader {
    async fn run<T, F>(&self, query: impl FnOnce(Reader) -> F) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let Some(connection) = &self.held.connection else {
            return Err(internal("a connection that was given back"));
        };
        self.clock.start(self.held.pages.statement_time);
        let query = Query {
            future: Some(Box::pin(query(connection.reader.clone()))),
            held: Arc::clone(&self.held),
        };
        query.await.map_err(too_slow)
    }
}

/// A query, which goes on without its caller when this is dropped: until the database has ended it, its
/// connection is in use.
struct Query<T: Send + 'static> {
    /// None once it has ended.
    future: Option<BoxFuture<'static, Result<T, DbErr>>>,
    held: Arc<Held>,
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
            let held = Arc::clone(&self.held);
            runtime.spawn(async move {
                // Nobody waits for the result.
                let _ = future.await;
                drop(held);
            });
        }
    }
}

impl Drop for PageReader {
    fn drop(&mut self) {
        self.clock.end_after(Duration::ZERO);
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
        let shares: Vec<usize> = (1..=8).map(share).collect();
        assert_eq!(shares, [1, 1, 2, 3, 4, 5, 6, 6]);
    }

    #[test]
    fn a_statement_ends_when_its_time_is_over_or_cut_short() {
        let clock = StatementClock::default();
        assert!(clock.goes_on());
        clock.start(Duration::from_secs(60));
        assert!(clock.goes_on());
        clock.end_after(Duration::from_secs(50));
        assert!(clock.goes_on());
        clock.end_after(Duration::ZERO);
        assert!(!clock.goes_on());
        clock.start(Duration::from_secs(60));
        assert!(clock.goes_on(), "the next one has a time of its own");
    }
}
