//! Reads a page of events after a position.
//!
//! One statement reads the snapshot, what retention has deleted and the events, so that a deletion or a restore between
//! a check and the read cannot be missed.

use std::sync::Arc;

use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Statement};
use uuid::Uuid;

use super::position::{Cover, Deleted, EventRef, Position, Window};
use super::{EventLog, LogPosition, Lost, Page, StoredEvent, statements};
use crate::db::json::from_json;
use crate::error::{Error, Result};

/// What a statement says about the log.
pub(super) struct Header {
    pub incarnation: Uuid,
    pub deleted: Deleted,
}

impl Header {
    pub(super) fn of(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            incarnation: row.try_get("", "incarnation")?,
            deleted: Deleted {
                seq: row.try_get("", "deleted_seq")?,
                transaction: row.try_get("", "deleted_transaction")?,
            },
        })
    }
}

/// The rows of a statement: the event of each, and what they say about the log.
struct Found {
    events: Vec<StoredEvent>,
    /// The snapshot of the statement, on PostgreSQL.
    snapshot: Option<Cover>,
    deleted: Deleted,
}

impl EventLog {
    /// Reads at most `limit` events after a position.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`; the inner error if the log cannot be read from there.
    pub async fn read(&self, from: &LogPosition, limit: u64) -> Result<Result<Page, Lost>> {
        match self.is_postgres() {
            true => self.read_postgres(from, limit).await,
            false => self.read_sqlite(from, limit).await,
        }
    }

    async fn read_sqlite(&self, from: &LogPosition, limit: u64) -> Result<Result<Page, Lost>> {
        let position = &from.position;
        let statement = statements::after_number(position, limit);
        let mut found = match self.find(from, statement).await? {
            Ok(found) => found,
            Err(lost) => return Ok(Err(lost)),
        };
        let is_complete = keep_first(&mut found.events, limit);
        // The events are numbered in the order of their commits, so a number is a position.
        let positions: Vec<Position> = found
            .events
            .iter()
            .map(|event| Position {
                newest: Some(event.place),
                ..Position::after_seq(event.place.seq)
            })
            .collect();
        Ok(Ok(Page {
            position: positions.last().unwrap_or(position).clone(),
            events: found.events.into_iter().zip(positions).collect(),
            is_complete,
        }))
    }

    async fn read_postgres(&self, from: &LogPosition, limit: u64) -> Result<Result<Page, Lost>> {
        let position = &from.position;
        let Some(window) = position.window.clone() else {
            return self.read_new_window(from, limit).await;
        };
        let statement = statements::in_window(position, &window, limit);
        let mut found = match self.find(from, statement).await? {
            Ok(found) => found,
            Err(lost) => return Ok(Err(lost)),
        };
        let is_complete = keep_first(&mut found.events, limit);
        // Others may have been committed after the window's snapshot.
        Ok(Ok(page(position, found, &window.end, is_complete, false)))
    }

    /// Reads the window that begins now. Its first events are found by their transactions, so that the cost does not
    /// depend on the size of the log. If there are more than `limit`, they are read by their numbers in pages.
    async fn read_new_window(&self, from: &LogPosition, limit: u64) -> Result<Result<Page, Lost>> {
        let position = &from.position;
        let statement = statements::new_window(position, limit);
        let found = match self.find(from, statement).await? {
            Ok(found) => found,
            Err(lost) => return Ok(Err(lost)),
        };
        let snapshot = found.snapshot.clone().unwrap_or_default();
        let end = |newest| Arc::new(position.end_of_window(&snapshot, newest, found.deleted));
        if found.events.len() as u64 <= limit {
            let transactions = found.events.iter().map(|event| event.place.transaction);
            let end = end(transactions.max());
            return Ok(Ok(page(position, found, &end, true, true)));
        }
        let (first, newest) = self.unread(position, &snapshot).await?;
        let in_parts = LogPosition {
            incarnation: from.incarnation,
            position: Position {
                window: Some(Window {
                    end: end(newest),
                    after: first - 1,
                }),
                ..position.clone()
            },
        };
        Box::pin(self.read_postgres(&in_parts, limit)).await
    }

    /// The lowest number, so that a page by numbers does not begin at the beginning of the log, and the highest transaction of
    /// the events that are not read.
    async fn unread(&self, position: &Position, snapshot: &Cover) -> Result<(i64, Option<i64>)> {
        let statement = statements::unread(position, snapshot);
        let row = self.db.read().query_one_raw(statement).await?;
        let row = row.ok_or_else(|| Error::internal("an aggregate without a row"))?;
        let first: Option<i64> = row.try_get_by_index(0)?;
        Ok((first.unwrap_or(1), row.try_get_by_index(1)?))
    }

