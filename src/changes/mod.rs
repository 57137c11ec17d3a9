//! What every change carries along, in its own transaction: a history row (who, when, which RPC,
//! from what to what), an event for those outside, and the answer kept under the request id. What is
//! kept is in proportion to the change, however large the record is. A change is decided on a [`draft`], waits in the [`queue`], and is
//! written with others in a `batch`; [`desk::Desk::change`] is the one door to all that.

mod batch;
pub mod desk;
pub mod draft;
mod erase;
pub mod events;
mod fate;
pub mod history;
pub mod idempotency;
mod lane;
mod packed;
pub mod queue;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Result;
use crate::wire::words::words;

pub use events::Record;
pub use idempotency::RequestKey;

words! {
    /// What kind of record a change is of.
    pub enum Subject {
        /// A lead.
        Lead = "LEAD",
        /// An opportunity.
        Opportunity = "OPPORTUNITY",
        /// An order.
        Order = "ORDER",
    }
}

/// How one field changed. Empty stands for nothing. The stored names are those of the first rows, which
/// servers of the version before write and read too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field's path. Examples: `email`, `address.city`, `custom_fields.tier`.
    pub field: String,
    /// The value before.
    #[serde(rename = "from", alias = "old_value")]
    pub old_value: String,
    /// The value after.
    #[serde(rename = "to", alias = "new_value")]
    pub new_value: String,
}

impl FieldChange {
    /// A change of `field`.
    pub fn new(
        field: impl Into<String>,
        old_value: impl Into<String>,
        new_value: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            old_value: old_value.into(),
            new_value: new_value.into(),
        }
    }
}

/// One accepted change of one record.
pub struct Change {
    /// What kind of record.
    pub subject: Subject,
    /// Which record.
    pub subject_id: Uuid,
    /// The lead it belongs to, or is.
    pub lead_id: Uuid,
    /// The record's version after the change. No version comes about twice: an index holds that.
    pub version: i64,
    /// What happened, for those outside. Example: `lead.converted`.
    pub event: &'static str,
    /// When.
    pub time: DateTime<Utc>,
    /// From what to what.
    pub changes: Vec<FieldChange>,
    /// What became of the record, and what changed beside it.
    pub record: Record,
}

/// By how much the clocks of replicas may differ without a record showing it, in seconds.
const SKEW: i64 = 60;

/// The time of a change to a record last changed at `before`: now, but later than before, so that
/// clocks that differ a little do not turn a record's history around. Where `before` is further ahead,
/// a clock was wrong then, and the time is that of now: a record does not stay in a future that never
/// was. The order of a record's changes is that of their versions.
pub fn time_after(clock: &Clock, before: DateTime<Utc>) -> DateTime<Utc> {
    let now = clock.now();
    if before > now + chrono::Duration::seconds(SKEW) {
        return now;
    }
    now.max(before + chrono::Duration::microseconds(1))
}

/// The version of a record as the caller sees it.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Checks a caller's etag against a record's version. None given matches everything; the quotes may
/// be left out, which spares people on a command line from quoting quotes.
///
/// # Errors
/// [`crate::error::Error::EtagMismatch`] when the record has changed since.
pub fn check_etag(given: &str, version: i64) -> Result<()> {
    let current = etag(version);
    if given.is_empty() || given == current || given == current.trim_matches('"') {
        Ok(())
    } else {
        Err(crate::error::Error::EtagMismatch { current })
    }
}
