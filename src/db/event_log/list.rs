//! Finds events by conditions, the newest first. Unlike [`EventLog::read`], which follows the log, this is for looking at
//! the past: in the order of the numbers, and without a position that survives a restore.
//!
//! Events have no index by time, actor or type: it would make every change of every record slower, for a list that is
//! seldom read. Their numbers are in about the order of their times, so a range of time is found by bisection. In it,
//! events are looked through by their numbers, at most ten windows of [`WINDOW`] for each page. If the records are known
//! and have few events, these are found by the index of records and sorted.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{Condition, ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

use super::read::event;
use super::start::SLACK;
use super::{EventLog, StoredEvent, statements};
use crate::db::entities::event::{Column, Entity};
use crate::db::{any_of, select};
use crate::error::Result;

/// How many numbers one statement looks through.
pub const WINDOW: i64 = 10_000;
/// How many windows are looked through for a page.
const WINDOWS: usize = 10;
/// The maximum number of events that are found by their records and sorted. Records with more have at least every 200th
/// of a million events, so that looking through the log soon fills a page.
pub const RARE_LIMIT: u64 = 5_000;

/// Which events are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What their columns must be.
    pub condition: Condition,
    /// The records that they are of, if these are known. The condition must require the same.
    pub records: Option<Vec<Uuid>>,
    /// Only events after this time. The condition must require the same.
    pub time_after: Option<DateTime<Utc>>,
    /// Only events before this time. The condition must require the same.
    pub time_before: Option<DateTime<Utc>>,
}

/// The numbers of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that match, the highest first.
    pub numbers: Vec<i64>,
    /// All events from this number on were looked at, and there may be others below. `None` if there are none.
    pub end: Option<i64>,
}

/// A range of numbers, without its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The number before the first one.
    pub after: i64,
    /// The number after the last one.
    pub before: i64,
}

impl EventLog {
    /// Finds at most `limit` events with numbers below `before`, the newest first.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, `QUERY_TOO_SLOW`.
    pub async fn find_newest(
        &self,
        db: &impl ConnectionTrait,
        wanted: &Wanted,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Found> {
        let mut range = self.range(wanted, before).await?;
        if let Some(records) = &wanted.records
            && count(db, records).await? < RARE_LIMIT
        {
            let statement = few_statement(self.db.backend(), wanted, records, range, limit);
            let numbers = numbers(db, statement).await?;
            let is_full = numbers.len() as u64 >= limit;
            return Ok(Found {
                end: numbers.last().copied().filter(|_| is_full),
                numbers,
            });
        }
        let mut found = Found::default();
        for _ in 0..WINDOWS {
            // Numbers are not without gaps, so the window begins with an event.
            let Some(newest) = newest(db, range).await? else {
                return Ok(found);
            };
            let window = Between {
                after: Ord::max(range.after, newest.saturating_sub(WINDOW)),
                before: newest.saturating_add(1),
            };
            let missing = limit.saturating_sub(found.numbers.len() as u64);
            let statement = window_statement(self.db.backend(), wanted, window, missing);
            found.numbers.extend(numbers(db, statement).await?);
            if found.numbers.len() as u64 >= limit {
                found.end = found.numbers.last().copied();
                return Ok(found);
            }
            range.before = window.after.saturating_add(1);
        }
        let has_more = newest(db, range).await?.is_some();
        found.end = has_more.then_some(range.before);
        Ok(found)
    }

    /// The numbers between which all events of the wanted times are.
    async fn range(&self, wanted: &Wanted, before: Option<i64>) -> Result<Between> {
        let after = match wanted.time_after {
            Some(time) => self.last_before(time - SLACK).await?,
            None => 0,
        };
        // A later page begins below the end of the range.
        let before = match (before, wanted.time_before) {
            (Some(before), _) => before,
            (None, Some(time)) => self.last_before(time + SLACK).await?.saturating_add(1),
            (None, None) => i64::MAX,
        };
        Ok(Between { after, before })
    }

    /// Reads events by their numbers, the oldest first. Those that are not stored any more are missing.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn get(&self, numbers: &[i64]) -> Result<Vec<StoredEvent>> {
        let statement = statements::by_numbers(self.db.backend(), numbers);
        let rows = self.db.read().query_all_raw(statement).await?;
        rows.iter()
            .map(|row| event(row, self.is_postgres()))
            .collect()
    }
}

