//! The queries about orders and their ledgers.

pub mod claims;
mod row;
pub mod unlisted;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};
use uuid::Uuid;

use super::model::{ActionRun, Filter, Order, OrderState};
use crate::commit::Record;
use crate::core::field_change::FieldChange;
use crate::core::text_enum::TextEnum as _;
use crate::db;
use crate::db::entities::action_run;
use crate::db::entities::order::{Column, Entity};
use crate::db::rows::{self, Rows};
use crate::db::select::{self, Part};
use crate::db::{LockWait, Locked, Tx, any_of};
use crate::error::Result;
use crate::features::leads;
pub use row::run_to_row;
use row::{from_row, run_from_row, to_row};

/// The condition of the index of the orders that are not finished. It is written out, because a database cannot
/// know that a parameter has this value.
const IS_OPEN: &str = "state = 'PROCESSING'";

/// Reads an order.
pub async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Order>> {
    <Order as Record>::get(db, id).await
}

/// Reads orders by their ids.
pub async fn get_many(db: &impl ConnectionTrait, ids: Vec<Uuid>) -> Result<Vec<Order>> {
    let select = Entity::find().filter(any_of(Expr::col(Column::Id), ids));
    let rows = select::rows::<Entity>(db, select.build(db.get_database_backend())).await?;
    rows.into_iter().map(from_row).collect()
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

    async fn get_many<C: ConnectionTrait>(db: &C, ids: Vec<Uuid>) -> Result<Vec<Self>> {
        get_many(db, ids).await
    }

    async fn lock(tx: &Tx, ids: BTreeSet<Uuid>, wait: LockWait) -> Result<Locked<Self>> {
        db::lock::<Entity, _>(tx, Column::Id, ids, wait, from_row, |record| record.id).await
    }

    async fn write(tx: &Tx, created: Vec<Self>, changed: Vec<(Self, Self)>) -> Result<Vec<Rows>> {
        let claimable = claims::list(tx, &created, changed.iter().map(|(_, order)| order)).await?;
        let mut all = rows::of_versions(
            &created,
            &changed,
            |record| (record.id, record.version),
            to_row,
        )?;
        all.extend(claimable);
        Ok(all)
    }

    async fn attached_to(tx: &Tx, root_id: Uuid) -> Result<BTreeSet<Uuid>> {
        db::ids_where::<Entity>(tx, Column::Id, Column::LeadId.eq(root_id)).await
    }

    fn without_texts(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        self.erased(time)
    }

    fn refers_to(&self) -> Option<Uuid> {
        self.client_id
    }

    fn is_kept_in_history(field: &str) -> bool {
        let is_of_action = field.starts_with("actions.");
        let is_state = is_of_action && (field.ends_with(".state") || field.ends_with(".claim"));
        is_state || matches!(field, "state" | "step" | "owner_id")
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

/// Erases the free text in the ledgers of a lead's orders.
async fn erase_runs(tx: &Tx, lead_id: Uuid) -> Result<()> {
    let orders = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::LeadId.eq(lead_id));
    action_run::Entity::update_many()
        .col_expr(action_run::Column::ErrorMessage, Expr::value(""))
        .col_expr(action_run::Column::Note, Expr::value(""))
        .col_expr(action_run::Column::Reference, Expr::value(""))
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
    let of_client = match filter.client_id {
        Some(id) => leads::store::ids_of_client(db, id).await?,
        None => Some(Vec::new()),
    };
    let Some(of_client) = of_client else {
        return Ok(Part::default());
    };
    let backend = db.get_database_backend();
    let statement = list_statement(backend, filter, &of_client, before, limit);
    let large = [Column::Items, Column::Actions, Column::Plan, Column::Claims];
    let part = select::page::<Entity>(db, statement, limit, &large).await?;
    part.map(from_row)
}

/// The statement of [`list`]. `of_client` are the leads of the filter's client, including the client.
pub fn list_statement(
    backend: DbBackend,
    filter: &Filter,
    of_client: &[Uuid],
    before: Option<i64>,
    limit: u64,
) -> Statement {
    let mut query = Entity::find();
    if let Some(lead_id) = filter.lead_id {
        query = query.filter(Column::LeadId.eq(lead_id));
    }
    if let Some(queue_id) = filter.queue_id {
        query = query.filter(Column::QueueId.eq(queue_id));
    }
    if !filter.step.is_empty() {
        query = query.filter(Column::Step.eq(filter.step.as_str()));
    }
    if !filter.open_action.is_empty() {
        let condition = has_open_action(backend, &filter.open_action);
        query = query.filter(Expr::cust(IS_OPEN)).filter(condition);
    }
    query = match filter.states.as_slice() {
        [] => query,
        [OrderState::Processing] => query.filter(Expr::cust(IS_OPEN)),
        states => query.filter(Column::State.is_in(states.iter().map(|state| state.as_str()))),
    };
    if let Some(before) = before {
        query = query.filter(Column::Seq.lt(before));
    }
    match filter.client_id {
        None => query.order_by_desc(Column::Seq).limit(limit).build(backend),
        Some(_) => {
            let leads = any_of(Expr::col(Column::LeadId), of_client.to_vec());
            sorted(query.filter(leads), backend, limit)
        }
    }
}

/// The newest of the orders that match, which are found by the index of the lead and sorted by their numbers.
fn sorted(matches: Select<Entity>, backend: DbBackend, limit: u64) -> Statement {
    if backend == DbBackend::Postgres {
        // OFFSET is an optimisation barrier: PostgreSQL finds these orders first, instead of scanning all orders in
        // the order of the list.
        let mut statement = matches.offset(0).build(backend);
        statement.sql = format!(
            "SELECT few.* FROM ({}) AS few ORDER BY few.seq DESC LIMIT {limit}",
            statement.sql
        );
        return statement;
    }
    // SQLite keeps the whole rows that it sorts in memory, so it sorts only numbers. It does not reorder the tables of
    // a CROSS JOIN.
    let few = matches.select_only().column(Column::Seq);
    let mut statement = select::by_index(few.build(backend), "orders", "orders_lead_seq");
    statement.sql = format!(
        "SELECT orders.* FROM (SELECT few.seq FROM ({}) AS few ORDER BY few.seq DESC LIMIT {limit}) AS page \
         CROSS JOIN orders WHERE orders.seq = page.seq ORDER BY orders.seq DESC",
        statement.sql
    );
    statement
}

/// Whether an action with this key is PENDING, CLAIMED or FAILED. A claimed one is stored as PENDING.
fn has_open_action(backend: DbBackend, key: &str) -> Expr {
    if backend == DbBackend::Postgres {
        let with_state = |state: &str| serde_json::json!([{ "key": key, "state": state }]);
        return Expr::cust_with_values(
            "(actions @> $1 OR actions @> $2)",
            [with_state("PENDING"), with_state("FAILED")],
        );
    }
    Expr::cust_with_values(
        "EXISTS (SELECT 1 FROM json_each(actions) AS a WHERE json_extract(a.value, '$.key') = ? \
         AND json_extract(a.value, '$.state') IN ('PENDING', 'FAILED'))",
        [key],
    )
}

/// Lists an order's ledger, newest first, below the number `before`. The numbers are assigned while the order
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
    let large = [
        action_run::Column::Note,
        action_run::Column::Actor,
        action_run::Column::ErrorMessage,
    ];
    let part = select::page::<action_run::Entity>(db, statement, limit, &large).await?;
    part.map(run_from_row)
}
