//! The event log: reads the events in an order in which nothing that is committed is skipped, and no event precedes one
//! that it depends on.
//!
//! A reader holds a [`LogPosition`], which survives restarts, a failover and the deletion of events that it has read
//! ([`position`]). Reading writes nothing and locks nothing, and a transaction that is held open delays only its own
//! events. On SQLite the position is a number, because there `seq` is the order of the commits.
//!
//! Readers are woken after a commit by [`Db::events_committed`], once for each batch. Other processes' commits are found
//! only by reading again.
//!
//! This module knows neither who reads nor what an event says.

mod identity;
pub mod list;
pub mod position;
mod read;
mod retention;
mod start;
pub mod statements;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::DbBackend;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::Db;
use crate::core::call::Principal;
use crate::error::Result;
use position::{EventRef, Position};
pub use retention::{delete_first, last_event_before};
pub use start::Start;

/// For how long [`EventLog::recent`] returns the same position.
const RECENT: Duration = Duration::from_millis(500);

/// A position in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The log. A restore into another database makes another one of it.
    pub incarnation: Uuid,
    /// The position in it.
    pub position: Position,
}

/// An event as stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its place in the log.
    pub place: EventRef,
    /// The lead that it belongs to; for records of other kinds, the record itself.
    pub lead_id: Uuid,
    /// Its type. Example: `lead.converted`.
    pub r#type: String,
    /// The record that changed.
    pub subject_id: Uuid,
    /// The version of the record after the change.
    pub version: i64,
    /// When it changed.
    pub time: DateTime<Utc>,
    /// Who changed it.
    pub actor: Principal,
    /// The RPC that made the change, or the command.
    pub rpc: String,
    /// The request id of the call; nil if it had none.
    pub request_id: Uuid,
    /// The stored content: see `commit::event`.
    pub content: Value,
}

/// The events after a position.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events in their order, each with the position after it.
    pub events: Vec<(StoredEvent, Position)>,
    /// The position after all of them.
    pub position: Position,
    /// Whether these were all events that were committed when the page was read.
    pub is_complete: bool,
}

/// Why a log cannot be read from a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Retention may have deleted events after it.
    Deleted,
    /// It is a position in another log, or the log was restored to an earlier state.
    Replaced,
}

/// The event log of a database.
#[derive(Clone, Debug)]
pub struct EventLog {
    db: Db,
    recent: Arc<Mutex<Option<(Instant, LogPosition)>>>,
}

impl EventLog {
    /// The log of this database.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            recent: Arc::default(),
        }
    }

    fn is_postgres(&self) -> bool {
        self.db.backend() == DbBackend::Postgres
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// A position that was the end of the log a moment ago, at most `RECENT`: for a list that is followed by reading the
    /// log, for which an earlier position does no harm. Many lists share one query.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn recent(&self) -> Result<LogPosition> {
        let known = self.lock_recent().clone();
        if let Some((time, position)) = known
            && time.elapsed() < RECENT
        {
            return Ok(position);
        }
        // Before the query: the position is at least as old.
        let time = Instant::now();
        let position = self.begin(Start::Now).await?;
        *self.lock_recent() = Some((time, position.clone()));
        Ok(position)
    }

    fn lock_recent(&self) -> std::sync::MutexGuard<'_, Option<(Instant, LogPosition)>> {
        self.recent
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Db {
    /// Wakes the readers of the event log in this process. Called after a commit, once for each batch.
    pub fn events_committed(&self) {
        self.event_commits.notify_one();
    }

    /// Waits until [`Db::events_committed`] is called, or returns at once if it was since the last wait. For one waiter.
    pub async fn next_event_commit(&self) {
        self.event_commits.notified().await;
    }
}
