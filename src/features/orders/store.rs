//! The queries about orders and their runs.

use crate::core::text_enum::TextEnum as _;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::model::{ActionRun, Filter, Order, OrderState, RunOutcome};
use crate::commit::Record;
use crate::core::field_change::FieldChange;
use crate::db;
use crate::db::entities::action_run;
use crate::db::entities::order::{ActiveModel, Column, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Part};
use crate::db::{LockWait, Locked, Tx};
use crate::error::{Error, Result};

/// Reads an order.
pub async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Order>> {
    <Order as Record>::get(db, id).await
}

impl Record for Order {
    const SUBJECT: &'static str = "ORDER";
    const NAME: &'static str = "order";

    fn id(&self) -> Uuid {
        self.id
    }

    fn root_id(&self) -> Uuid {
        self.lead_id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn update_time(&self) -> DateTime<Utc> {
        self.update_time
    }

    async fn get<C: ConnectionTrait>(db: &C, id: Uuid) -> Result<Option<Self>> {
        let row = Entity::find_by_id(id).one(db).await?;
        row.map(from_row).transpose()
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

    async fn attached_to(tx: &Tx, root_id: Uuid) -> Result<BTreeSet<Uuid>> {
        db::ids_where::<Entity>(tx, Column::Id, Column::LeadId.eq(root_id)).await
    }

    fn without_texts(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        self.erased(time)
    }

    fn is_kept_in_history(field: &str) -> bool {
        let is_state = field.starts_with("actions.") && field.ends_with(".state");
        is_state || matches!(field, "state" | "owner_id")
    }

    async fn erase_related_rows(tx: &Tx, root_id: Uuid) -> Result<()> {
        erase_runs(tx, root_id).await
    }

    fn long_texts(&self) -> Vec<&str> {
        let mut texts: Vec<&String> = self.items.iter().map(|item| &item.description).collect();
        for action in &self.actions {
            texts.extend([&action.key, &action.name]);
            texts.extend(&action.prerequisites);
        }
        texts.into_iter().map(String::as_str).collect()
    }
}

/// Erases the free text in the runs of a lead's orders.
async fn erase_runs(tx: &Tx, lead_id: Uuid) -> Result<()> {
    let orders = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::LeadId.eq(lead_id));
    action_run::Entity::update_many()
        .col_expr(action_run::Column::ErrorMessage, Expr::value(""))
        .filter(action_run::Column::OrderId.in_subquery(orders.into_query()))
        .exec(&**tx)
        .await?;
    Ok(())
}

/// Lists orders by filter, newest first, below the number `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    before: Option<i64>,
    limit: u64,
) -> Result<Part<Order>> {
    let mut query = Entity::find().order_by_desc(Column::Seq).limit(limit);
    if let Some(lead_id) = filter.lead_id {
        query = query.filter(Column::LeadId.eq(lead_id));
    }
    if !filter.states.is_empty() {
        query = query.filter(Column::State.is_in(filter.states.iter().map(|state| state.as_str())));
    }
    if let Some(before) = before {
        query = query.filter(Column::Seq.lt(before));
    }
    let statement = query.build(db.get_database_backend());
    let large = [Column::Items, Column::Actions];
    let part = select::page::<Entity>(db, statement, limit, &large).await?;
    part.map(from_row)
}

/// The row of an order.
fn to_row(order: &Order) -> Result<ActiveModel> {
    Ok(ActiveModel {
        seq: NotSet,
        id: Set(order.id),
        lead_id: Set(order.lead_id),
        opportunity_id: Set(order.opportunity_id),
        version: Set(order.version),
        state: Set(order.state.as_str().to_owned()),
        items: Set(to_json(&order.items)?),
        actions: Set(to_json(&order.actions)?),
        create_time: Set(order.create_time),
        update_time: Set(order.update_time),
    })
}

/// The row of a run.
pub fn run_to_row(run: &ActionRun) -> Result<action_run::ActiveModel> {
    Ok(action_run::ActiveModel {
        seq: NotSet,
        id: Set(run.id),
        order_id: Set(run.order_id),
        lead_id: Set(run.lead_id),
        action: Set(run.action.clone()),
        time: Set(run.time),
        actor: Set(to_json(&run.actor)?),
        outcome: Set(run.outcome.as_str().to_owned()),
        no_change: Set(run.no_change),
        automatic: Set(run.automatic),
        error_reason: Set(run.error_reason.clone()),
        error_message: Set(run.error_message.clone()),
    })
}

/// Lists an order's runs, newest first, below the number `before`. The numbers are assigned while the order
/// is locked, so they are in the order of the runs.
pub async fn list_runs(
    db: &impl ConnectionTrait,
    order_id: Uuid,
    before: Option<i64>,
    limit: u64,
) -> Result<Part<ActionRun>> {
    let mut query = action_run::Entity::find()
        .filter(action_run::Column::OrderId.eq(order_id))
        .order_by_desc(action_run::Column::Seq)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(action_run::Column::Seq.lt(before));
    }
    let statement = query.build(db.get_database_backend());
    let large = [action_run::Column::Actor, action_run::Column::ErrorMessage];
    let part = select::page::<action_run::Entity>(db, statement, limit, &large).await?;
    part.map(run_from_row)
}

fn from_row(row: Model) -> Result<Order> {
    let state = OrderState::from_text(&row.state)
        .ok_or_else(|| Error::internal(format!("unknown order state {}", row.state)))?;
    Ok(Order {
        id: row.id,
        seq: row.seq,
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
    let outcome = RunOutcome::from_text(&row.outcome)
        .ok_or_else(|| Error::internal(format!("unknown run outcome {}", row.outcome)))?;
    Ok(ActionRun {
        id: row.id,
        seq: row.seq,
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
