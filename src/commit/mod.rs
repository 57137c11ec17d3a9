//! Commits every change of a record together with a history row (who, when, which RPC, old and new values),
//! an event for external consumers, and the response stored under the request id, all in one transaction.
//!
//! A use case describes a change as a [`Mutation`]: the records that it needs, and a decision about them.
//! The decision runs on a [`UnitOfWork`] and collects what is to be written. [`GroupCommit`] commits the
//! changes of many callers in one transaction. The size of what is stored for a change is in proportion to
//! the change, however large its record is.
//!
//! This layer must not depend on any feature: the kinds of records are passed in as [`Record`]s.

mod batch;
mod erase;
mod event;
mod group_commit;
pub mod history;
pub mod idempotency;
mod in_doubt;
mod lock_set;
mod pending;
mod queue;
mod record;
mod snapshot;
mod stored_response;
mod table;
mod unit_of_work;
mod worker;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tonic::Code;
use uuid::Uuid;

use crate::core::etag::etag;
use crate::core::field_change::FieldChange;
use crate::error::{Error, ErrorReason, Result};
use event::Payload;

pub use group_commit::GroupCommit;
pub use lock_set::LockSet;
pub use record::Record;
pub use snapshot::Kind;
pub use unit_of_work::{Decision, Mutation, SideStatement, UnitOfWork};

/// The record that a change is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// The record.
    pub id: Uuid,
    /// The expected etag; empty for any.
    pub etag: String,
    /// Validate without changing.
    pub validate_only: bool,
}

/// One accepted change of one record, for the history and the events.
pub struct Change {
    subject: &'static str,
    subject_id: Uuid,
    root_id: Uuid,
    /// The record's version after the change. A unique index ensures that no version occurs twice.
    version: i64,
    event: String,
    time: DateTime<Utc>,
    changes: Vec<FieldChange>,
    payload: Payload,
}

impl Change {
    /// A change that resulted in this `record`. `event` is the event type for external consumers. Example:
    /// `lead.converted`.
    pub fn of<R: Record>(record: &R, event: impl Into<String>, changes: Vec<FieldChange>) -> Self {
        Self {
            subject: R::SUBJECT,
            subject_id: record.id(),
            root_id: record.root_id(),
            version: record.version(),
            event: event.into(),
            time: record.update_time(),
            changes,
            payload: Payload::default(),
        }
    }

    /// Adds a whole record, or several, to the event.
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be serialised as JSON.
    pub fn whole<T: Serialize>(mut self, name: &str, record: &T) -> Result<Self> {
        self.payload = self.payload.whole(name, record)?;
        Ok(self)
    }

    /// Adds the differences between two versions of a record to the event.
    ///
    /// # Errors
    /// `INTERNAL` if they cannot be serialised as JSON.
    pub fn changed<T: Serialize>(mut self, name: &str, before: &T, after: &T) -> Result<Self> {
        self.payload = self.payload.changed(name, before, after)?;
        Ok(self)
    }

    /// The kind and the id of the changed record.
    fn record(&self) -> (&'static str, Uuid) {
        (self.subject, self.subject_id)
    }
}

/// Checks a caller's etag against a record's version. An empty etag matches every version. The quotes are
/// optional, so that command-line users need not escape them.
///
/// # Errors
/// `ETAG_MISMATCH` if the record has changed since.
pub fn check_etag(given: &str, version: i64) -> Result<()> {
    let current = etag(version);
    if given.is_empty() || given == current || given == current.trim_matches('"') {
        return Ok(());
    }
    let message = "The record has changed since its etag was read. Get it again, check what changed, and retry with \
                   the new etag.";
    Err(Error::new(Code::Aborted, ErrorReason::EtagMismatch, message).with("etag", current))
}