    /// Runs a statement whose rows have a header and maybe an event, and checks that the log can be read from this
    /// position.
    async fn find(&self, from: &LogPosition, statement: Statement) -> Result<Result<Found, Lost>> {
        let rows = self.db.read().query_all_raw(statement).await?;
        let first = rows.first();
        let first = first.ok_or_else(|| Error::internal("the row of event_log is missing"))?;
        let header = Header::of(first)?;
        let deleted = header.deleted;
        if header.incarnation != from.incarnation {
            return Ok(Err(Lost::Replaced));
        }
        if let Some(newest) = from.position.newest
            && newest.seq > deleted.seq
            && first.try_get::<Option<Uuid>>("", "newest_id")? != Some(newest.id)
        {
            return Ok(Err(Lost::Replaced));
        }
        if from.position.is_expired(deleted) {
            return Ok(Err(Lost::Deleted));
        }
        let snapshot = match self.is_postgres() {
            true => {
                let text: Option<String> = first.try_get("", "snapshot")?;
                text.map(|text| parse_snapshot(&text)).transpose()?
            }
            false => None,
        };
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<i64>>("", "seq")?.is_some() {
                events.push(event(row, self.is_postgres())?);
            }
        }
        Ok(Ok(Found {
            events,
            snapshot,
            deleted,
        }))
    }
}

/// Drops what exceeds `limit`. Returns whether nothing does.
fn keep_first(events: &mut Vec<StoredEvent>, limit: u64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_all = events.len() <= limit;
    events.truncate(limit);
    is_all
}

fn page(
    position: &Position,
    found: Found,
    end: &Arc<Cover>,
    is_window_complete: bool,
    is_complete: bool,
) -> Page {
    let places: Vec<EventRef> = found.events.iter().map(|event| event.place).collect();
    let (positions, after) = position.advance(&places, end, found.deleted, is_window_complete);
    Page {
        events: found.events.into_iter().zip(positions).collect(),
        position: after,
        is_complete,
    }
}

/// An event from a row with the columns of the statements.
pub(super) fn event(row: &QueryResult, is_postgres: bool) -> Result<StoredEvent> {
    let seq = row.try_get("", "seq")?;
    let transaction = match is_postgres {
        true => row.try_get("", "transaction_id")?,
        false => seq,
    };
    Ok(StoredEvent {
        place: EventRef {
            transaction,
            seq,
            id: row.try_get("", "id")?,
        },
        lead_id: row.try_get("", "lead_id")?,
        r#type: row.try_get("", "type")?,
        subject_id: row.try_get("", "subject_id")?,
        version: row.try_get("", "version")?,
        time: row.try_get("", "time")?,
        actor: from_json(row.try_get("", "actor")?)?,
        // The history row is written in the same transaction.
        rpc: row
            .try_get::<Option<String>>("", "rpc")?
            .unwrap_or_default(),
        request_id: row
            .try_get::<Option<Uuid>>("", "request_id")?
            .unwrap_or_default(),
        content: row.try_get("", "record")?,
    })
}

/// Parses a snapshot in PostgreSQL's form: `10:20:10,14,15`, which are the lowest id in progress, the next id, and the
/// ids in progress.
///
/// # Errors
/// `INTERNAL` for another form.
pub(super) fn parse_snapshot(text: &str) -> Result<Cover> {
    let broken = || Error::internal(format!("a snapshot of an unknown form: {text}"));
    let mut parts = text.splitn(3, ':').skip(1);
    let bound = parts.next().and_then(|bound| bound.parse().ok());
    let unfinished = parts.next().unwrap_or_default().split(',');
    let unfinished = unfinished.filter(|id| !id.is_empty());
    Ok(Cover {
        bound: bound.ok_or_else(broken)?,
        unfinished: unfinished
            .map(|id| id.parse().map_err(|_| broken()))
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_snapshot_is_read_from_its_text() {
        assert_eq!(parse_snapshot("7:7:").unwrap(), Cover::below(7));
        let expected = Cover {
            bound: 20,
            unfinished: BTreeSet::from([10, 14, 15]),
        };
        assert_eq!(parse_snapshot("10:20:10,14,15").unwrap(), expected);
        assert!(parse_snapshot("nonsense").is_err());
    }
}
