//! Deletes expired data: stored responses to request ids, expired sessions, password attempts that no longer
//! count, and old events. It also triggers the removal of erased data that an erasure could not remove from the
//! database's files at once.
//!
//! Every replica runs this job, but only one works at a time: each batch is a transaction that acquires a lock
//! or does nothing. Batches are small, with a pause between them, so that writers are not delayed for long.
//!
//! The job deletes only while the server's clock can be trusted (`clock_trust`), because a deletion by a clock
//! that runs ahead cannot be undone. Rows with a time in the future, which such a clock wrote, get the current
//! time, so that they are kept as long as all others, and not until that future time has passed.
//!
//! This job must not depend on a feature: it deletes rows by their age only.

mod clock_trust;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use sea_orm::sea_query::{DeleteStatement, Expr, ExprTrait, LockBehavior, LockType, Order, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IdenStatic, Iterable, QueryFilter};
use tokio_util::task::AbortOnDropHandle;

use clock_trust::{ClockTrust, MAX_CLOCK_SKEW};

use crate::auth::SESSION_LIFETIME;
use crate::auth::attempts::WINDOW;
use crate::config::Limits;
use crate::core::clock::Clock;
use crate::db::entities::{idempotency_record, password_attempt, session};
use crate::db::{Db, LockWait, Tx, Verdict, event_log};
use crate::error::{Error, Result};

/// The maximum number of rows that one transaction deletes.
const BATCH_ROWS: u64 = 1_000;
/// The pause between two transactions, in which other writers can proceed.
const BATCH_PAUSE: Duration = Duration::from_millis(100);
/// The name of the lock that the deleting replica holds.
const LOCK: &str = "retention";

/// How long data is kept, and how often it is checked.
#[derive(Clone, Debug)]
pub struct RetentionPolicy {
    request_ids: chrono::Duration,
    /// None if events are kept forever.
    events: Option<chrono::Duration>,
    interval: Duration,
}

impl RetentionPolicy {
    /// The policy that the settings define.
    pub fn new(limits: &Limits) -> Self {
        let days = i64::from(limits.keep_events);
        Self {
            request_ids: chrono::Duration::hours(limits.keep_request_ids.into()),
            events: (days > 0).then(|| chrono::Duration::days(days)),
            interval: limits.retention_interval,
        }
    }
}

/// Runs the job until the handle is dropped. A batch that is running at that moment still finishes.
pub async fn start(db: Db, clock: Clock, policy: RetentionPolicy) -> AbortOnDropHandle<()> {
    // Before the first call, because calls write rows with the time of the clock that is being checked.
    let mut trust = ClockTrust::begin(&db, &clock).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(jittered(policy.interval)).await;
            db.scrub_if_pending().await;
            let run = async {
                if trust.check(&db, &clock).await? {
                    let stats = purge(&db, &clock, &policy).await?;
                    stats.log();
                    stats.count(&db, clock.now());
                }
                Ok::<(), Error>(())
            };
            // A panic, which is logged where it happens, ends this run and not the job.
            if let Ok(Err(error)) = AssertUnwindSafe(run).catch_unwind().await {
                db.metrics().retention_failures.inc();
                tracing::warn!(error = error.detail(), "expired data is not deleted yet");
            }
        }
    }))
}

/// A random duration from 0.5 to 1.5 times the interval, so that replicas that start together do not run together.
fn jittered(interval: Duration) -> Duration {
    let random = u32::from(crate::core::clock::random_256_bits()[0]);
    interval / 2 + interval * random / 255
}

/// The number of deleted rows.
#[derive(Debug, Default)]
struct PurgeStats {
    request_ids: u64,
    sessions: u64,
    password_attempts: u64,
    events: u64,
}

impl PurgeStats {
    fn count(&self, db: &Db, now: DateTime<Utc>) {
        let metrics = db.metrics();
        for (table, rows) in [
            ("idempotency_records", self.request_ids),
            ("sessions", self.sessions),
            ("password_attempts", self.password_attempts),
            ("events", self.events),
        ] {
            let deleted = metrics.retention_deleted.with_label_values(&[table]);
            deleted.inc_by(rows);
        }
        metrics.retention_last_success.set(now.timestamp());
    }

    fn log(&self) {
        if self.request_ids + self.sessions + self.password_attempts + self.events > 0 {
            tracing::info!(
                request_ids = self.request_ids,
                sessions = self.sessions,
                password_attempts = self.password_attempts,
                events = self.events,
                "deleted expired data"
            );
        }
    }
}

