//! The list in which workers find the actions that they can claim: a row for each, in `claimable_actions`.
//!
//! A worker must find what is ready among many orders that wait for something else, and for each action apart: those of a
//! worker that is away must not be in the way of another's. So the rows are written with every version of an order that
//! has EXTERNAL actions, while the order is locked. They are only where workers look: whether an action is free is
//! decided on the locked order.
//!
//! An order that a previous version wrote last is not in the list, or wrongly, until it is listed again: see
//! [`unlisted`].

use chrono::{DateTime, Duration, Utc};
use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, Statement,
};
use uuid::Uuid;

use super::unlisted;
use crate::db::Tx;
use crate::db::any_of;
use crate::db::entities::action_run;
use crate::db::entities::claimable_action::{ActiveModel, Column, Entity};
use crate::db::rows::Rows;
use crate::error::Result;
use crate::features::orders::model::{ActionRun, ActionType, Claiming, Order, RunKind};

/// How many orders of the list a worker looks at.
const WINDOW: u64 = 512;
/// The fewest that it looks at for each of its actions.
const MIN_WINDOW: u64 = 16;
/// How long before the creation of its order an action that has no claim can be claimed, in the list. The times of
/// orders are those of the servers' clocks, which differ from the database's.
const LONG_BEFORE: Duration = Duration::hours(1);

/// Makes the rows of these orders what their new versions say.
pub(super) async fn list<'a>(
    tx: &Tx,
    created: &'a [Order],
    changed: impl Iterator<Item = &'a Order>,
) -> Result<Option<Rows>> {
    let changed: Vec<&Order> = changed.filter(|order| has_external(order)).collect();
    if !changed.is_empty() {
        let ids = changed.iter().map(|order| order.id).collect();
        Entity::delete_many()
            .filter(any_of(Expr::col(Column::OrderId), ids))
            .exec(&**tx)
            .await?;
    }
    let all = created.iter().chain(changed);
    Rows::insert(all.flat_map(to_rows).collect())
}

fn has_external(order: &Order) -> bool {
    let mut actions = order.actions.iter();
    actions.any(|action| action.r#type == ActionType::External)
}

fn to_rows(order: &Order) -> Vec<ActiveModel> {
    let claimable = order.claimable().into_iter();
    let rows = claimable.map(|found| ActiveModel {
        order_id: Set(order.id),
        action: Set(found.action),
        queue_id: Set(order.queue_id),
        is_failed: Set(found.is_failed),
        claim_time: Set(found
            .expire_time
            .unwrap_or_else(|| order.create_time - LONG_BEFORE)),
    });
    rows.collect()
}

/// Finds orders that have an action for a worker to claim at `now`, the oldest of them.
pub async fn find(
    db: &impl ConnectionTrait,
    queue_id: Uuid,
    wanted: &Claiming,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>> {
    let mut found = Vec::new();
    for row in db
        .query_all_raw(find_statement(
            db.get_database_backend(),
            queue_id,
            wanted,
            now,
        ))
        .await?
    {
        let id: Uuid = row.try_get_by_index(0)?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    for order in unlisted::find(db, queue_id, wanted).await? {
        if order.find_claimable(wanted, now).is_some() && !found.contains(&order.id) {
            found.push(order.id);
        }
    }
    Ok(found)
}

/// The statement that looks into the list.
pub fn find_statement(
    backend: DbBackend,
    queue_id: Uuid,
    wanted: &Claiming,
    now: DateTime<Utc>,
) -> Statement {
    let count = u64::try_from(wanted.actions.len()).unwrap_or(u64::MAX);
    let limit = (WINDOW / count.max(1)).max(MIN_WINDOW);
    let of = |action: &str| {
        let select = Entity::find()
            .select_only()
            .column(Column::OrderId)
            .filter(
                Condition::all()
                    .add(Column::QueueId.eq(queue_id))
                    .add(Column::Action.eq(action))
                    .add(Column::IsFailed.eq(wanted.retry_failed))
                    .add(Column::ClaimTime.lte(now)),
            )
            .order_by_asc(Column::ClaimTime)
            .limit(limit);
        select.into_query()
    };
    // Each action apart, so that every one is read in the order of the index.
    let mut parts = wanted.actions.iter().map(|action| {
        sea_orm::sea_query::Query::select()
            .column("order_id")
            .from_subquery(of(action), "t")
            .take()
    });
    let mut query = parts.next().unwrap_or_default();
    for part in parts {
        query.union(sea_orm::sea_query::UnionType::All, part);
    }
    backend.build(&query)
}

/// The entry of the ledger that records a claim; none if there is none with this id.
pub async fn get(db: &impl ConnectionTrait, run_id: Uuid) -> Result<Option<ActionRun>> {
    let row = action_run::Entity::find_by_id(run_id).one(db).await?;
    let run = row.map(super::row::run_from_row).transpose()?;
    Ok(run.filter(|run| run.kind == RunKind::Claim))
}
