//! A write transaction and its locks.
//!
//! A transaction locks rows ([`lock`]) and names that have no row ([`Tx::lock`]). SQLite needs neither: it has
//! one writer. This module is independent of the records that are locked; `commit/` decides what to lock and in
//! which order.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{ArrayType, Expr, IntoCondition, LockBehavior, LockType, Value};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Statement,
};
use uuid::Uuid;

use super::sql_lists::any_of;
use crate::core::clock::Clock;
use crate::error::Result;

/// A write transaction. It dereferences to the connection that queries run on.
pub struct Tx {
    pub(super) inner: DatabaseTransaction,
    /// The source of the timestamps and ids of what is written.
    pub clock: Clock,
}

impl Deref for Tx {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// What a transaction does when another one holds a lock that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// It skips what is locked.
    SkipLocked,
    /// It waits for the lock.
    Block,
}

impl LockWait {
    /// Adds a lock on the rows that `select` returns. It is weaker than FOR UPDATE, so that rows
    /// that reference these can still be written.
    pub fn lock<E: EntityTrait>(self, select: Select<E>) -> Select<E> {
        match self {
            Self::SkipLocked => {
                select.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked)
            }
            Self::Block => select.lock(LockType::NoKeyUpdate),
        }
    }
}

impl Tx {
    /// The current time from a clock that all replicas share: that of PostgreSQL. With SQLite there
    /// is only one machine, so its own clock is used.
    pub async fn time(&self) -> Result<DateTime<Utc>, DbErr> {
        time(&self.inner, &self.clock).await
    }

    /// Locks `name` until this transaction ends. Other transactions that lock the same name wait.
    /// On SQLite this does nothing: its single writer excludes all others.
    pub async fn lock(&self, name: &str) -> Result<(), DbErr> {
        self.lock_all(vec![name.to_owned()], LockWait::Block)
            .await?;
        Ok(())
    }

    /// Makes the commit of this transaction wait until everything that it has read is as durable as
    /// an acknowledged commit.
    ///
    /// PostgreSQL can show a change that its standby does not have yet, when the wait for the
    /// standby was interrupted by a restart or by the end of its connection. A response that
    /// depends on such a change, without a change of its own, would report something that a
    /// failover can lose.
    pub async fn replication_barrier(&self) -> Result<(), DbErr> {
        if self.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        // A commit is acknowledged when the standby has everything that was written before it. A
        // commit that writes nothing is acknowledged at once.
        let sql = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' \
                   THEN pg_logical_emit_message(TRUE, 'leadsmith', '') END";
        self.query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await?;
        Ok(())
    }

    /// Locks several names, in the order of their lock numbers so that two callers cannot deadlock.
    /// Returns for each name whether it was locked.
    pub async fn lock_all(&self, names: Vec<String>, wait: LockWait) -> Result<Vec<bool>, DbErr> {
        if names.is_empty() || self.get_database_backend() != DbBackend::Postgres {
            return Ok(vec![true; names.len()]);
        }
        let mut numbers: Vec<i64> = names.iter().map(|name| lock_number(name)).collect();
        let requested = numbers.clone();
        numbers.sort_unstable();
        let sql = match wait {
            LockWait::SkipLocked => {
                "SELECT v, pg_try_advisory_xact_lock(v) FROM unnest($1::bigint[]) AS v"
            }
            LockWait::Block => {
                "SELECT v, pg_advisory_xact_lock(v) IS NOT NULL FROM unnest($1::bigint[]) AS v"
            }
        };
        let numbers = numbers.into_iter().map(Value::from).collect();
        let array = Value::Array(ArrayType::BigInt, Some(Box::new(numbers)));
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [array]);
        let mut acquired = HashMap::new();
        for row in self.query_all_raw(statement).await? {
            let (number, is_acquired): (i64, bool) =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            acquired.insert(number, is_acquired);
        }
        let acquired = requested
            .iter()
            .map(|number| acquired.get(number).copied().unwrap_or(false));
        Ok(acquired.collect())
    }
}

/// The current time; see [`Tx::time`].
pub(super) async fn time(db: &impl ConnectionTrait, clock: &Clock) -> Result<DateTime<Utc>, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(clock.now());
    }
    let sql = "SELECT clock_timestamp()";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
    let missing = || DbErr::RecordNotFound("the time".to_owned());
    let time: DateTime<Utc> = row.await?.ok_or_else(missing)?.try_get_by_index(0)?;
    Ok(clock.passed_since(time))
}

/// The result of [`lock`].
pub struct Locked<T> {
    /// The locked records. No other transaction can change them until this one ends.
    pub records: Vec<T>,
    /// The ids of records that another transaction has locked; always empty with
    /// [`LockWait::Block`]. An id that does not exist is in neither field.
    pub busy: BTreeSet<Uuid>,
}

impl<T> Default for Locked<T> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            busy: BTreeSet::new(),
        }
    }
}

/// Locks records by their ids, in the order of the ids.
pub async fn lock<E: EntityTrait, T>(
    tx: &Tx,
    id: E::Column,
    ids: BTreeSet<Uuid>,
    wait: LockWait,
    record: fn(E::Model) -> Result<T>,
    id_of: fn(&T) -> Uuid,
) -> Result<Locked<T>> {
    if ids.is_empty() {
        return Ok(Locked::default());
    }
    let select = E::find().filter(any_of(Expr::col(id), ids.iter().copied().collect()));
    let locked = wait.lock(select.order_by_asc(id)).all(&**tx).await?;
    let records: Vec<T> = locked.into_iter().map(record).collect::<Result<_>>()?;
    let mut missing = ids;
    for record in &records {
        missing.remove(&id_of(record));
    }
    let busy = existing_ids::<E>(tx, id, missing).await?;
    Ok(Locked { records, busy })
}

/// The subset of `ids` that exists.
pub async fn existing_ids<E: EntityTrait>(
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

/// The ids of the rows for which `condition` holds.
pub async fn ids_where<E: EntityTrait>(
    tx: &Tx,
    id: E::Column,
    condition: impl IntoCondition,
) -> Result<BTreeSet<Uuid>> {
    let select = E::find().select_only().column(id).filter(condition);
    let found: Vec<Uuid> = select.into_tuple().all(&**tx).await?;
    Ok(found.into_iter().collect())
}

/// The number of an advisory lock. PostgreSQL identifies them by 64-bit numbers, so this is the
/// start of the name's hash. Two names with the same number only wait for each other.
pub fn lock_number(name: &str) -> i64 {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(name.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(number)
}
