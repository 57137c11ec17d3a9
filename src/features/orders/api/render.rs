//! Renders orders and runs as messages.

use crate::features::leads::api::render as leads;
use crate::features::order_queues::api::render::step;
use crate::features::orders::Fulfilled;
use crate::features::orders::claims::Claimed;
use crate::features::orders::model::{
    Action, ActionRun, ActionState, Claim, Item, Order, OrderState, RunKind, RunOutcome,
};
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::money;
use crate::grpc::render::{principal, time};
use leadsmith_proto as proto;

/// Renders the outcome of Create. `render_order` renders the order.
pub(super) fn created(
    created: Fulfilled,
    render_order: fn(Order) -> proto::Order,
) -> proto::CreateOrderResponse {
    proto::CreateOrderResponse {
        order: Some(render_order(created.order)),
        runs: created.runs.into_iter().map(run).collect(),
        client: created.client.and_then(leads::client),
        lead: Some(leads::lead(created.lead)),
        report: created.report.map(leads::report),
    }
}

/// Renders the outcome of RunAction. `render_run` renders the run.
pub(super) fn run_action(
    fulfilled: Fulfilled,
    render_run: fn(ActionRun) -> proto::ActionRun,
) -> proto::RunActionResponse {
    proto::RunActionResponse {
        order: Some(order(fulfilled.order)),
        // The first one is what was asked for.
        run: fulfilled.runs.into_iter().next().map(render_run),
        client: fulfilled.client.and_then(leads::client),
        lead: Some(leads::lead(fulfilled.lead)),
        report: fulfilled.report.map(leads::report),
    }
}

/// Renders an order.
pub fn order(order: Order) -> proto::Order {
    let etag = order.etag();
    let item = |item: Item| proto::OrderItem {
        description: item.description,
        quantity: item.quantity,
        unit_price: item.unit_price.map(money::render),
    };
    let action = |action: Action| proto::OrderAction {
        key: action.key,
        r#type: action.r#type.to_wire(),
        name: action.name,
        automatic: action.automatic,
        prerequisites: action.prerequisites,
        state: action.state.to_wire(),
        step: action.step,
        repeatable: action.repeatable,
        claim: action.claim.map(claim),
    };
    proto::Order {
        id: order.id.to_string(),
        lead_id: order.lead_id.to_string(),
        opportunity_id: order
            .opportunity_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        state: order.state.to_wire(),
        items: order.items.into_iter().map(item).collect(),
        actions: order.actions.into_iter().map(action).collect(),
        etag,
        create_time: Some(time(order.create_time)),
        update_time: Some(time(order.update_time)),
        queue_id: order.queue_id.to_string(),
        step: order.step,
        steps: order.steps.into_iter().map(step).collect(),
        client_id: order.client_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn claim(claim: Claim) -> proto::ActionClaim {
    proto::ActionClaim {
        run_id: claim.run_id.to_string(),
        actor: Some(principal(claim.actor)),
        expire_time: Some(time(claim.expire_time)),
    }
}

/// Renders the outcome of ReportAction.
pub(super) fn reported(
    fulfilled: Fulfilled,
    run: fn(ActionRun) -> proto::ActionRun,
) -> proto::ReportActionResponse {
    proto::ReportActionResponse {
        order: Some(order(fulfilled.order)),
        runs: fulfilled.runs.into_iter().map(run).collect(),
        client: fulfilled.client.and_then(leads::client),
        lead: Some(leads::lead(fulfilled.lead)),
        report: fulfilled.report.map(leads::report),
    }
}

/// Renders the outcome of ReleaseAction.
pub(super) fn released(
    fulfilled: Fulfilled,
    run: fn(ActionRun) -> proto::ActionRun,
) -> proto::ReleaseActionResponse {
    proto::ReleaseActionResponse {
        order: Some(order(fulfilled.order)),
        run: fulfilled.runs.into_iter().next().map(run),
    }
}

/// Renders the outcome of ClaimActions.
pub(super) fn claimed(claimed: Vec<Claimed>) -> proto::ClaimActionsResponse {
    let run = |claimed: Claimed| proto::ClaimedRun {
        id: claimed.run.id.to_string(),
        order_id: claimed.order.id.to_string(),
        action: claimed.run.action,
        expire_time: claimed.run.expire_time.map(time),
        order: Some(order(claimed.order)),
        lead: Some(leads::lead(claimed.lead)),
    };
    proto::ClaimActionsResponse {
        runs: claimed.into_iter().map(run).collect(),
    }
}

/// Renders claims that were only validated, without the ids that are set when they are stored.
pub(super) fn preview_claimed(all: Vec<Claimed>) -> proto::ClaimActionsResponse {
    let mut response = claimed(all);
    for run in &mut response.runs {
        run.id.clear();
        let actions = run.order.iter_mut().flat_map(|order| &mut order.actions);
        let claims = actions.filter(|action| action.key == run.action);
        for claim in claims.filter_map(|action| action.claim.as_mut()) {
            claim.run_id.clear();
        }
    }
    response
}

/// Renders an order that was only validated, without the fields that are set when it is stored.
pub(super) fn preview(order: Order) -> proto::Order {
    proto::Order {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..self::order(order)
    }
}

/// Renders a run that was only validated, without the fields that are set when it is stored.
pub(super) fn preview_run(run: ActionRun) -> proto::ActionRun {
    proto::ActionRun {
        id: String::new(),
        time: None,
        ..self::run(run)
    }
}

/// Renders an entry of the ledger.
pub(super) fn run(run: ActionRun) -> proto::ActionRun {
    proto::ActionRun {
        id: run.id.to_string(),
        order_id: run.order_id.to_string(),
        action: run.action,
        time: Some(time(run.time)),
        actor: Some(principal(run.actor)),
        outcome: run.outcome.to_wire(),
        no_change: run.no_change,
        automatic: run.automatic,
        error_reason: run.error_reason,
        error_message: run.error_message,
        kind: run.kind.to_wire(),
        note: run.note,
        reference: run.reference,
        step: run.step,
        claim_run_id: run
            .claim_run_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        expire_time: run.expire_time.map(time),
    }
}

wire_enum!(
    OrderState = proto::OrderState {
        Processing,
        Complete,
        Canceled
    }
);
wire_enum!(
    RunKind = proto::RunKind {
        Run,
        Skip,
        UndoSkip,
        Move,
        Cancel,
        Comment,
        Claim,
        Release
    }
);
wire_enum!(
    ActionState = proto::ActionState {
        Pending,
        Done,
        Failed,
        Skipped,
        Claimed
    }
);
wire_enum!(RunOutcome = proto::RunOutcome { Succeeded, Failed });
