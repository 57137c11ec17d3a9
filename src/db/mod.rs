//! The database: [`Db::read`] and [`Db::write`] are the only ways to it.
//!
//! SQLite in a file or PostgreSQL, behind one set of queries. Where their SQL must differ, the
//! difference is a function of this folder ([`Tx::lock`], [`search`], [`migrate`]).
//!
//! Every change goes through [`Db::write`], which runs in a task of its own: a client that hangs up
//! drops its handler, and a future dropped inside BEGIN or COMMIT would leave a pooled connection in
//! an unknown state (transact-rs/sqlx#4385). So the effect is whole or absent, whoever is listening.

pub mod backup;
pub mod connect;
pub mod entities;
mod file;
pub mod hosts;
pub mod json;
mod keys;
mod log;
pub mod migrate;
pub mod pages;
mod place;
pub mod reader;
pub mod rows;
mod scrub;
pub mod search;
pub mod select;
pub mod shared;

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::{ArrayType, Expr, ExprTrait, LockBehavior, LockType, Value};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect, Select, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use pages::{PageReader, Pages};
use reader::Reader;

use crate::clock::Clock;
use crate::error::{Error, Result};

/// A handle on the database, cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    readers: Reader,
    pages: Arc<Pages>,
    /// On SQLite a pool of one connection: the one writer.
    writer: DatabaseConnection,
    clock: Clock,
    writes: Arc<TaskTracker>,
    /// Changes under way and waiting for their turn. Those whose caller hung up count too, which the
    /// limit of calls does not see.
    places: Arc<Semaphore>,
    /// The servers the URL names, on PostgreSQL.
    hosts: Vec<hosts::Host>,
    scrubbing: Arc<scrub::Scrubbing>,
    /// On SQLite.
    file: Option<Arc<file::OpenFile>>,
    /// How long the writer waits for other processes, on SQLite.
    write_wait: Duration,
}

/// How many changes may be under way or waiting for their turn.
const WRITES: usize = 2_000;

/// After how long work whose connection died is done again; each once.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1_000),
];

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
    fn new(
        readers: Reader,
        pages: Arc<Pages>,
        writer: DatabaseConnection,
        hosts: Vec<hosts::Host>,
        file: Option<file::OpenFile>,
        write_wait: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            readers,
            pages,
            hosts,
            writer,
            clock,
            writes: Arc::default(),
            places: Arc::new(Semaphore::new(WRITES)),
            scrubbing: Arc::default(),
            file: file.map(Arc::new),
            write_wait,
        }
    }

    /// Connections for look-ups by a key, which change nothing.
    pub fn read(&self) -> &Reader {
        &self.readers
    }

    /// A connection for a list or a search, of which no principal has more than a share.
    ///
    /// # Errors
    /// [`Error::ServerOverloaded`] when none comes free in time.
    pub async fn pages(&self, principal: Uuid) -> Result<PageReader> {
        self.pages.take(principal).await
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

    async fn transact<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>>,
    {
        let lost = &self.readers.lost;
        lost.unless_given_up(self.transaction(work)).await
    }

    /// [`Db::write`] for work that comes to the same whether it is done once or twice: it is done again
    /// where its connection died, even if that was while it was committed.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_again<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let once = || {
            let work = Arc::clone(&work);
            self.write(move |tx| work(tx))
        };
        for pause in PAUSES {
            match once().await {
                Err(Error::DatabaseLost(_)) => tokio::time::sleep(pause).await,
                written => return written,
            }
        }
        once().await
    }

    /// Waits until everything that was seen before is as safe as [`Tx::settled`] says.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn settled(&self) -> Result<()> {
        if self.backend() != DbBackend::Postgres {
            return Ok(());
        }
        let settle = self.write_again(|tx| {
            Box::pin(async move {
                tx.settled().await?;
                Ok(Verdict::Done(()))
            })
        });
        settle.await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door for changes"
    )]
    async fn transaction<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<Verdict<T>>>,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let noted = |error: DbErr| {
            self.readers.lost.note(&error);
            Error::from(error)
        };
        if let Some(file) = &self.file {
            file.check()?;
        }
        let begun = self.writer.begin_with_options(options).await;
        let tx = Tx {
            inner: begun.map_err(noted)?,
            clock: self.clock.clone(),
        };
        match work(&tx).await {
            Ok(Verdict::Done(answer)) => {
                tx.inner.commit().await.map_err(noted)?;
                Ok(answer)
            }
            Ok(Verdict::Refused(error)) => {
                tx.inner.commit().await.map_err(noted)?;
                Err(error)
            }
            Ok(Verdict::Checked(answer)) => {
                tx.inner.rollback().await.map_err(noted)?;
                Ok(answer)
            }
            Err(error) => {
                if let Error::DatabaseLost(_) = error {
                    self.readers.lost.mark();
                }
                // The connection may be what failed; the first error is the one to tell.
                let _ = tx.inner.rollback().await;
                Err(error)
            }
        }
    }

    /// Runs `task` beside what waits for it; [`Db::close`] waits until it ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.writes.spawn(task);
    }

    /// Waits for the changes under way and closes every connection.
    pub async fn close(&self) {
        self.writes.close();
        self.writes.wait().await;
        // Errors here mean the connection is gone, which is what was wanted.
        let _ = self.writer.close_by_ref().await;
        let _ = self.readers.pool.close_by_ref().await;
        self.pages.close().await;
    }

    /// What says whether the database answers.
    pub fn watch(&self) -> Watch {
        if self.backend() != DbBackend::Postgres {
            return Watch::Sqlite(self.readers.clone(), self.file.clone());
        }
        let pools = [&self.readers.pool, &self.writer];
        let pools = pools.map(|pool| pool.get_postgres_connection_pool().clone());
        let lost = Arc::clone(&self.readers.lost);
        Watch::Postgres(hosts::Watch::new(pools, self.hosts.clone(), lost))
    }

    /// Which of the two databases this is.
    pub fn backend(&self) -> DbBackend {
        self.readers.get_database_backend()
    }
}

