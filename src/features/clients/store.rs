//! The queries about clients.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement,
};
use uuid::Uuid;

use super::Filter;
use crate::db::entities::lead::{Column, Entity};
use crate::db::select::Part;
use crate::error::Result;
use crate::features::leads::lists::between;
use crate::features::leads::model::Lead;
use crate::features::leads::store::read_page;

/// Lists clients by filter, latest conversion first, after the position `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: u64,
) -> Result<Part<Lead>> {
    let statement = list_statement(db.get_database_backend(), filter, before, limit);
    read_page(db, statement, limit).await
}

/// The statement of [`list`]: a scan of the index of conversions, or of the index of one operator's
/// conversions. It passes over leads that were joined to a client, at most a hundred for each.
pub fn list_statement(
    backend: DbBackend,
    filter: &Filter,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: u64,
) -> Statement {
    let time = Column::ConversionTime;
    // A later page starts before this time anyway. PostgreSQL would estimate too few rows from two bounds.
    let latest = filter.convert_time_before.filter(|_| before.is_none());
    let mut query = Entity::find()
        .filter(time.is_not_null())
        .filter(Column::ConversionClientId.is_null())
        .filter(between(
            || Expr::col(time),
            filter.convert_time_after,
            latest,
        ))
        .order_by_desc(time)
        .order_by_desc(Column::Id)
        .limit(limit);
    if let Some(owner_id) = filter.owner_id {
        query = query.filter(Column::OwnerId.eq(owner_id.to_string()));
    }
    if let Some((last, id)) = before {
        let here = Expr::tuple([Expr::col(time), Expr::col(Column::Id)]);
        query = query.filter(here.lt(Expr::tuple([Expr::value(last), Expr::value(id)])));
    }
    query.build(backend)
}
