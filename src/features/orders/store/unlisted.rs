//! Orders that a previous version wrote last: beside this one during an upgrade, or alone before a rollback was undone.
//! Their rows in the list of [`claims`] are wrong or missing, and their `claims_version` tells. The partial index
//! `orders_unlisted` contains exactly those that may have something for workers. A job lists them again; until then
//! workers find them by this index.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement,
};
use serde_json::json;
use uuid::Uuid;

use super::claims;
use super::row::from_row;
use crate::commit::Record as _;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::order::{Column, Entity};
use crate::db::{Db, LockWait, Verdict, any_of, rows, select};
use crate::error::Result;
use crate::features::orders::model::{ActionState, ActionType, Claiming, Order};

/// How many of them a worker looks at.
const LOOKED_AT: u64 = 50;
/// How many of them one transaction lists again.
const LISTED: u64 = 100;

/// Runs [`find_statement`].
pub(super) async fn find(
    db: &impl ConnectionTrait,
    queue_id: Uuid,
    wanted: &Claiming,
) -> Result<Vec<Order>> {
    let statement = find_statement(db.get_database_backend(), queue_id, wanted);
    let rows = select::rows::<Entity>(db, statement).await?;
    rows.into_iter().map(from_row).collect()
}

/// The statement that finds some of a queue's orders that have one of these actions open. Orders without such an action
/// would hide those that have one.
pub fn find_statement(backend: DbBackend, queue_id: Uuid, wanted: &Claiming) -> Statement {
    let query = Entity::find()
        .filter(Column::QueueId.eq(queue_id))
        .filter(Expr::cust(unlisted(backend)))
        .filter(has_open(backend, wanted))
        .order_by_asc(Expr::cust("random()"))
        .limit(LOOKED_AT);
    query.build(backend)
}

/// The condition of the index.
fn unlisted(backend: DbBackend) -> String {
    let has_external = match backend == DbBackend::Postgres {
        true => r#"actions @> '[{"type": "EXTERNAL"}]'"#,
        false => r#"instr(actions, '"EXTERNAL"') > 0"#,
    };
    format!("state = 'PROCESSING' AND coalesce(claims_version, 0) <> version AND {has_external}")
}

/// That the order has one of these actions, not yet run or failed. A claimed action is stored as one that was not run.
fn has_open(backend: DbBackend, wanted: &Claiming) -> Condition {
    let state = match wanted.retry_failed {
        true => ActionState::Failed,
        false => ActionState::Pending,
    };
    let mut condition = Condition::any();
    for key in &wanted.actions {
        let (external, state) = (ActionType::External.as_str(), state.as_str());
        condition = condition.add(match backend == DbBackend::Postgres {
            true => Expr::cust_with_values(
                "actions @> $1",
                [json!([{"key": key, "type": external, "state": state}])],
            ),
            false => Expr::cust_with_values(
                "EXISTS (SELECT 1 FROM json_each(actions) AS a WHERE a.value ->> 'key' = ? \
                 AND a.value ->> 'type' = ? AND a.value ->> 'state' = ?)",
                [key.as_str(), external, state],
            ),
        });
    }
    condition
}

/// Lists the open actions of such orders. Returns how many orders these were, which is the largest number if there may be
/// more.
///
/// # Errors
/// Those of the database.
pub async fn list_again(db: &Db) -> Result<u64> {
    let mut ids = BTreeSet::new();
    for row in db.read().query_all_raw(any_statement(db.backend())).await? {
        ids.insert(row.try_get_by_index::<Uuid>(0)?);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    db.write_with_retry(move |tx| {
        let ids = ids.clone();
        Box::pin(async move {
            // An order that is being changed is listed by that change, or the next time.
            let orders = Order::lock(tx, ids, LockWait::SkipLocked).await?.records;
            let listed = claims::list(tx, &[], orders.iter()).await?;
            rows::write(tx, listed.into_iter().collect()).await?;
            let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
            if !ids.is_empty() {
                Entity::update_many()
                    .col_expr(Column::ClaimsVersion, Expr::col(Column::Version))
                    .filter(any_of(Expr::col(Column::Id), ids))
                    .exec(&**tx)
                    .await?;
            }
            Ok(Verdict::Done(orders.len() as u64))
        })
    })
    .await
}

/// The statement that finds some such orders, of whatever queue. Neither database knows how few they are: PostgreSQL uses
/// the index because of the order, SQLite because the statement requires it.
pub fn any_statement(backend: DbBackend) -> Statement {
    let condition = unlisted(backend);
    let index = match backend == DbBackend::Postgres {
        true => "",
        false => "INDEXED BY orders_unlisted",
    };
    let sql =
        format!("SELECT id FROM orders {index} WHERE {condition} ORDER BY queue_id LIMIT {LISTED}");
    Statement::from_string(backend, sql)
}
