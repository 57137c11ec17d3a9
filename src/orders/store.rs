//! Every query about orders and the ledger of their runs.

use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::model::{ActionRun, Filter, Order, OrderState, RunOutcome};
use crate::db::Tx;
use crate::db::entities::action_run;
use crate::db::entities::order::{ActiveModel, Column, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::error::{Error, Result};

pub async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Order>> {
    let row = Entity::find_by_id(id).one(db).await?;
    row.map(from_row).transpose()
}

/// An order that nobody else can change until the transaction ends.
///
/// # Errors
/// [`Error::OrderNotFound`].
pub async fn get_to_change(tx: &Tx, id: Uuid) -> Result<Order> {
    let row = Entity::find_by_id(id)
        .lock(LockType::NoKeyUpdate)
        .one(&**tx)
        .await?
        .ok_or(Error::OrderNotFound(id))?;
    from_row(row)
}

/// Orders by filter, newest first, from below the id `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Order>> {
    let mut query = Entity::find().order_by_desc(Column::Id).limit(limit);
    if let Some(lead_id) = filter.lead_id {
        query = query.filter(Column::LeadId.eq(lead_id));
    }
    if !filter.states.is_empty() {
        query = query.filter(Column::State.is_in(filter.states.iter().map(|state| state.word())));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    query.all(db).await?.into_iter().map(from_row).collect()
}

pub async fn insert(tx: &Tx, order: &Order) -> Result<()> {
    let row = ActiveModel {
        id: Set(order.id),
        lead_id: Set(order.lead_id),
        opportunity_id: Set(order.opportunity_id),
        version: Set(order.version),
        state: Set(order.state.word().to_owned()),
        items: Set(to_json(&order.items)?),
        actions: Set(to_json(&order.actions)?),
        create_time: Set(order.create_time),
        update_time: Set(order.update_time),
    };
    Entity::insert(row).exec_without_returning(&**tx).await?;
    Ok(())
}

/// Writes the next version of an order.
///
/// # Errors
/// [`Error::WriteConflict`] when the version before it is not the stored one any more.
pub async fn update(tx: &Tx, after: &Order) -> Result<()> {
    let changed = Entity::update_many()
        .col_expr(Column::Version, Expr::value(after.version))
        .col_expr(Column::State, Expr::value(after.state.word()))
        .col_expr(Column::Actions, Expr::value(to_json(&after.actions)?))
        .col_expr(Column::UpdateTime, Expr::value(after.update_time))
        .filter(Column::Id.eq(after.id))
        .filter(Column::Version.eq(after.version - 1))
        .exec(&**tx)
        .await?;
    if changed.rows_affected == 1 {
        Ok(())
    } else {
        Err(Error::WriteConflict)
    }
}

pub async fn insert_run(tx: &Tx, run: &ActionRun) -> Result<()> {
    let row = action_run::ActiveModel {
        id: Set(run.id),
        order_id: Set(run.order_id),
        lead_id: Set(run.lead_id),
        action: Set(run.action.clone()),
        time: Set(run.time),
        actor: Set(to_json(&run.actor)?),
        outcome: Set(run.outcome.word().to_owned()),
        no_change: Set(run.no_change),
        automatic: Set(run.automatic),
        error_reason: Set(run.error_reason.clone()),
        error_message: Set(run.error_message.clone()),
    };
    action_run::Entity::insert(row)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

/// An order's runs, newest first, from below the id `before`.
pub async fn list_runs(
    db: &impl ConnectionTrait,
    order_id: Uuid,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<ActionRun>> {
    let mut query = action_run::Entity::find()
        .filter(action_run::Column::OrderId.eq(order_id))
        .order_by_desc(action_run::Column::Id)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(action_run::Column::Id.lt(before));
    }
    query.all(db).await?.into_iter().map(run_from_row).collect()
}

fn from_row(row: Model) -> Result<Order> {
    let state = OrderState::from_word(&row.state)
        .ok_or_else(|| Error::internal(format!("unknown order state {}", row.state)))?;
    Ok(Order {
        id: row.id,
        lead_id: row.lead_id,
        opportunity_id: row.opportunity_id,
        version: row.version,
        state,
        items: from_json(row.items)?,
        actions: from_json(row.actions)?,
        create_time: row.create_time,
        update_time: row.update_time,
    })
}

fn run_from_row(row: action_run::Model) -> Result<ActionRun> {
    let outcome = RunOutcome::from_word(&row.outcome)
        .ok_or_else(|| Error::internal(format!("unknown run outcome {}", row.outcome)))?;
    Ok(ActionRun {
        id: row.id,
        order_id: row.order_id,
        lead_id: row.lead_id,
        action: row.action,
        time: row.time,
        actor: from_json(row.actor)?,
        outcome,
        no_change: row.no_change,
        automatic: row.automatic,
        error_reason: row.error_reason,
        error_message: row.error_message,
    })
}