/// Says whether the database answers; on PostgreSQL it also keeps to the server that takes changes.
pub enum Watch {
    /// A file.
    Sqlite(Reader, Option<Arc<file::OpenFile>>),
    /// One server or several.
    Postgres(hosts::Watch),
}

impl Watch {
    /// Whether it answers. On SQLite, who finds every connection in use learns nothing by it, and
    /// takes it for a yes.
    pub async fn answers(&mut self) -> bool {
        match self {
            Self::Postgres(watch) => watch.answers().await,
            Self::Sqlite(_, Some(file)) if file.check().is_err() => false,
            Self::Sqlite(reader, _) => {
                let sql = "SELECT count(*) FROM seaql_migrations";
                let asked = Statement::from_string(DbBackend::Sqlite, sql);
                match reader.query_one_raw(asked).await {
                    Ok(_) => true,
                    Err(error) => connect::is_busy(&error),
                }
            }
        }
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

/// Whether a transaction waits for what others have locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It leaves that out.
    None,
    /// It waits.
    Waits,
}

impl Patience {
    /// Locks what `select` finds. Not FOR UPDATE: rows that refer to these may go on being written.
    pub fn lock<E: EntityTrait>(self, select: Select<E>) -> Select<E> {
        match self {
            Self::None => {
                select.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked)
            }
            Self::Waits => select.lock(LockType::NoKeyUpdate),
        }
    }
}

impl Tx {
    /// The time now by a clock that all replicas share: that of PostgreSQL. Beside SQLite there is
    /// one machine, and its clock is the server's own.
    pub async fn time(&self) -> Result<DateTime<Utc>, DbErr> {
        if self.get_database_backend() != DbBackend::Postgres {
            return Ok(self.clock.now());
        }
        let sql = "SELECT clock_timestamp()";
        let row = self.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
        let missing = || DbErr::RecordNotFound("the time".to_owned());
        let time: DateTime<Utc> = row.await?.ok_or_else(missing)?.try_get_by_index(0)?;
        Ok(self.clock.passed_since(time))
    }

    /// Makes everyone else who locks the same `name` wait until this transaction ends. SQLite's one
    /// writer has that by itself.
    pub async fn lock(&self, name: &str) -> Result<(), DbErr> {
        self.lock_all(vec![name.to_owned()], Patience::Waits)
            .await?;
        Ok(())
    }

    /// Has the commit of this transaction wait until everything that it sees is as safe as a commit
    /// that was answered. PostgreSQL shows a change that its standby does not have yet where the wait
    /// for the standby was cut off: by a restart, or when its connection was ended. Who answers by such
    /// a change, without one of their own, would answer what a failover may lose.
    pub async fn settled(&self) -> Result<(), DbErr> {
        if self.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        // A commit is answered when the standby has all that was written before it; one that writes
        // nothing is answered at once.
        let sql = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' \
                   THEN pg_logical_emit_message(TRUE, 'leadsmith', '') END";
        self.query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await?;
        Ok(())
    }