/// The statement that looks through a window.
pub fn window_statement(
    backend: DbBackend,
    wanted: &Wanted,
    window: Between,
    limit: u64,
) -> Statement {
    let mut matches = matches(wanted, window);
    newest_first(&mut matches, limit);
    let mut statement = backend.build(&matches);
    if backend == DbBackend::Sqlite {
        // By the numbers, whatever the conditions are.
        let from = "FROM \"events\"";
        statement.sql = statement.sql.replace(from, &format!("{from} NOT INDEXED"));
    }
    statement
}

/// The statement that finds the events of few records and sorts them.
pub fn few_statement(
    backend: DbBackend,
    wanted: &Wanted,
    records: &[Uuid],
    range: Between,
    limit: u64,
) -> Statement {
    let mut few = matches(wanted, range);
    few.and_where(any_of(Expr::col(Column::SubjectId), records.to_vec()));
    if backend == DbBackend::Sqlite {
        newest_first(&mut few, limit);
        return select::by_index(backend.build(&few), "events", "events_subject");
    }
    // OFFSET is an optimisation barrier: PostgreSQL finds these events first, instead of reading the log in the order of
    // the numbers.
    few.offset(0);
    let mut page = Query::select();
    page.column(Column::Seq)
        .from_subquery(few, Alias::new("few"));
    newest_first(&mut page, limit);
    backend.build(&page)
}

fn matches(wanted: &Wanted, range: Between) -> SelectStatement {
    let mut matches = Query::select();
    matches
        .column(Column::Seq)
        .from(Entity)
        .and_where(Expr::col(Column::Seq).gt(range.after))
        .and_where(Expr::col(Column::Seq).lt(range.before))
        .cond_where(wanted.condition.clone());
    matches
}

fn newest_first(select: &mut SelectStatement, limit: u64) {
    select.order_by(Column::Seq, Order::Desc).limit(limit);
}

/// The statement that finds the highest number in a range.
pub fn newest_statement(backend: DbBackend, range: Between) -> Statement {
    let sql = "SELECT seq FROM events WHERE seq > $1 AND seq < $2 ORDER BY seq DESC LIMIT 1";
    let values = [range.after.into(), range.before.into()];
    Statement::from_sql_and_values(backend, sql, values)
}

async fn newest(db: &impl ConnectionTrait, range: Between) -> Result<Option<i64>> {
    let statement = newest_statement(db.get_database_backend(), range);
    Ok(numbers(db, statement).await?.first().copied())
}

async fn numbers(db: &impl ConnectionTrait, statement: Statement) -> Result<Vec<i64>> {
    let rows = db.query_all_raw(statement).await?;
    let numbers = rows.iter().map(|row| Ok(row.try_get_by_index(0)?));
    numbers.collect()
}

/// The statement that counts the events of records, up to [`RARE_LIMIT`].
pub fn count_statement(backend: DbBackend, records: &[Uuid]) -> Statement {
    let mut matches = Query::select();
    matches
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(any_of(Expr::col(Column::SubjectId), records.to_vec()))
        .limit(RARE_LIMIT);
    let mut count = Query::select();
    count
        .expr(Expr::cust("count(*)"))
        .from_subquery(matches, Alias::new("matches"));
    select::by_index(backend.build(&count), "events", "events_subject")
}

async fn count(db: &impl ConnectionTrait, records: &[Uuid]) -> Result<u64> {
    let statement = count_statement(db.get_database_backend(), records);
    let row = db.query_one_raw(statement).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(count.unsigned_abs())
}
