//! Deletes what was kept long enough: answers kept for repeats, sessions that ended, password attempts
//! that count no more, and events. And has removed from the database's files what an erasure could not
//! remove at once.
//!
//! Every replica has this job, and one at a time works at it: each batch is a transaction that takes a
//! lock or goes away. A batch is small and the next one waits a moment, so that nobody who writes is
//! held up for long.
//!
//! It works only while the server's clock is one to go by (`trust`), because what a clock that runs
//! ahead would have deleted is gone. What such a clock stamped gets the current time, so that it is
//! kept for as long as anything else, not until that time comes.

mod trust;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use sea_orm::sea_query::{DeleteStatement, Expr, ExprTrait, LockBehavior, LockType, Order, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IdenStatic, Iterable, QueryFilter, QueryOrder,
    QuerySelect,
};
use tokio_util::task::AbortOnDropHandle;

use trust::Trust;

use crate::auth::SESSION;
use crate::auth::attempts::WINDOW;
use crate::changes::desk::Desk;
use crate::config::Limits;
use crate::db::entities::{event, idempotency_record, password_attempt, session};
use crate::db::{Db, Patience, Tx, Verdict};
use crate::error::{Error, Result};

/// How many rows one transaction deletes.
const TOGETHER: u64 = 1_000;
/// How many events are looked at together, for how old they are.
const LOOKED_AT: u64 = 10_000;
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
pub async fn start(desk: &Arc<Desk>, keep: Keep) -> AbortOnDropHandle<()> {
    let desk = Arc::clone(desk);
    // Before the first call: what calls write is stamped by the clock that is in question.
    let mut trust = Trust::begin(&desk).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(around(keep.interval)).await;
            desk.db.scrub_if_owed().await;
            let round = async {
                if trust.is_had(&desk).await? {
                    round(&desk, &keep).await?.tell();
                }
                Ok::<(), Error>(())
            };
            // A panic, which is logged where it happens, ends the round and not the job.
            if let Ok(Err(error)) = AssertUnwindSafe(round).catch_unwind().await {
                tracing::warn!(?error, "what was kept long enough is not deleted yet");
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
    clamp(db, now).await?;
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
        while let Some(last) = last_event(db, time, now).await? {
            let deleted = all(db, move || first_events(last)).await?;
            gone.events += deleted;
            if deleted == 0 {
                // Another replica is at it.
                break;
            }
        }
    }
    Ok(gone)
}

/// Gives rows that a clock stamped ahead the current time. Such rows are few: those of a moment.
async fn clamp(db: &Db, now: DateTime<Utc>) -> Result<()> {
    let latest = now + trust::CLOCKS_DIFFER;
    db.write(move |tx| {
        Box::pin(async move {
            if !is_ours(tx).await? {
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
                .col_expr(expires, Expr::value(now + SESSION))
                .filter(expires.gt(latest + SESSION))
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

/// Whether no other replica is at it, until `tx` ends.
async fn is_ours(tx: &Tx) -> Result<bool> {
    let had = tx.lock_all(vec![LOCK.to_owned()], Patience::None).await?;
    Ok(had.contains(&true))
}

async fn delete(tx: &Tx, statement: &DeleteStatement) -> Result<Verdict<u64>> {
    if !is_ours(tx).await? {
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

/// The last event from before `time`, as far as can be seen from the first events. They are in the
/// order in which they were written, so every one before it is as old, whatever time it shows; and no
/// index by time is needed. Events that show a time to come say nothing about those behind them.
async fn last_event(db: &Db, time: DateTime<Utc>, now: DateTime<Utc>) -> Result<Option<i64>> {
    let mut behind = 0;
    loop {
        let events: Vec<(i64, DateTime<Utc>)> = event::Entity::find()
            .select_only()
            .columns([event::Column::Seq, event::Column::Time])
            .filter(event::Column::Seq.gt(behind))
            .order_by_asc(event::Column::Seq)
            .limit(LOOKED_AT)
            .into_tuple()
            .all(db.read())
            .await?;
        let old = events.iter().rev().find(|(_, shown)| *shown < time);
        if let Some((seq, _)) = old {
            return Ok(Some(*seq));
        }
        let to_come = |(_, shown): &(i64, DateTime<Utc>)| *shown > now + trust::CLOCKS_DIFFER;
        match events.last() {
            Some((last, _)) if events.iter().all(to_come) => behind = *last,
            _ => return Ok(None),
        }
    }
}

/// The first events up to this one.
fn first_events(last: i64) -> DeleteStatement {
    let first = Query::select()
        .column(event::Column::Seq)
        .from(event::Entity)
        .and_where(Expr::col(event::Column::Seq).lte(last))
        .order_by(event::Column::Seq, Order::Asc)
        .limit(TOGETHER)
        .take();
    Query::delete()
        .from_table(event::Entity)
        .and_where(Expr::col(event::Column::Seq).in_subquery(first))
        .take()
}
