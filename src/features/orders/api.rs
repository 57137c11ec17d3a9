//! `OrderService`: conversion between messages and domain types.

mod parse;
mod render;

use tonic::{Request, Response, Status};

use super::model::{Filter, OrderState};
use super::{CreatedOrder, Orders, RunAction, RunActionOutcome};
use crate::commit::GroupCommit;
use crate::core::violations::{Reason, Violations};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate, read, set_request_key};
use leadsmith_proto::{self as proto, order_service_server::OrderService};

/// See `order_service.proto`.
pub struct OrderApi {
    /// The use cases.
    pub orders: Orders,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(ListOrdersRequest, ListRunsRequest);

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn create(
        &self,
        request: Request<proto::CreateOrderRequest>,
    ) -> Result<Response<proto::CreateOrderResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let new = parse::new_order(&mut violations, body.order, body.validate_only);
        violations.finish()?;
        let render: fn(CreatedOrder) -> _ = if body.validate_only {
            |created| render::created(created, render::preview)
        } else {
            |created| render::created(created, render::order)
        };
        mutate(&self.commit, call, super::create(new), render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetOrderRequest>,
    ) -> Result<Response<proto::GetOrderResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("order", id);
        let order = self.orders.get(id).await?;
        Ok(Response::new(proto::GetOrderResponse {
            order: Some(render::order(order)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOrdersRequest>,
    ) -> Result<Response<proto::ListOrdersResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let states = read::enums(
            &mut violations,
            "states",
            &mut body.states,
            OrderState::from_wire,
        );
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let filter = Filter {
            lead_id: read::optional_id(&mut violations, "lead_id", &body.lead_id),
            states,
        };
        violations.finish()?;
        let rows = self.orders.list(&filter, page.input()?).await?;
        let page = page.build(rows, |last| last.seq, render::order)?;
        Ok(Response::new(proto::ListOrdersResponse {
            orders: page.rows,
            next_page_token: page.next_page_token,
        }))
    }

    async fn run_action(
        &self,
        request: Request<proto::RunActionRequest>,
    ) -> Result<Response<proto::RunActionResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let order_id = read::id(&mut violations, "order_id", &body.order_id);
        if body.action.is_empty() {
            violations.add(
                "action",
                Reason::Required,
                "is required: send the action's key, such as provision-client",
            );
        }
        violations.finish()?;
        let render: fn(RunActionOutcome) -> _ = if body.validate_only {
            |outcome| render::run_action(outcome, render::preview_run)
        } else {
            |outcome| render::run_action(outcome, render::run)
        };
        let input = RunAction {
            order_id,
            action: body.action,
            etag: body.etag,
            validate_only: body.validate_only,
        };
        mutate(&self.commit, call, super::run_action(input), render).await
    }

    async fn list_runs(
        &self,
        request: Request<proto::ListRunsRequest>,
    ) -> Result<Response<proto::ListRunsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let order_id = read::id(&mut violations, "order_id", &body.order_id);
        violations.finish()?;
        call.notes.about("order", order_id);
        let rows = self.orders.runs(order_id, page.input()?).await?;
        let page = page.build(rows, |last| last.seq, render::run)?;
        Ok(Response::new(proto::ListRunsResponse {
            runs: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}
