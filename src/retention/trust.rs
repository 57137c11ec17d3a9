//! Whether the server's clock is one to delete by.
//!
//! A clock that ran ahead for a moment would delete what is young, and a request id that is deleted too
//! early lets a repeat make its change twice. So nothing is deleted while the clock differs from
//! PostgreSQL's, nor for an hour after the clock was set or the server started on a database that it
//! cannot tell the time by: to keep something for an hour longer harms nobody.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement,
};

use crate::auth::SESSION;
use crate::changes::desk::Desk;
use crate::db::entities::{event, idempotency_record, session};
use crate::error::{Error, Result};

/// By how much two clocks may differ that both are right.
pub const CLOCKS_DIFFER: Duration = Duration::minutes(1);
/// How long a clock has to go on steadily until it is trusted, where nothing else confirms it. What was
/// written within this time before the start does.
const CONFIRMED_AFTER: Duration = Duration::hours(1);

/// How the clock has gone on so far.
pub struct Trust {
    /// What it showed last, and how long the server had been running then.
    last: (DateTime<Utc>, Duration),
    /// From which time of the server's running it is trusted.
    from: Duration,
}

impl Trust {
    /// At the start, before anything is written.
    pub async fn begin(desk: &Desk) -> Self {
        let last = (desk.clock.now(), desk.clock.uptime());
        let confirmed = is_confirmed(desk, last.0).await.unwrap_or(false);
        let wait = match confirmed {
            true => Duration::zero(),
            false => CONFIRMED_AFTER,
        };
        Self {
            last,
            from: last.1 + wait,
        }
    }

    /// Whether the clock can be gone by now.
    pub async fn is_had(&mut self, desk: &Desk) -> Result<bool> {
        let (now, uptime) = (desk.clock.now(), desk.clock.uptime());
        let leap = (now - self.last.0) - (uptime - self.last.1);
        self.last = (now, uptime);
        if leap.abs() > CLOCKS_DIFFER {
            self.from = uptime + CONFIRMED_AFTER;
            tracing::warn!(
                seconds = leap.num_seconds(),
                "the clock was set: nothing is deleted for an hour"
            );
        }
        Ok(uptime >= self.from && agrees_with_the_database(desk, now).await?)
    }
}

/// Whether something was written shortly before: then the clock shows about the time that others saw.
async fn is_confirmed(desk: &Desk, now: DateTime<Utc>) -> Result<bool> {
    let (from, to) = (now - CONFIRMED_AFTER, now + CLOCKS_DIFFER);
    let db = desk.db.read();
    let created = idempotency_record::Column::CreateTime;
    let answer = idempotency_record::Entity::find()
        .select_only()
        .column(created)
        .filter(created.between(from, to))
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    let expires = session::Column::ExpireTime;
    let session = session::Entity::find()
        .select_only()
        .column(expires)
        .filter(expires.between(from + SESSION, to + SESSION))
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    let last = event::Entity::find()
        .select_only()
        .column(event::Column::Time)
        .order_by_desc(event::Column::Seq)
        .limit(1)
        .into_tuple::<DateTime<Utc>>();
    Ok(answer.one(db).await?.is_some()
        || session.one(db).await?.is_some()
        || last
            .one(db)
            .await?
            .is_some_and(|time| (from..=to).contains(&time)))
}

/// SQLite has no clock of its own.
async fn agrees_with_the_database(desk: &Desk, now: DateTime<Utc>) -> Result<bool> {
    let db = desk.db.read();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(true);
    }
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT clock_timestamp()");
    let row = db.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("the database does not tell the time"))?;
    let theirs: DateTime<Utc> = row.try_get_by_index(0)?;
    let ahead = now - desk.clock.passed_since(theirs);
    if ahead.abs() > CLOCKS_DIFFER {
        tracing::warn!(
            seconds = ahead.num_seconds(),
            "this server's clock differs from the database's: nothing is deleted until they agree"
        );
        return Ok(false);
    }
    Ok(true)
}
