//! `OrderService` on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::model::{
    ACTIONS, Action, ActionRun, ActionState, ActionType, Filter, ITEMS, Item, Order, OrderState,
    find_cycle,
};
use super::{Created, NewOrder, Ran, RunAction};
use crate::changes::RequestKey;
use crate::changes::desk::Desk;
use crate::leads::api::render as leads;
use crate::wire::bounded::Echo;
use crate::wire::money::Money;
use crate::wire::proto::{self, order_service_server::OrderService};
use crate::wire::render::{principal, time};
use crate::wire::violations::{Reason, Violations};
use crate::wire::{self, read};

/// See `order_service.proto`.
pub struct OrderApi(pub Arc<Desk>);

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn create(
        &self,
        request: Request<proto::CreateOrderRequest>,
    ) -> Result<Response<proto::CreateOrderResponse>, Status> {
        let (mut call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        call.key = RequestKey::of(request_id, call.rpc, &body);
        let new = new_order(&mut violations, body.order);
        violations.finish()?;
        let render: fn(Created) -> _ = if body.validate_only {
            |created| render_created(created, unstored)
        } else {
            |created| render_created(created, render)
        };
        let answer = super::create(&self.0, call, new, body.validate_only, render).await?;
        Ok(Response::new(answer))
    }

    async fn get(
        &self,
        request: Request<proto::GetOrderRequest>,
    ) -> Result<Response<proto::GetOrderResponse>, Status> {
        let (_, body) = wire::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        let order = super::get(&self.0, id).await?;
        Ok(Response::new(proto::GetOrderResponse {
            order: Some(render(order)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOrdersRequest>,
    ) -> Result<Response<proto::ListOrdersResponse>, Status> {
        let (call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let states = read::enums(
            &mut violations,
            "states",
            &mut body.states,
            OrderState::from_wire,
        );
        let window = self.0.page_tokens.window(&mut violations, &call, &mut body);
        let filter = Filter {
            lead_id: read::optional_id(&mut violations, "lead_id", &body.lead_id),
            states,
        };
        violations.finish()?;
        let page = super::list(&self.0, &filter, window, render).await?;
        Ok(Response::new(proto::ListOrdersResponse {
            orders: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn run_action(
        &self,
        request: Request<proto::RunActionRequest>,
    ) -> Result<Response<proto::RunActionResponse>, Status> {
        let (mut call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        call.key = RequestKey::of(request_id, call.rpc, &body);
        let order_id = read::id(&mut violations, "order_id", &body.order_id);
        if body.action.is_empty() {
            violations.add(
                "action",
                Reason::Required,
                "is required: give the action's key, such as provision-client",
            );
        }
        violations.finish()?;
        let render: fn(Ran) -> _ = if body.validate_only {
            |ran| render_ran(ran, unstored_run)
        } else {
            |ran| render_ran(ran, run)
        };
        let asked = RunAction {
            order_id,
            action: body.action,
            etag: body.etag,
            validate_only: body.validate_only,
        };
        let answer = super::run_action(&self.0, call, asked, render).await?;
        Ok(Response::new(answer))
    }

    async fn list_runs(
        &self,
        request: Request<proto::ListRunsRequest>,
    ) -> Result<Response<proto::ListRunsResponse>, Status> {
        let (call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let window = self.0.page_tokens.window(&mut violations, &call, &mut body);
        let order_id = read::id(&mut violations, "order_id", &body.order_id);
        violations.finish()?;
        let page = super::list_runs(&self.0, order_id, window, run).await?;
        Ok(Response::new(proto::ListRunsResponse {
            runs: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

fn render_created(
    created: Created,
    order: fn(Order) -> proto::Order,
) -> proto::CreateOrderResponse {
    proto::CreateOrderResponse {
        order: Some(order(created.order)),
        runs: created.runs.into_iter().map(run).collect(),
        client: leads::client(created.lead.clone()),
        lead: Some(leads::lead(created.lead)),
    }
}

fn render_ran(ran: Ran, run: fn(ActionRun) -> proto::ActionRun) -> proto::RunActionResponse {
    proto::RunActionResponse {
        order: Some(render(ran.order)),
        run: Some(run(ran.run)),
        client: leads::client(ran.lead.clone()),
        lead: Some(leads::lead(ran.lead)),
    }
}

fn new_order(violations: &mut Violations, order: Option<proto::Order>) -> NewOrder {
    let order = order.unwrap_or_else(|| {
        violations.add("order", Reason::Required, "is required");
        proto::Order::default()
    });
    NewOrder {
        lead_id: read::id(violations, "order.lead_id", &order.lead_id),
        opportunity_id: read::optional_id(
            violations,
            "order.opportunity_id",
            &order.opportunity_id,
        ),
        items: items(violations, order.items),
        actions: actions(violations, order.actions),
    }
}

fn items(violations: &mut Violations, items: Vec<proto::OrderItem>) -> Vec<Item> {
    if items.len() > ITEMS {
        violations.add(
            "order.items",
            Reason::TooMany,
            format_args!("must be at most {ITEMS}"),
        );
        return Vec::new();
    }
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let field = format!("order.items[{index}]");
        let name = format!("{field}.description");
        let description = read::text(violations, &name, &item.description, 500);
        if description.is_empty() {
            violations.add(name, Reason::Required, "is required");
        }
        if !(1..=1_000_000_000).contains(&item.quantity) {
            violations.add(
                format_args!("{field}.quantity"),
                Reason::OutOfRange,
                "must be from 1 to 1,000,000,000",
            );
        }
        let unit_price = item
            .unit_price
            .map(|price| Money::parse(violations, &format!("{field}.unit_price"), price, true));
        read.push(Item {
            description,
            quantity: item.quantity,
            unit_price,
        });
    }
    read
}

fn actions(violations: &mut Violations, actions: Vec<proto::OrderAction>) -> Vec<Action> {
    if actions.is_empty() {
        return vec![Action::provision_client()];
    }
    if actions.len() > ACTIONS {
        violations.add(
            "order.actions",
            Reason::TooMany,
            format_args!("must be at most {ACTIONS}"),
        );
        return Vec::new();
    }
    let keys: BTreeSet<String> = actions.iter().map(|action| action.key.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(actions.len());
    for (index, action) in actions.into_iter().enumerate() {
        let field = format!("order.actions[{index}]");
        if !is_slug(&action.key) {
            violations.add(
                format_args!("{field}.key"),
                match action.key.as_str() {
                    "" => Reason::Required,
                    _ => Reason::FormatInvalid,
                },
                "must be 1 to 64 characters of a-z, 0-9 and -",
            );
        } else if !seen.insert(action.key.clone()) {
            violations.add(
                format_args!("{field}.key"),
                Reason::NotUnique,
                "must be unique in the order",
            );
        }
        let r#type = ActionType::from_wire(action.r#type).unwrap_or_else(|| {
            violations.add(
                format_args!("{field}.type"),
                Reason::ValueUnknown,
                "must be PROVISION_CLIENT or MANUAL",
            );
            ActionType::Manual
        });
        let prerequisites = prerequisites(violations, &field, action.prerequisites, &keys);
        read.push(Action {
            name: read::text(violations, &format!("{field}.name"), &action.name, 200),
            key: action.key,
            r#type,
            automatic: action.automatic,
            prerequisites,
            state: ActionState::Pending,
        });
    }
    if let Some(key) = find_cycle(&read) {
        let problem = format_args!(
            "wait for each other in a circle, beginning at {}",
            Echo(key)
        );
        violations.add("order.actions", Reason::Cycle, problem);
    }
    read
}

/// The keys of the actions that must be done before, without repetition.
fn prerequisites(
    violations: &mut Violations,
    action: &str,
    mut prerequisites: Vec<String>,
    keys: &BTreeSet<String>,
) -> Vec<String> {
    if prerequisites.len() > ACTIONS {
        violations.add(
            format_args!("{action}.prerequisites"),
            Reason::TooMany,
            format_args!("must be at most {ACTIONS}"),
        );
        return Vec::new();
    }
    for (index, key) in prerequisites.iter().enumerate() {
        if !keys.contains(key) {
            violations.add(
                format_args!("{action}.prerequisites[{index}]"),
                Reason::ReferenceInvalid,
                format_args!("is {}, which is not an action of this order", Echo(key)),
            );
        }
    }
    prerequisites.sort_unstable();
    prerequisites.dedup();
    prerequisites
}

fn is_slug(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn render(order: Order) -> proto::Order {
    let etag = order.etag();
    let item = |item: Item| proto::OrderItem {
        description: item.description,
        quantity: item.quantity,
        unit_price: item.unit_price.map(Money::render),
    };
    let action = |action: Action| proto::OrderAction {
        key: action.key,
        r#type: action.r#type.to_wire(),
        name: action.name,
        automatic: action.automatic,
        prerequisites: action.prerequisites,
        state: action.state.to_wire(),
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
    }
}

/// One that was only to be created: without what it would get by being stored.
fn unstored(order: Order) -> proto::Order {
    proto::Order {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..render(order)
    }
}

/// One that was only to be made: without what it would get by being kept.
fn unstored_run(run: ActionRun) -> proto::ActionRun {
    proto::ActionRun {
        id: String::new(),
        time: None,
        ..self::run(run)
    }
}

fn run(run: ActionRun) -> proto::ActionRun {
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
    }
}
