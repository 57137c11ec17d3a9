//! The queries that complete an event with its record.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use super::model::Subject;
use crate::auth::operators::Operator;
use crate::commit::Record;
use crate::db::Db;
use crate::db::entities::event::{Column, Entity};
use crate::db::json::to_json;
use crate::error::Result;
use crate::features::leads::model::Lead;
use crate::features::opportunities::model::Opportunity;
use crate::features::order_queues::model::OrderQueue;
use crate::features::orders::model::Order;
use crate::features::service_accounts::model::ServiceAccount;

/// A record as it is now, and its version. It has no secrets: a record is stored in events in the same form.
pub async fn current(db: &Db, subject: Subject, id: Uuid) -> Result<Option<(i64, Value)>> {
    match subject {
        Subject::Lead => get::<Lead>(db, id).await,
        Subject::Opportunity => get::<Opportunity>(db, id).await,
        Subject::Order => get::<Order>(db, id).await,
        Subject::OrderQueue => get::<OrderQueue>(db, id).await,
        Subject::Operator => get::<Operator>(db, id).await,
        Subject::ServiceAccount => get::<ServiceAccount>(db, id).await,
    }
}

async fn get<R: Record>(db: &Db, id: Uuid) -> Result<Option<(i64, Value)>> {
    let record = R::get(db.read(), id).await?;
    let json = record.map(|record| Ok((record.version(), to_json(&record)?)));
    json.transpose()
}

/// The contents of a record's events with versions above `after` and up to `until`, the newest first, at most `limit`.
pub async fn contents(
    db: &Db,
    subject_id: Uuid,
    after: i64,
    until: i64,
    limit: u64,
) -> Result<Vec<(i64, Value)>> {
    let query = Entity::find()
        .select_only()
        .columns([Column::Version, Column::Record])
        .filter(Column::SubjectId.eq(subject_id))
        .filter(Column::Version.gt(after))
        .filter(Column::Version.lte(until))
        .order_by_desc(Column::Version)
        .limit(limit);
    Ok(query.into_tuple().all(db.read()).await?)
}
