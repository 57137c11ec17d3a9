//! Queries that change nothing, asked again where their connection turns out to be lost.
//!
//! When PostgreSQL restarts or fails over, the connections to it are dead and nobody says so: each
//! is found out by the next query on it. The first to find out condemns every connection opened
//! before that moment (`Lost`), so that the others are replaced before they are used.
//!
//! A host that froze or lost its power says nothing at all: what is under way on it would wait for
//! minutes, and keep its connection. It is given up when a server is found that does answer.

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

/// After how long a query is asked again; each once. Longer is the caller's to wait.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// What a query is answered that waited for a locked table for as long as for a connection.
const UNAVAILABLE: DbErr = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);

/// When a connection was last found dead.
#[derive(Debug)]
pub struct Lost {
    begun: Instant,
    /// Milliseconds from `begun`; 0 is never.
    last: AtomicU64,
    /// Told when what is under way is given up.
    given_up: watch::Sender<()>,
}

impl Default for Lost {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            given_up: watch::Sender::default(),
        }
    }
}

impl Lost {
    /// Takes note if `error` says that a connection is dead.
    pub fn note(&self, error: &DbErr) {
        if is_lost(error) {
            self.mark();
        }
    }

    /// Condemns the connections there are.
    pub fn mark(&self) {
        self.last.store(self.now().max(1), Ordering::Relaxed);
    }

    /// Condemns the connections there are, and ends what waits for an answer on them.
    pub fn give_up(&self) {
        self.mark();
        self.given_up.send_replace(());
    }

    /// What `work` comes to, unless its connection is given up meanwhile: then it is dropped, and its
    /// connection with it.
    pub async fn unless_given_up<T, E: From<DbErr>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut given_up = self.given_up.subscribe();
        tokio::select! {
            biased;
            done = work => done,
            _ = given_up.changed() => Err(silence().into()),
        }
    }

    /// Whether a connection of this age was opened before the last one was found dead.
    pub fn condemns(&self, age: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let opened = u128::from(self.now()).saturating_sub(age.as_millis());
        last > 0 && opened <= u128::from(last)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is answered on a connection that was given up.
fn silence() -> DbErr {
    let why = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer");
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(why))))
}

/// Connections for queries that change nothing.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) pool: DatabaseConnection,
    pub(super) lost: Arc<Lost>,
    pub(super) connections: u32,
}

impl Reader {
    pub(super) fn new(pool: DatabaseConnection, lost: &Arc<Lost>, connections: u32) -> Self {
        Self {
            pool,
            lost: Arc::clone(lost),
            connections,
        }
    }

    /// How many connections there are at most.
    pub fn connections(&self) -> usize {
        self.connections as usize
    }

    /// The connections themselves, for what asks for them by their type.
    pub fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Runs `query`, again where it found a dead connection.
    async fn again<T, F>(&self, query: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        for pause in PAUSES {
            match self.lost.unless_given_up(query()).await {
                Err(error) if is_lost(&error) => self.lost.note(&error),
                Err(error) if is_locked(&error) => return Err(UNAVAILABLE),
                answered => return answered,
            }
            tokio::time::sleep(pause).await;
        }
        let answered = self.lost.unless_given_up(query()).await;
        if let Err(error) = &answered {
            self.lost.note(error);
        }
        answered
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
        self.again(|| self.pool.query_one_raw(statement.clone()))
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.again(|| self.pool.query_all_raw(statement.clone()))
            .await
    }
}