async fn purge(db: &Db, clock: &Clock, policy: &RetentionPolicy) -> Result<PurgeStats> {
    let now = clock.now();
    clamp_future_times(db, now).await?;
    let mut stats = PurgeStats::default();
    // None if the result is before the earliest representable time: then no row is that old.
    if let Some(time) = now.checked_sub_signed(policy.request_ids) {
        let column = idempotency_record::Column::CreateTime;
        stats.request_ids = delete_in_batches(db, move || {
            oldest::<idempotency_record::Entity>(column, time)
        })
        .await?;
    }
    let column = session::Column::ExpireTime;
    stats.sessions = delete_in_batches(db, move || oldest::<session::Entity>(column, now)).await?;
    let column = password_attempt::Column::ExpireTime;
    stats.password_attempts =
        delete_in_batches(db, move || oldest::<password_attempt::Entity>(column, now)).await?;
    let events = policy.events.and_then(|age| now.checked_sub_signed(age));
    if let Some(time) = events {
        let latest = now + MAX_CLOCK_SKEW;
        while let Some(last) = event_log::last_event_before(db, time, latest).await? {
            let deleted = delete_events(db, last).await?;
            stats.events += deleted;
            if deleted == 0 {
                // Another replica holds the lock, or a transaction is running that is as old as these events.
                break;
            }
        }
    }
    Ok(stats)
}

/// Sets times in the future to the current time. Such rows are few, because a clock runs ahead only briefly.
async fn clamp_future_times(db: &Db, now: DateTime<Utc>) -> Result<()> {
    let latest = now + MAX_CLOCK_SKEW;
    db.write(move |tx| {
        Box::pin(async move {
            if !try_lock(tx).await? {
                return Ok(Verdict::Done(()));
            }
            let created = idempotency_record::Column::CreateTime;
            idempotency_record::Entity::update_many()
                .col_expr(created, Expr::value(now))
                .filter(created.gt(latest))
                .exec(&**tx)
                .await?;
            let expires = session::Column::ExpireTime;
            session::Entity::update_many()
                .col_expr(expires, Expr::value(now + SESSION_LIFETIME))
                .filter(expires.gt(latest + SESSION_LIFETIME))
                .exec(&**tx)
                .await?;
            let expires = password_attempt::Column::ExpireTime;
            password_attempt::Entity::update_many()
                .col_expr(expires, Expr::value(now + WINDOW))
                .filter(expires.gt(latest + WINDOW))
                .exec(&**tx)
                .await?;
            Ok(Verdict::Done(()))
        })
    })
    .await
}

/// Deletes batches until no row is left, or another replica holds the lock.
async fn delete_in_batches(db: &Db, batch: impl Fn() -> DeleteStatement) -> Result<u64> {
    repeat(|| {
        let statement = batch();
        db.write(move |tx| Box::pin(async move { delete(tx, &statement).await }))
    })
    .await
}

/// Deletes the events up to this one, as [`delete_in_batches`].
async fn delete_events(db: &Db, last: i64) -> Result<u64> {
    repeat(|| {
        db.write(move |tx| {
            Box::pin(async move {
                if !try_lock(tx).await? {
                    return Ok(Verdict::Done(0));
                }
                let deleted = event_log::delete_first(tx, last, BATCH_ROWS).await?;
                Ok(Verdict::Done(deleted))
            })
        })
    })
    .await
}

/// Runs batches, which return how many rows they have deleted, until one is not full.
async fn repeat<F: Future<Output = Result<u64>>>(batch: impl Fn() -> F) -> Result<u64> {
    let mut total = 0;
    loop {
        let deleted = batch().await?;
        total += deleted;
        if deleted < BATCH_ROWS {
            return Ok(total);
        }
        tokio::time::sleep(BATCH_PAUSE).await;
    }
}

/// Acquires the lock of this job until `tx` ends. False if another replica holds it.
async fn try_lock(tx: &Tx) -> Result<bool> {
    let acquired = tx
        .lock_all(vec![LOCK.to_owned()], LockWait::SkipLocked)
        .await?;
    Ok(acquired.contains(&true))
}

async fn delete(tx: &Tx, statement: &DeleteStatement) -> Result<Verdict<u64>> {
    if !try_lock(tx).await? {
        return Ok(Verdict::Done(0));
    }
    let deleted = tx.execute(statement).await?;
    Ok(Verdict::Done(deleted.rows_affected()))
}

/// Deletes one batch of the rows whose `column` is before `time`, the oldest first. A row that is locked by
/// another transaction is left for the next run.
fn oldest<E: EntityTrait>(column: E::Column, time: DateTime<Utc>) -> DeleteStatement {
    let keys = || E::PrimaryKey::iter().map(|key| sea_orm::sea_query::Alias::new(key.as_str()));
    let found = Query::select()
        .columns(keys())
        .from(E::default())
        .and_where(Expr::col(column).lt(time))
        .order_by(column, Order::Asc)
        .limit(BATCH_ROWS)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .take();
    Query::delete()
        .from_table(E::default())
        .and_where(Expr::tuple(keys().map(Expr::col)).in_subquery(found))
        .take()
}
