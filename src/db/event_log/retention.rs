//! Deletes old events, and notes what was deleted in the same transaction, so that a reader that lacks one of them finds
//! out instead of skipping it.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, Statement};

use super::statements;
use crate::db::{Db, Tx};
use crate::error::Result;

/// How many events one query reads to find old ones.
const SCAN_ROWS: u64 = 10_000;

/// The sequence number of the last event before `time`, among the first events. Events are in about the order in which
/// they were written, so every event before it is at least as old, whatever time it has. So no index by time is needed.
/// If all events of a page have a time after `latest`, which a wrong clock has written, they say nothing about the events
/// after them, and the next page is read.
///
/// # Errors
/// `DATABASE_UNAVAILABLE`.
pub async fn last_event_before(
    db: &Db,
    time: DateTime<Utc>,
    latest: DateTime<Utc>,
) -> Result<Option<i64>> {
    let mut after: i64 = 0;
    loop {
        let statement = statements::times(db.backend(), after, SCAN_ROWS);
        let mut events: Vec<(i64, DateTime<Utc>)> = Vec::new();
        for row in db.read().query_all_raw(statement).await? {
            events.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        }
        let old = events.iter().rev().find(|(_, written)| *written < time);
        if let Some((seq, _)) = old {
            return Ok(Some(*seq));
        }
        match events.last() {
            Some((last, _)) if events.iter().all(|(_, written)| *written > latest) => after = *last,
            _ => return Ok(None),
        }
    }
}

/// Deletes at most `limit` of the events up to the number `last`, the oldest first, and returns how many. An event of a
/// transaction that is not older than every running one is kept: so every transaction up to the noted one has ended, and
/// a position that was made later has it.
///
/// # Errors
/// As [`Db::write`].
pub async fn delete_first(tx: &Tx, last: i64, limit: u64) -> Result<u64> {
    let backend = tx.get_database_backend();
    let row = tx
        .query_one_raw(statements::deletable(backend, last, limit))
        .await?;
    let Some(row) = row else { return Ok(0) };
    let (Some(seq), Some(newest)) = (
        row.try_get_by_index::<Option<i64>>(0)?,
        row.try_get_by_index::<Option<i64>>(1)?,
    ) else {
        return Ok(0);
    };
    let sql = "UPDATE event_log SET \
               deleted_seq = CASE WHEN deleted_seq < $1 THEN $1 ELSE deleted_seq END, \
               deleted_transaction = CASE WHEN deleted_transaction < $2 THEN $2 ELSE deleted_transaction END";
    let values = [seq.into(), newest.into()];
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let deleted = tx
        .execute_raw(statements::delete(backend, seq, newest))
        .await?;
    Ok(deleted.rows_affected())
}
