//! Decides whether the server's clock can be trusted for deletions.
//!
//! A clock that runs ahead for a moment would delete recent data, and a request id that is deleted too early lets
//! a retry make its change twice. So nothing is deleted while the clock differs from PostgreSQL's. Nothing is
//! deleted either for an hour after the clock was set, or after the server started on a database that does not
//! confirm its time. Keeping data for an hour longer does no harm.
//!
//! This module never deletes or changes anything.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement,
};

use crate::auth::SESSION_LIFETIME;
use crate::core::clock::Clock;
use crate::db::Db;
use crate::db::entities::{event, idempotency_record, session};
use crate::error::{Error, Result};

/// The maximum difference between two clocks that are both considered correct.
pub const MAX_CLOCK_SKEW: Duration = Duration::minutes(1);
/// How long a clock must run steadily before it is trusted, if nothing else confirms it. A row that was written
/// within this time before the start confirms it at once.
const PROBATION: Duration = Duration::hours(1);

/// The history of the clock since the start of the server.
pub struct ClockTrust {
    /// The time and the uptime at the last check.
    last: (DateTime<Utc>, Duration),
    /// The uptime from which the clock is trusted.
    from: Duration,
}

impl ClockTrust {
    /// Must be called at the start of the server, before anything is written.
    pub async fn begin(db: &Db, clock: &Clock) -> Self {
        let last = (clock.now(), clock.uptime());
        let confirmed = is_confirmed(db, last.0).await.unwrap_or(false);
        let wait = match confirmed {
            true => Duration::zero(),
            false => PROBATION,
        };
        Self {
            last,
            from: last.1 + wait,
        }
    }

    /// Whether the clock can be trusted now.
    pub async fn check(&mut self, db: &Db, clock: &Clock) -> Result<bool> {
        let (now, uptime) = (clock.now(), clock.uptime());
        let leap = (now - self.last.0) - (uptime - self.last.1);
        self.last = (now, uptime);
        if leap.abs() > MAX_CLOCK_SKEW {
            self.from = uptime + PROBATION;
            tracing::warn!(
                seconds = leap.num_seconds(),
                "the clock was set: retention pauses for an hour"
            );
        }
        Ok(uptime >= self.from && agrees_with_the_database(db, clock, now).await?)
    }
}

/// Whether a row was written shortly before `now`. If so, the clock agrees with the server that wrote it.
async fn is_confirmed(db: &Db, now: DateTime<Utc>) -> Result<bool> {
    let (from, to) = (now - PROBATION, now + MAX_CLOCK_SKEW);
    let db = db.read();
    let created = idempotency_record::Column::CreateTime;
    let request = idempotency_record::Entity::find()
        .select_only()
        .column(created)
        .filter(created.between(from, to))
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    let expires = session::Column::ExpireTime;
    let session = session::Entity::find()
        .select_only()
        .column(expires)
        .filter(expires.between(from + SESSION_LIFETIME, to + SESSION_LIFETIME))
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    let last = event::Entity::find()
        .select_only()
        .column(event::Column::Time)
        .order_by_desc(event::Column::Seq)
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    Ok(request.one(db).await?.is_some()
        || session.one(db).await?.is_some()
        || last
            .one(db)
            .await?
            .is_some_and(|time| (from..=to).contains(&time)))
}

/// Always true on SQLite, which has no clock of its own.
async fn agrees_with_the_database(db: &Db, clock: &Clock, now: DateTime<Utc>) -> Result<bool> {
    let db = db.read();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT clock_timestamp()");
    let row = db.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("the database does not tell the time"))?;
    let theirs: DateTime<Utc> = row.try_get_by_index(0)?;
    let ahead = now - clock.passed_since(theirs);
    if ahead.abs() > MAX_CLOCK_SKEW {
        tracing::warn!(
            seconds = ahead.num_seconds(),
            "the clock of this server differs from that of the database: retention pauses until they agree"
        );
        return Ok(false);
    }
    Ok(true)
}
