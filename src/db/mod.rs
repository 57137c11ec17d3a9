//! The database access layer. [`Db::read`], [`Db::pages`] and [`Db::write`] are the only ways to
//! reach the database.
//!
//! One set of queries runs on SQLite (a file) and on PostgreSQL. Where the SQL has to differ, the
//! difference is a function of this folder ([`Tx::lock`], [`search`], [`migrate`]).
//!
//! Every change goes through [`Db::write`], which runs the transaction in a task of its own. When a
//! client disconnects, the server drops its handler, and a future that is dropped inside BEGIN or
//! COMMIT leaves a pooled connection in an unknown state (transact-rs/sqlx#4385). With its own
//! task, a change is applied completely or not at all, even when the client has disconnected.
//!
//! This folder knows nothing of features, RPCs or the wire format. The pool for lists, the failover
//! and the bulk reads and writes are written by hand because neither SeaORM nor sqlx provides them.

pub mod backup;
pub mod batch_loader;
pub mod connect;
mod connect_failure;
mod connection;
pub mod entities;
pub mod event_log;
pub mod failover;
pub mod json;
mod keys;
pub mod migrate;
mod observe;
mod open_file;
pub mod page_pool;
pub mod reader;
pub mod rows;
mod schema_lock;
mod scrub;
pub mod search;
pub mod select;
mod server_lock;
mod session;
mod sql_lists;
mod sqlite_files;
mod tx;
mod wal;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use connection::Connection;
use failover::hosts;
use page_pool::{PagePool, PageReader};
use reader::Reader;
pub use server_lock::ServerLock;
pub use sql_lists::{any_of, get_many, texts};
pub use tx::{LockWait, Locked, Tx, existing_ids, ids_where, lock, lock_number};
pub use watch::Watch;

use crate::core::backoff::RECONNECT;
use crate::core::clock::Clock;
use crate::error::{Error, Result};
use crate::metrics::{Limit, Metrics};
use crate::telemetry::traces::{self, Span};

/// A handle to the database. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Db {
    readers: Reader,
    pages: Arc<PagePool>,
    /// On SQLite a pool of one connection: SQLite has a single writer.
    writer: DatabaseConnection,
    clock: Clock,
    metrics: Arc<Metrics>,
    tasks: Arc<TaskTracker>,
    /// Permits for the transactions that run or wait for a connection. They also count transactions
    /// whose caller has disconnected, which the limit on calls does not see.
    write_permits: Arc<Semaphore>,
    /// The PostgreSQL servers that the URL lists; empty on SQLite.
    hosts: Vec<hosts::Host>,
    scrub_state: Arc<scrub::ScrubState>,
    /// The open database file; only on SQLite.
    file: Option<Arc<open_file::OpenFile>>,
    /// How long the writer waits for a lock that another process holds; only on SQLite.
    write_wait: Duration,
    /// Notified after each commit that wrote events.
    event_commits: Arc<Notify>,
}

/// The connections of a [`Db`].
struct Pools {
    readers: Reader,
    pages: Arc<PagePool>,
    writer: DatabaseConnection,
}

/// The maximum number of transactions that run or wait for a connection.
const MAX_WRITES: usize = 2_000;

/// The outcome of the closure given to [`Db::write`] when it does not fail.
pub enum Verdict<T> {
    /// Commit, and return the value.
    Done(T),
    /// Commit what was written, which is only the record of a rejection, and return the error.
    Refused(Error),
    /// Roll back, and return the value: the change was only to be validated.
    Checked(T),
}

