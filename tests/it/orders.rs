//! Orders: how they are created, and every row of the table of what running an action does.

mod by_hand;
mod claims;
mod creation;
mod plans;
mod refusals;
mod running;
pub mod steps;

use leadsmith_proto::{
    ActionRun, ActionState, ActionType, CreateOrderRequest, GetOrderRequest, ListRunsRequest,
    Order, OrderAction, OrderStep, RunActionRequest,
};
use sea_orm::{ConnectionTrait, Statement};
use tonic::{Response, Status};
use uuid::Uuid;

use crate::harness::{Caller, Harness};

pub const PROVISION: ActionType = ActionType::ProvisionClient;
pub const MANUAL: ActionType = ActionType::Manual;

/// The id of the queue `default`.
const DEFAULT_QUEUE: &str = "00000000-0000-7000-8000-000000000001";

/// An id that no record has.
const NOBODY: &str = "0190a5f2-0000-7000-8000-000000000000";

/// The only step of the queue `default`.
fn processing() -> OrderStep {
    OrderStep {
        key: "processing".into(),
        name: "Processing".into(),
    }
}

/// A PENDING action that a caller has to run.
pub fn action(key: &str, kind: ActionType, prerequisites: &[&str]) -> OrderAction {
    OrderAction {
        key: key.into(),
        r#type: kind.into(),
        name: format!("Do {key}"),
        automatic: false,
        prerequisites: prerequisites.iter().map(|key| (*key).to_owned()).collect(),
        state: ActionState::Pending.into(),
        step: "processing".into(),
        repeatable: false,
        claim: None,
    }
}

/// A PENDING action that runs by itself.
pub fn automatic(key: &str, kind: ActionType, prerequisites: &[&str]) -> OrderAction {
    OrderAction {
        automatic: true,
        ..action(key, kind, prerequisites)
    }
}

pub async fn create(caller: &Caller, order: Order) -> Result<Order, Status> {
    let request = CreateOrderRequest {
        order: Some(order),
        ..Default::default()
    };
    let answer = caller.orders().create(request).await?;
    Ok(answer.into_inner().order.unwrap())
}

pub async fn get(caller: &Caller, id: &str) -> Order {
    let request = GetOrderRequest { id: id.into() };
    let answer = caller.orders().get(request).await.unwrap();
    answer.into_inner().order.unwrap()
}

/// An order's ledger, newest first.
pub async fn runs(caller: &Caller, order_id: &str) -> Vec<ActionRun> {
    let request = ListRunsRequest {
        order_id: order_id.into(),
        ..Default::default()
    };
    let answer = caller.orders().list_runs(request).await;
    answer.map(Response::into_inner).unwrap().runs
}

/// Runs an action of the order as it was at this etag.
pub async fn run_at(
    caller: &Caller,
    order: &Order,
    action: &str,
    etag: &str,
) -> Result<Order, Status> {
    let request = RunActionRequest {
        order_id: order.id.clone(),
        action: action.into(),
        etag: etag.into(),
        ..Default::default()
    };
    let answer = caller.orders().run_action(request).await?;
    Ok(answer.into_inner().order.unwrap())
}

/// The states of an order's actions, in their order.
pub fn states(order: &Order) -> Vec<ActionState> {
    order.actions.iter().map(OrderAction::state).collect()
}

/// What is written about a lead, beside its own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub runs: i64,
    pub lead_history: i64,
    pub order_history: i64,
    pub events: Vec<String>,
}

/// What is written about this lead and its orders.
pub async fn written(h: &Harness, lead_id: &str) -> Written {
    let db = h.database.connect().await;
    let backend = db.get_database_backend();
    let id: Uuid = lead_id.parse().unwrap();
    let mark = if backend == sea_orm::DbBackend::Postgres {
        "$1"
    } else {
        "?"
    };
    let ask = |sql: &str| {
        let sql = format!("{sql} WHERE lead_id = {mark}");
        Statement::from_sql_and_values(backend, sql, [id.into()])
    };
    let row = db
        .query_one_raw(ask("SELECT count(*) FROM action_runs"))
        .await;
    let runs = row.unwrap().unwrap().try_get_by_index(0).unwrap();
    let mut subjects = Vec::new();
    for row in db
        .query_all_raw(ask("SELECT subject FROM history"))
        .await
        .unwrap()
    {
        subjects.push(row.try_get_by_index::<String>(0).unwrap());
    }
    let of = |subject: &str| {
        let count = subjects.iter().filter(|found| *found == subject).count();
        i64::try_from(count).unwrap()
    };
    let mut events: Vec<(i64, String)> = Vec::new();
    for row in db
        .query_all_raw(ask("SELECT seq, type FROM events"))
        .await
        .unwrap()
    {
        events.push((
            row.try_get_by_index(0).unwrap(),
            row.try_get_by_index(1).unwrap(),
        ));
    }
    events.sort_unstable();
    Written {
        runs,
        lead_history: of("LEAD"),
        order_history: of("ORDER"),
        events: events.into_iter().map(|(_, kind)| kind).collect(),
    }
}
