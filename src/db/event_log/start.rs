//! The positions at which a reader can begin.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{ConnectionTrait as _, Statement};
use uuid::Uuid;

use super::position::{Cover, EventRef, Position};
use super::read::{Header, parse_snapshot};
use super::{EventLog, LogPosition, statements};
use crate::error::{Error, Result};

/// How far the times of two events may differ from their order: twice the maximum difference of two clocks.
pub(super) const SLACK: Duration = Duration::minutes(2);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before the first event that is still stored.
    Earliest,
    /// After everything that is committed now.
    Now,
    /// Before the first event of this time or later. Earlier events may follow, which the reader must filter out.
    Time(DateTime<Utc>),
}

impl EventLog {
    /// The position for a start.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn begin(&self, start: Start) -> Result<LogPosition> {
        // Before the snapshot: a later event is after it anyway.
        let bound = match start {
            Start::Time(time) => self.last_before(time - SLACK).await?,
            Start::Earliest | Start::Now => 0,
        };
        let statement = statements::ends(self.db.backend());
        let row = self.db.read().query_one_raw(statement).await?;
        let row = row.ok_or_else(|| Error::internal("the row of event_log is missing"))?;
        let header = Header::of(&row)?;
        let newest = match row.try_get::<Option<i64>>("", "seq")? {
            Some(seq) => Some(EventRef {
                transaction: row.try_get("", "transaction_id")?,
                seq,
                id: row.try_get::<Uuid>("", "id")?,
            }),
            None => None,
        };
        let snapshot = match self.is_postgres() {
            true => Some(parse_snapshot(&row.try_get::<String>("", "snapshot")?)?),
            false => None,
        };
        let after = bound.max(header.deleted.seq);
        let position = match (start, snapshot) {
            (Start::Now, snapshot) => {
                let all = snapshot.unwrap_or(Cover::below(i64::MAX));
                Position::at(&all, newest, header.deleted)
            }
            (Start::Earliest | Start::Time(_), Some(snapshot)) => {
                let newest = newest.map(|newest| newest.transaction);
                let end = Position::default().end_of_window(&snapshot, newest, header.deleted);
                Position::before(end, after)
            }
            (Start::Earliest | Start::Time(_), None) => Position::after_seq(after),
        };
        Ok(LogPosition {
            incarnation: header.incarnation,
            position,
        })
    }

    /// The number of an event before which every event is older than `time`, if clocks differ by no more than half of
    /// [`SLACK`]; 0 if there is none. Found by bisection, because events have no index by time.
    pub(super) async fn last_before(&self, time: DateTime<Utc>) -> Result<i64> {
        let backend = self.db.backend();
        let first = self.at(statements::first_after(backend, 0)).await?;
        let last = self.at(statements::last(backend)).await?;
        let (mut low, mut high) = match (first, last) {
            (Some((first, _)), Some((last, _))) => (first - 1, last),
            _ => return Ok(0),
        };
        let mut found = 0;
        // The events up to `low` are older, those after `high` are not.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(statements::first_after(backend, middle)).await? {
                Some((seq, written)) if written < time => {
                    found = seq;
                    low = seq;
                }
                Some(_) | None => high = middle,
            }
        }
        Ok(found)
    }

    /// The number and the time of an event.
    async fn at(&self, statement: Statement) -> Result<Option<(i64, DateTime<Utc>)>> {
        let row = self.db.read().query_one_raw(statement).await?;
        let event = row.map(|row| Ok((row.try_get("", "seq")?, row.try_get("", "time")?)));
        event.transpose()
    }
}