    /// Locks many names in the order of their numbers, so that no two that do wait for each other.
    /// Says of each whether it was had.
    pub async fn lock_all(
        &self,
        names: Vec<String>,
        patience: Patience,
    ) -> Result<Vec<bool>, DbErr> {
        if names.is_empty() || self.get_database_backend() != DbBackend::Postgres {
            return Ok(vec![true; names.len()]);
        }
        let mut numbers: Vec<i64> = names.iter().map(|name| lock_number(name)).collect();
        let asked = numbers.clone();
        numbers.sort_unstable();
        let sql = match patience {
            Patience::None => {
                "SELECT v, pg_try_advisory_xact_lock(v) FROM unnest($1::bigint[]) AS v"
            }
            Patience::Waits => {
                "SELECT v, pg_advisory_xact_lock(v) IS NOT NULL FROM unnest($1::bigint[]) AS v"
            }
        };
        let numbers = numbers.into_iter().map(Value::from).collect();
        let array = Value::Array(ArrayType::BigInt, Some(Box::new(numbers)));
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [array]);
        let mut had = HashMap::new();
        for row in self.query_all_raw(statement).await? {
            let (number, got): (i64, bool) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            had.insert(number, got);
        }
        let had = asked
            .iter()
            .map(|number| had.get(number).copied().unwrap_or(false));
        Ok(had.collect())
    }
}

/// Records that nobody else can change until the transaction ends, and which of these ids somebody
/// else holds: with patience, none. What there is not is in neither.
pub async fn hold<E: EntityTrait, T>(
    tx: &Tx,
    id: E::Column,
    ids: BTreeSet<Uuid>,
    patience: Patience,
    record: fn(E::Model) -> Result<T>,
) -> Result<(Vec<T>, BTreeSet<Uuid>)>
where
    T: crate::changes::draft::Versioned,
{
    if ids.is_empty() {
        return Ok((Vec::new(), ids));
    }
    let select = E::find().filter(any_of(Expr::col(id), ids.iter().copied().collect()));
    let held = patience.lock(select.order_by_asc(id)).all(&**tx).await?;
    let held: Vec<T> = held.into_iter().map(record).collect::<Result<_>>()?;
    let mut missing = ids;
    for record in &held {
        missing.remove(&record.id());
    }
    Ok((held, there::<E>(tx, id, missing).await?))
}

/// Which of these ids there are.
pub async fn there<E: EntityTrait>(
    tx: &Tx,
    id: E::Column,
    ids: BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let select = E::find().select_only().column(id);
    let found = select.filter(any_of(Expr::col(id), ids.into_iter().collect()));
    let found: Vec<Uuid> = found.into_tuple().all(&**tx).await?;
    Ok(found.into_iter().collect())
}

/// PostgreSQL names its advisory locks by 64-bit numbers: the first bits of the name's hash. Two
/// names that share them only wait for each other.
pub fn lock_number(name: &str) -> i64 {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(name.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(number)
}

/// Whether `column` is one of `ids`, in few shapes of SQL however many there are. No array on
/// PostgreSQL either: it would plan the statement anew for every length of it.
pub fn any_of(column: Expr, ids: Vec<Uuid>) -> Expr {
    let places = rows::places(ids.len());
    // A list that is too short names its last once more, and once more.
    let last = ids.last().copied().into_iter().cycle();
    let ids: Vec<Uuid> = ids.iter().copied().chain(last).take(places).collect();
    column.is_in(ids)
}

/// A table `v` of one column `v` with these texts, and its parameters.
pub fn texts(backend: DbBackend, texts: Vec<String>) -> (String, Vec<Value>) {
    let values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    if backend == DbBackend::Postgres {
        let array = Value::Array(ArrayType::String, Some(Box::new(values)));
        return ("unnest($1::text[]) AS v(v)".to_owned(), vec![array]);
    }
    let places = rows::places(values.len());
    let last = values.last().cloned().into_iter().cycle();
    let values: Vec<Value> = values.iter().cloned().chain(last).take(places).collect();
    let places = vec!["(?)"; places].join(", ");
    // UNION drops those that were only named once more.
    (
        format!("(SELECT column1 AS v FROM (VALUES {places}) UNION SELECT NULL) AS v"),
        values,
    )
}
