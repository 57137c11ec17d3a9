//! Every query about clients.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use crate::db::entities::lead::{Column, Entity};
use crate::error::Result;
use crate::leads::model::Lead;
use crate::leads::store::read;

/// Converted leads, the latest first, from behind `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: u64,
) -> Result<Vec<Lead>> {
    let mut query = Entity::find()
        .filter(Column::ConversionTime.is_not_null())
        .order_by_desc(Column::ConversionTime)
        .order_by_desc(Column::Id)
        .limit(limit);
    if let Some((time, id)) = before {
        let here = Expr::tuple([Expr::col(Column::ConversionTime), Expr::col(Column::Id)]);
        query = query.filter(here.lt(Expr::tuple([Expr::value(time), Expr::value(id)])));
    }
    read(db, query.build(db.get_database_backend())).await
}
