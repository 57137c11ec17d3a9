//! The queries about operators, and how operators are locked and written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use crate::auth::operators::Operator;
use crate::auth::operators::store::from_row;
use crate::commit::Record;
use crate::core::field_change::FieldChange;
use crate::core::role::Role;
use crate::core::text;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::operator::{ActiveModel, Column, Entity};
use crate::db::rows::{self, Rows};
use crate::db::select::Part;
use crate::db::{self, LockWait, Locked, Tx};
use crate::error::Result;

/// Operators in the order of their creation, after this id.
pub async fn list(
    db: &impl ConnectionTrait,
    enabled: Option<bool>,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Part<Operator>> {
    let mut query = Entity::find().order_by_asc(Column::Id).limit(limit);
    match enabled {
        Some(true) => query = query.filter(Column::DisableTime.is_null()),
        Some(false) => query = query.filter(Column::DisableTime.is_not_null()),
        None => {}
    }
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    let rows = query.all(db).await?;
    let operators: Result<_> = rows.into_iter().map(from_row).collect();
    Ok(Part::whole(operators?))
}

/// The ids of enabled ADMINs other than this operator, at most `limit`, in the order of their creation.
pub async fn other_admins(db: &impl ConnectionTrait, id: Uuid, limit: u64) -> Result<Vec<Uuid>> {
    let found = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Role.eq(Role::Admin.as_str()))
        .filter(Column::DisableTime.is_null())
        .filter(Column::Id.ne(id))
        .order_by_asc(Column::Id)
        .limit(limit);
    Ok(found.into_tuple().all(db).await?)
}

impl Record for Operator {
    const SUBJECT: &'static str = "OPERATOR";
    const NAME: &'static str = "operator";
    const KEY: &'static str = "username";

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
            |record| Ok(to_row(record)),
        )
    }

    fn key(&self) -> Option<String> {
        Some(text::fold(&self.username))
    }

    async fn find_by_keys(tx: &Tx, keys: BTreeSet<String>) -> Result<HashMap<String, Self>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        // The operators without a key share the key of one that has it.
        let found = Entity::find().filter(Column::UsernameKey.is_in(keys));
        let mut operators = HashMap::new();
        for row in found.all(&**tx).await? {
            if let Some(key) = row.username_key.clone() {
                operators.insert(key, from_row(row)?);
            }
        }
        Ok(operators)
    }

    fn without_texts(&self, _time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        // It belongs to no lead.
        None
    }
}

/// The row of an operator. The key never changes, so an operator without one gets none.
fn to_row(operator: &Operator) -> ActiveModel {
    ActiveModel {
        id: Set(operator.id),
        version: Set(operator.version),
        username: Set(operator.username.clone()),
        username_key: Set(operator.key()),
        display_name: Set(operator.display_name.clone()),
        role: Set(operator.role.as_str().to_owned()),
        password_hash: Set(operator.password_hash.0.clone()),
        disable_time: Set(operator.disable_time),
        create_time: Set(operator.create_time),
        update_time: Set(operator.update_time),
    }
}
