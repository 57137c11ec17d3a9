//! The interface between the commit layer and a kind of record: [`Record`]. It is implemented in the
//! feature's `store.rs` and listed in [`crate::features::RECORDS`], whose order is the lock order.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;
use serde::Serialize;
use uuid::Uuid;

use crate::core::field_change::FieldChange;
use crate::db::rows::Rows;
use crate::db::{LockWait, Locked, Tx};
use crate::error::Result;

/// A kind of record that has versions and whose changes are recorded.
///
/// Every record belongs to a root, which may be the record itself. Its history, events and stored responses
/// contain the id of the root.
pub trait Record: Clone + Serialize + Send + Sync + 'static {
    /// Its name in the history. Example: `LEAD`.
    const SUBJECT: &'static str;
    /// Its name in events. Example: `lead`.
    const NAME: &'static str;
    /// Whether records of other kinds belong to it. There is only one such kind, the lead. A record that
    /// belongs to itself alone, such as an operator, is its own root without being of that kind.
    const IS_ROOT: bool = false;
    /// The name of its key, by which duplicates are found. Example: `email`.
    const KEY: &'static str = "key";

    /// Its id.
    fn id(&self) -> Uuid;

    /// The id of its root.
    fn root_id(&self) -> Uuid;

    /// Its version, counted from 1.
    fn version(&self) -> i64;

    /// The time of its last change.
    fn update_time(&self) -> DateTime<Utc>;

    /// The records with these ids, in any order.
    fn get_many<C: ConnectionTrait>(
        db: &C,
        ids: Vec<Uuid>,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;

    /// The record with this id.
    fn get<C: ConnectionTrait>(
        db: &C,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<Self>>> + Send {
        async move { Ok(Self::get_many(db, vec![id]).await?.pop()) }
    }

    /// Locks records until the transaction ends.
    fn lock(
        tx: &Tx,
        ids: BTreeSet<Uuid>,
        wait: LockWait,
    ) -> impl Future<Output = Result<Locked<Self>>> + Send;

    /// Returns the rows of new records, and of changed records given as pairs of the stored and the next
    /// version.
    fn write(
        tx: &Tx,
        created: Vec<Self>,
        changed: Vec<(Self, Self)>,
    ) -> impl Future<Output = Result<Vec<Rows>>> + Send;

    /// Another root that a change of this record may need, and change: it is locked with this one.
    fn refers_to(&self) -> Option<Uuid> {
        None
    }

    /// The ids of the records that belong to a root, without the root itself.
    fn attached_to(tx: &Tx, root_id: Uuid) -> impl Future<Output = Result<BTreeSet<Uuid>>> + Send {
        let _ = (tx, root_id);
        async { Ok(BTreeSet::new()) }
    }

    /// Its key; `None` if it has none.
    fn key(&self) -> Option<String> {
        None
    }

    /// Finds records by their keys.
    fn find_by_keys(
        tx: &Tx,
        keys: BTreeSet<String>,
    ) -> impl Future<Output = Result<HashMap<String, Self>>> + Send {
        let _ = (tx, keys);
        async { Ok(HashMap::new()) }
    }

    /// The next version as of `time`, without free text, and the fields that contained free text; `None` if
    /// there was none. Roots are erased by their feature.
    fn without_texts(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)>;

    /// Whether its personal data is erased.
    fn is_erased(&self) -> bool {
        false
    }

    /// Whether the history keeps the values of this field when personal data is erased.
    fn is_kept_in_history(field: &str) -> bool {
        matches!(field, "state" | "owner_id")
    }

    /// Erases free text in the rows that belong to the records of a root.
    fn erase_related_rows(tx: &Tx, root_id: Uuid) -> impl Future<Output = Result<()>> + Send {
        let _ = (tx, root_id);
        async { Ok(()) }
    }

    /// Its texts that may be long, in the order in which responses contain them. Stored responses refer to
    /// them.
    fn long_texts(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Undoes a change of one of the long texts. The default is for records whose long texts never change.
    fn undo(&mut self, change: &FieldChange) {
        let _ = change;
    }
}
