//! The queries about queues, and how they are locked and written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::model::OrderQueue;
use crate::commit::Record;
use crate::core::field_change::FieldChange;
use crate::db::entities::order_queue::{ActiveModel, Column, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Part};
use crate::db::{self, LockWait, Locked, Tx};
use crate::error::Result;

/// Reads a queue.
pub async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<OrderQueue>> {
    <OrderQueue as Record>::get(db, id).await
}

/// Queues in the order of their creation, after this id.
pub async fn list(
    db: &impl ConnectionTrait,
    include_archived: bool,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Part<OrderQueue>> {
    let mut query = Entity::find().order_by_asc(Column::Id).limit(limit);
    if !include_archived {
        query = query.filter(Column::ArchiveTime.is_null());
    }
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    let statement = query.build(db.get_database_backend());
    let large = [Column::Actions, Column::Steps];
    let part = select::page::<Entity>(db, statement, limit, &large).await?;
    part.map(from_row)
}

impl Record for OrderQueue {
    const SUBJECT: &'static str = "ORDER_QUEUE";
    const NAME: &'static str = "order_queue";
    const KEY: &'static str = "order_queue";

    fn id(&self) -> Uuid {
        self.id
    }

    fn root_id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn update_time(&self) -> DateTime<Utc> {
        self.update_time
    }

    async fn get_many<C: ConnectionTrait>(db: &C, ids: Vec<Uuid>) -> Result<Vec<Self>> {
        db::get_many::<Entity, _>(db, Column::Id, ids, from_row).await
    }

    async fn lock(tx: &Tx, ids: BTreeSet<Uuid>, wait: LockWait) -> Result<Locked<Self>> {
        db::lock::<Entity, _>(tx, Column::Id, ids, wait, from_row, |record| record.id).await
    }

    async fn write(_tx: &Tx, created: Vec<Self>, changed: Vec<(Self, Self)>) -> Result<Vec<Rows>> {
        rows::of_versions(
            &created,
            &changed,
            |record| (record.id, record.version),
            to_row,
        )
    }

    fn key(&self) -> Option<String> {
        Some(Self::name_key(&self.name))
    }

    async fn find_by_keys(tx: &Tx, keys: BTreeSet<String>) -> Result<HashMap<String, Self>> {
        let query = Entity::find().filter(Column::NameKey.is_in(keys));
        let mut found = HashMap::new();
        for row in query.all(&**tx).await? {
            found.insert(row.name_key.clone(), from_row(row)?);
        }
        Ok(found)
    }

    fn without_texts(&self, _time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        // It belongs to no lead.
        None
    }
}

/// The row of a queue.
fn to_row(queue: &OrderQueue) -> Result<ActiveModel> {
    Ok(ActiveModel {
        id: Set(queue.id),
        version: Set(queue.version),
        name: Set(queue.name.clone()),
        name_key: Set(OrderQueue::name_key(&queue.name)),
        steps: Set(to_json(&queue.steps)?),
        actions: Set(to_json(&queue.actions)?),
        archive_time: Set(queue.archive_time),
        create_time: Set(queue.create_time),
        update_time: Set(queue.update_time),
    })
}

fn from_row(row: Model) -> Result<OrderQueue> {
    Ok(OrderQueue {
        id: row.id,
        version: row.version,
        name: row.name,
        steps: from_json(row.steps)?,
        actions: from_json(row.actions)?,
        archive_time: row.archive_time,
        create_time: row.create_time,
        update_time: row.update_time,
    })
}
