//! The history: one row for each accepted change.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::Change;
use crate::core::call::{Call, Principal};
use crate::core::field_change::FieldChange;
use crate::db::json::{from_json, to_json};
use crate::db::select::{self, Part};
use crate::db::{Tx, entities::history};
use crate::error::Result;

/// A change, as read from the history.
pub struct Entry {
    /// The id of the entry.
    pub id: Uuid,
    /// The record's version after the change.
    pub version: i64,
    /// The time of the change.
    pub time: DateTime<Utc>,
    /// The principal that made it.
    pub actor: Principal,
    /// The RPC that made it.
    pub rpc: String,
    /// The request id of the call; nil if it had none.
    pub request_id: Uuid,
    /// The changed fields with their old and new values.
    pub changes: Vec<FieldChange>,
}

pub(super) fn to_row(tx: &Tx, call: &Call, change: &Change) -> Result<history::ActiveModel> {
    Ok(history::ActiveModel {
        id: Set(tx.clock.new_id()),
        lead_id: Set(change.root_id),
        subject: Set(change.subject.to_owned()),
        subject_id: Set(change.subject_id),
        version: Set(change.version),
        time: Set(change.time),
        actor: Set(to_json(&*call.principal)?),
        rpc: Set(call.rpc.to_owned()),
        changes: Set(to_json(&change.changes)?),
        request_id: Set(call.request_key.map_or(Uuid::nil(), |key| key.id)),
    })
}

/// A page of a record's changes, newest first, below version `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    subject_id: Uuid,
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Entry>> {
    let mut query = history::Entity::find()
        .filter(history::Column::SubjectId.eq(subject_id))
        .order_by_desc(history::Column::Version)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(history::Column::Version.lt(before));
    }
    let statement = query.build(db.get_database_backend());
    let large = [history::Column::Changes];
    let part = select::page::<history::Entity>(db, statement, limit, &large).await?;
    part.map(|row| {
        Ok(Entry {
            id: row.id,
            version: row.version,
            time: row.time,
            actor: from_json(row.actor)?,
            rpc: row.rpc,
            request_id: row.request_id,
            changes: from_json(row.changes)?,
        })
    })
}
