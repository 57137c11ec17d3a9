//! The list of past events: the audit trail.

use super::model::{Event, ListFilter};
use super::rebuild::BackwardRebuilder;
use super::store;
use super::versions::size;
use crate::core::page::PageInput;
use crate::db::event_log::EventLog;
use crate::db::select::Part;
use crate::error::Result;

/// How many events are read and completed at once. The first time fewer, because they may be large.
const CHUNK: usize = 64;
const FIRST_CHUNK: usize = 8;
/// A page ends when its records occupy this many bytes. That is about four times the size of their messages, so a page
/// of small records ends by its number of events, and one of large records by the size of the response.
const MAX_BYTES: usize = 12 << 20;

/// The use cases of past events.
#[derive(Clone, Debug)]
pub struct Events {
    log: EventLog,
}

/// An event of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its number, behind which the next page begins.
    pub number: i64,
    /// The event.
    pub event: Event,
}

/// The events of a page.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest first.
    pub part: Part<Listed>,
    /// The number behind which the list continues; `None` if it does not.
    pub end: Option<i64>,
}

impl Events {
    /// The use cases for this log.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }

    /// Lists events by filters, the newest first.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, filter: &ListFilter, page: PageInput<i64>) -> Result<Found> {
        let Some(wanted) = store::wanted(self.log.db(), filter).await? else {
            return Ok(Found::default());
        };
        let db = self.log.db().pages(page.principal).await?;
        let found = self.log.find_newest(&db, &wanted, page.after, page.limit);
        let found = found.await?;
        // What follows are lookups by key.
        drop(db);
        let mut rebuilder = BackwardRebuilder::new(self.log.db().clone());
        let mut listed = Vec::with_capacity(found.numbers.len());
        let (mut bytes, mut rest) = (0, found.numbers.as_slice());
        while !rest.is_empty() && bytes < MAX_BYTES {
            let (numbers, later) = rest.split_at(chunk(bytes, listed.len()).min(rest.len()));
            rest = later;
            let stored = self.log.get(numbers).await?;
            let places: Vec<i64> = stored.iter().map(|event| event.place.seq).collect();
            let events = rebuilder.complete(stored).await?;
            for (event, number) in events.into_iter().zip(places).rev() {
                let Some(event) = event else { continue };
                let values = [&event.values.before, &event.values.after];
                bytes += values.into_iter().flatten().map(size).sum::<usize>();
                listed.push(Listed { number, event });
            }
        }
        let end = match rest.first() {
            Some(next) => Some(next.saturating_add(1)),
            None => found.end,
        };
        Ok(Found {
            part: Part::whole(listed),
            end,
        })
    }
}

/// How many events to complete next, after `count` events of `bytes` in all.
fn chunk(bytes: usize, count: usize) -> usize {
    match bytes.checked_div(count) {
        Some(average) => ((MAX_BYTES - bytes) / average.max(1)).clamp(1, CHUNK),
        None => FIRST_CHUNK,
    }
}
