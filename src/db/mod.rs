//! The database: [`Db::read`] and [`Db::write`] are the only ways to it.
//!
//! SQLite in a file or PostgreSQL, behind one set of queries. Where their SQL must differ, the
//! difference is a function of this folder ([`Tx::lock`], [`search`], [`migrate`]).
//!
//! Every change goes through [`Db::write`], which runs in a task of its own: a client that hangs up
//! drops its handler, and a future dropped inside BEGIN or COMMIT would leave a pooled connection in
//! an unknown state (transact-rs/sqlx#4385). So the effect is whole or absent, whoever is listening.

pub mod connect;
pub mod entities;
pub mod json;
mod keys;
pub mod migrate;
pub mod search;

use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::error::{Error, Result};

/// A handle on the database, cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    readers: DatabaseConnection,
    /// On SQLite a pool of one connection: the one writer. On PostgreSQL the same as `readers`.
    writer: DatabaseConnection,
    clock: Clock,
    writes: Arc<TaskTracker>,
    /// Changes under way and waiting for their turn. Those whose caller hung up count too, which the
    /// limit of calls does not see.
    places: Arc<Semaphore>,
}

/// How many changes may be under way or waiting for their turn.
const WRITES: usize = 2_000;

/// How a piece of work inside [`Db::write`] ends when it does not fail.
pub enum Verdict<T> {
    /// Commit and answer.
    Done(T),
    /// Commit what was written, which is only the record of a refusal, and answer the error.
    Refused(Error),
    /// Roll back and answer: a change that was only to be checked.
    Checked(T),
}

impl Db {
    fn new(readers: DatabaseConnection, writer: DatabaseConnection, clock: Clock) -> Self {
        Self {
            readers,
            writer,
            clock,
            writes: Arc::default(),
            places: Arc::new(Semaphore::new(WRITES)),
        }
    }

    /// A connection for queries that change nothing.
    pub fn read(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Runs `work` in one transaction, exclusive on SQLite (BEGIN IMMEDIATE), READ COMMITTED on
    /// PostgreSQL. An error from `work` rolls everything back.
    ///
    /// `work` may await nothing but its own queries. It runs to its end even if the caller stops
    /// waiting; [`Db::close`] waits for it.
    ///
    /// # Errors
    /// What `work` answers; [`Error::DatabaseUnavailable`] when no connection could be had;
    /// [`Error::ServerOverloaded`] when too many wait already.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Error::ServerOverloaded);
        };
        let db = self.clone();
        let task = self.writes.spawn(async move {
            let _place = place;
            db.transact(work).await
        });
        task.await.map_err(Error::internal)?
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door for changes"
    )]
    async fn transact<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>>,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let tx = Tx {
            inner: self.writer.begin_with_options(options).await?,
            clock: self.clock.clone(),
        };
        match work(&tx).await {
            Ok(Verdict::Done(answer)) => {
                tx.inner.commit().await?;
                Ok(answer)
            }
            Ok(Verdict::Refused(error)) => {
                tx.inner.commit().await?;
                Err(error)
            }
            Ok(Verdict::Checked(answer)) => {
                tx.inner.rollback().await?;
                Ok(answer)
            }
            Err(error) => {
                // The connection may be what failed; the first error is the one to tell.
                let _ = tx.inner.rollback().await;
                Err(error)
            }
        }
    }

    /// Waits for the changes under way and closes every connection.
    pub async fn close(&self) {
        self.writes.close();
        self.writes.wait().await;
        // Errors here mean the connection is gone, which is what was wanted.
        let _ = self.writer.close_by_ref().await;
        let _ = self.readers.close_by_ref().await;
    }

    /// Which of the two databases this is.
    pub fn backend(&self) -> DbBackend {
        self.readers.get_database_backend()
    }
}

/// A transaction that may change things. Queries run on what it dereferences to.
pub struct Tx {
    inner: DatabaseTransaction,
    /// The time and the ids of what is written.
    pub clock: Clock,
}

impl Deref for Tx {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Tx {
    /// Makes everyone else who locks the same `name` wait until this transaction ends. SQLite's one
    /// writer has that by itself.
    pub async fn lock(&self, name: &str) -> Result<(), DbErr> {
        if self.get_database_backend() == DbBackend::Postgres {
            self.query_one_raw(advisory("SELECT pg_advisory_xact_lock($1)", name))
                .await?;
        }
        Ok(())
    }

    /// Like [`Tx::lock`], but says `false` at once where it would have to wait.
    pub async fn try_lock(&self, name: &str) -> Result<bool, DbErr> {
        if self.get_database_backend() != DbBackend::Postgres {
            return Ok(true);
        }
        let row = self
            .query_one_raw(advisory("SELECT pg_try_advisory_xact_lock($1)", name))
            .await?;
        row.map_or(Ok(false), |row| row.try_get_by_index(0))
    }
}

/// PostgreSQL names its advisory locks by 64-bit numbers: the first bits of the name's hash. Two
/// names that share them only wait for each other.
fn advisory(sql: &str, name: &str) -> Statement {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(name.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    Statement::from_sql_and_values(
        DbBackend::Postgres,
        sql,
        [i64::from_be_bytes(number).into()],
    )
}
