//! Deletes what was kept long enough: answers kept for repeats, sessions that ended, password attempts
//! that count no more, and events, if somebody said how long those are wanted. And has removed from the
//! database's files what an erasure could not remove at once.
//!
//! Every replica has this job, and one at a time works at it: each batch is a transaction that takes a
//! lock or goes away. A batch is small and the next one waits a moment, so that nobody who writes is
//! held up for long.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{DeleteStatement, Expr, ExprTrait, LockBehavior, LockType, Order, Query};
use sea_orm::{ConnectionTrait, EntityTrait, IdenStatic, Iterable};
use tokio_util::task::AbortOnDropHandle;

use crate::changes::desk::Desk;
use crate::config::Limits;
use crate::db::entities::{event, idempotency_record, password_attempt, session};
use crate::db::{Db, Patience, Tx, Verdict};
use crate::error::Result;

/// How many rows one transaction deletes.
const TOGETHER: u64 = 1_000;
/// How long writers have the database to themselves between two transactions.
const PAUSE: Duration = Duration::from_millis(100);
/// Held by whoever deletes.
const LOCK: &str = "retention";

/// What is kept for how long.
#[derive(Clone, Debug)]
pub struct Keep {
    request_ids: chrono::Duration,
    /// None for ever.
    events: Option<chrono::Duration>,
    interval: Duration,
}

impl Keep {
    /// As the settings say.
    pub fn new(limits: &Limits) -> Self {
        let days = i64::from(limits.keep_events);
        Self {
            request_ids: chrono::Duration::hours(limits.keep_request_ids.into()),
            events: (days > 0).then(|| chrono::Duration::days(days)),
            interval: limits.retention_interval,
        }
    }
}

/// Works until the handle is dropped. A batch that is under way then comes to its end all the same.
pub fn start(desk: &Arc<Desk>, keep: Keep) -> AbortOnDropHandle<()> {
    let desk = Arc::clone(desk);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(around(keep.interval)).await;
            desk.db.scrub_if_owed().await;
            match round(&desk, &keep).await {
                Ok(gone) => gone.tell(),
                Err(error) => {
                    tracing::warn!(?error, "what was kept long enough is not deleted yet")
                }
            }
        }
    }))
}

/// From half to one and a half of it, so that replicas that start together do not work together.
fn around(interval: Duration) -> Duration {
    let random = u32::from(crate::clock::random_256_bits()[0]);
    interval / 2 + interval * random / 255
}

/// How much was deleted.
#[derive(Debug, Default)]
struct Gone {
    request_ids: u64,
    sessions: u64,
    password_attempts: u64,
    events: u64,
}

impl Gone {
    fn tell(&self) {
        if self.request_ids + self.sessions + self.password_attempts + self.events > 0 {
            tracing::info!(
                request_ids = self.request_ids,
                sessions = self.sessions,
                password_attempts = self.password_attempts,
                events = self.events,
                "deleted what was kept long enough"
            );
        }
    }
}

async fn round(desk: &Desk, keep: &Keep) -> Result<Gone> {
    let now = desk.clock.now();
    let db = &desk.db;
    let mut gone = Gone::default();
    // A time before the first that can be written down: then nothing is that old.
    if let Some(time) = now.checked_sub_signed(keep.request_ids) {
        let column = idempotency_record::Column::CreateTime;
        gone.request_ids = all(db, move || {
            oldest::<idempotency_record::Entity>(column, time)
        })
        .await?;
    }
    let column = session::Column::ExpireTime;
    gone.sessions = all(db, move || oldest::<session::Entity>(column, now)).await?;
    let column = password_attempt::Column::ExpireTime;
    gone.password_attempts =
        all(db, move || oldest::<password_attempt::Entity>(column, now)).await?;
    let events = keep.events.and_then(|keep| now.checked_sub_signed(keep));
    if let Some(time) = events {
        gone.events = all(db, move || first_events(time)).await?;
    }
    Ok(gone)
}

/// Deletes batch after batch until nothing is left, or another replica is at it.
async fn all(db: &Db, batch: impl Fn() -> DeleteStatement) -> Result<u64> {
    let mut gone = 0;
    loop {
        let statement = batch();
        let deleted = db
            .write(move |tx| Box::pin(async move { delete(tx, &statement).await }))
            .await?;
        gone += deleted;
        if deleted < TOGETHER {
            return Ok(gone);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn delete(tx: &Tx, statement: &DeleteStatement) -> Result<Verdict<u64>> {
    let had = tx.lock_all(vec![LOCK.to_owned()], Patience::None).await?;
    if !had.contains(&true) {
        return Ok(Verdict::Done(0));
    }
    let deleted = tx.execute(statement).await?;
    Ok(Verdict::Done(deleted.rows_affected()))
}

/// The rows of a table whose `column` is before `time`, the oldest first. One that somebody works
/// with is left for the next time.
fn oldest<E: EntityTrait>(column: E::Column, time: DateTime<Utc>) -> DeleteStatement {
    let keys = || E::PrimaryKey::iter().map(|key| sea_orm::sea_query::Alias::new(key.as_str()));
    let found = Query::select()
        .columns(keys())
        .from(E::default())
        .and_where(Expr::col(column).lt(time))
        .order_by(column, Order::Asc)
        .limit(TOGETHER)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .take();
    Query::delete()
        .from_table(E::default())
        .and_where(Expr::tuple(keys().map(Expr::col)).in_subquery(found))
        .take()
}

/// The first events, as far as they are from before `time`. Events are in the order of their times,
/// but for what clocks differ by, so no index by time is needed.
fn first_events(time: DateTime<Utc>) -> DeleteStatement {
    let first = Query::select()
        .column(event::Column::Seq)
        .from(event::Entity)
        .order_by(event::Column::Seq, Order::Asc)
        .limit(TOGETHER)
        .take();
    Query::delete()
        .from_table(event::Entity)
        .and_where(Expr::col(event::Column::Seq).in_subquery(first))
        .and_where(Expr::col(event::Column::Time).lt(time))
        .take()
}