impl Db {
    fn new(
        pools: Pools,
        hosts: Vec<hosts::Host>,
        file: Option<open_file::OpenFile>,
        write_wait: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            readers: pools.readers,
            pages: pools.pages,
            writer: pools.writer,
            hosts,
            clock,
            metrics,
            tasks: Arc::default(),
            write_permits: Arc::new(Semaphore::new(MAX_WRITES)),
            scrub_state: Arc::default(),
            file: file.map(Arc::new),
            write_wait,
            event_commits: Arc::default(),
        }
    }

    /// The connections for read-only lookups by key.
    pub fn read(&self) -> &Reader {
        &self.readers
    }

    /// A connection for a list or a search. One principal gets only a share of these connections.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED` when no connection becomes free in time.
    pub async fn pages(&self, principal: Uuid) -> Result<PageReader> {
        let wait = Span::begin("wait");
        let acquired = self.pages.acquire(principal).await;
        drop(wait);
        acquired.inspect_err(|_| self.metrics.limits.refused(Limit::Pages))
    }

    /// Runs `work` in one transaction: exclusive on SQLite (BEGIN IMMEDIATE), READ COMMITTED on
    /// PostgreSQL. An error from `work` rolls everything back.
    ///
    /// `work` must await nothing but its own queries. It runs to completion even when the caller
    /// stops waiting; [`Db::close`] waits for it.
    ///
    /// # Errors
    /// The error that `work` returns; `DATABASE_UNAVAILABLE` when no connection is available;
    /// `SERVER_OVERLOADED` when too many transactions are waiting already.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'static,
    {
        self.write_with((), move |tx, ()| work(tx)).await.0
    }

    /// [`Db::write`] with a state that `work` may modify. The state is returned whether `work`
    /// succeeds or fails.
    pub async fn write_with<S, T, F>(&self, state: S, work: F) -> (Result<T>, S)
    where
        S: Send + 'static,
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Tx, &'a mut S) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.write_permits).try_acquire_owned() else {
            self.metrics.limits.refused(Limit::Transactions);
            return (Err(Error::server_overloaded()), state);
        };
        let db = self.clone();
        let task = self.tasks.spawn(traces::in_current_span(async move {
            let _permit = permit;
            let mut state = state;
            let transaction = AssertUnwindSafe(db.transact(&mut state, work)).catch_unwind();
            let result = match transaction.await {
                Ok(result) => result,
                Err(_) => Err(Error::internal("the work of a transaction panicked")),
            };
            (result, state)
        }));
        match task.await {
            Ok(output) => output,
            // The task neither panicked nor was aborted: the runtime is shutting down, and the
            // caller ends with it.
            Err(_) => std::future::pending().await,
        }
    }

    async fn transact<S, T, F>(&self, state: &mut S, work: F) -> Result<T>
    where
        F: for<'a> FnOnce(&'a Tx, &'a mut S) -> BoxFuture<'a, Result<Verdict<T>>>,
    {
        let _timer = self.metrics.transaction_seconds.start_timer();
        let epoch = &self.readers.epoch;
        let result = epoch.abortable(self.transaction(state, work)).await;
        if let (Some(file), Err(error)) = (&self.file, &result)
            && error.is_unavailable()
        {
            file.suspect();
        }
        result
    }

    /// [`Db::write`] for idempotent work. It is retried when its connection was lost, even if the
    /// connection was lost during the commit.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_with_retry<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let attempt = || {
            let work = Arc::clone(&work);
            self.write(move |tx| work(tx))
        };
        for delay in RECONNECT {
            match attempt().await {
                Err(error) if error.is_connection_lost() => tokio::time::sleep(delay).await,
                result => return result,
            }
        }
        attempt().await
    }

    /// Waits until everything that was read before is as durable as [`Tx::replication_barrier`]
    /// describes.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn replication_barrier(&self) -> Result<()> {
        if self.backend() != DbBackend::Postgres {
            return Ok(());
        }
        let barrier = self.write_with_retry(|tx| {
            Box::pin(async move {
                tx.replication_barrier().await?;
                Ok(Verdict::Done(()))
            })
        });
        barrier.await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the only place that begins a transaction"
    )]
    async fn transaction<S, T, F>(&self, state: &mut S, work: F) -> Result<T>
    where
        F: for<'a> FnOnce(&'a Tx, &'a mut S) -> BoxFuture<'a, Result<Verdict<T>>>,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let to_error = |error: DbErr| {
            self.readers.epoch.note_error(&error);
            Error::from(error)
        };
        if let Some(file) = &self.file {
            file.check()?;
        }
        let begin = Span::begin("begin");
        let begun = self.writer.begin_with_options(options).await;
        drop(begin);
        let tx = Tx {
            inner: begun.map_err(to_error)?,
            clock: self.clock.clone(),
        };
        match work(&tx, state).await {
            Ok(Verdict::Done(value)) => {
                let _commit = Span::begin("commit");
                tx.inner.commit().await.map_err(to_error)?;
                Ok(value)
            }
            Ok(Verdict::Refused(error)) => {
                let _commit = Span::begin("commit");
                tx.inner.commit().await.map_err(to_error)?;
                Err(error)
            }
            Ok(Verdict::Checked(value)) => {
                tx.inner.rollback().await.map_err(to_error)?;
                Ok(value)
            }
            Err(error) => {
                if error.is_connection_lost() {
                    self.readers.epoch.invalidate();
                }
                // The rollback may fail for the same reason. The first error is the one to report.
                let _ = tx.inner.rollback().await;
                Err(error)
            }
        }
    }

    /// The current time from a clock that all replicas share, as [`Tx::time`].
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` if it cannot be reached.
    pub async fn time(&self) -> Result<DateTime<Utc>> {
        Ok(tx::time(self.read(), &self.clock).await?)
    }

    /// Runs `task` in the background. [`Db::close`] waits until it ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits for the running transactions, then closes every connection.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        // An error here means that the connection is closed already.
        let _ = self.writer.close_by_ref().await;
        let _ = self.readers.pool.close_by_ref().await;
        self.pages.close().await;
    }

    /// The name of the kind of database: `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        if self.backend() == DbBackend::Postgres {
            "postgres"
        } else {
            "sqlite"
        }
    }

    /// Whether the database is SQLite or PostgreSQL.
    pub fn backend(&self) -> DbBackend {
        self.readers.get_database_backend()
    }
}
