//! `OrderService`: conversion between messages and domain types.

mod claims;
mod parse;
pub mod render;

use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Request, Response, Status};

use super::by_hand::{self, ByHand, Deed};
use super::model::{Filter, OrderState};
use super::{Fulfilled, Orders, RunAction};
use crate::commit::GroupCommit;
use crate::core::violations::Violations;
use crate::features::leads::api::render as leads;
use crate::grpc::enums::WireEnum as _;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate_in_time, read, read_and_mutate, set_request_key};
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

paged!(ListOrdersRequest, ListRunsRequest, ListOrderHistoryRequest);

/// Parses what all changes by hand have in common, with the fields of the order's id and of the reason. It is a macro
/// because the requests share no type.
macro_rules! target {
    ($violations:ident, $call:ident, $body:ident, $id:ident, $note:ident) => {{
        let target = grpc::target!($violations, $call, $body, $id);
        (target, parse::$note(&mut $violations, &$body.$note))
    }};
}

/// The renderer of a response with all entries of the ledger, with or without the fields that are set when they are
/// stored.
macro_rules! with_runs {
    ($response:ident, $run:path) => {
        |fulfilled: Fulfilled| proto::$response {
            order: Some(render::order(fulfilled.order)),
            runs: fulfilled.runs.into_iter().map($run).collect(),
            client: fulfilled.client.and_then(leads::client),
            lead: Some(leads::lead(fulfilled.lead)),
        }
    };
}

/// The renderer of a response with the one entry of the ledger.
macro_rules! with_run {
    ($response:ident, $run:path) => {
        |fulfilled: Fulfilled| proto::$response {
            order: Some(render::order(fulfilled.order)),
            run: fulfilled.runs.into_iter().next().map($run),
        }
    };
}

/// Makes a change by hand, and renders what it would be or what it is.
macro_rules! by_hand {
    ($self:ident, $call:ident, $target:ident, $deed:expr, $with:ident, $response:ident) => {{
        let (target, note) = $target;
        let render: fn(Fulfilled) -> _ = match target.validate_only {
            true => $with!($response, render::preview_run),
            false => $with!($response, render::run),
        };
        let by_hand = ByHand {
            target,
            deed: $deed,
            note,
        };
        mutate_in_time(
            &$self.commit,
            $call,
            |now| by_hand::change(by_hand.clone(), now),
            || $self.orders.time(),
            render,
        )
        .await
    }};
}

/// An example of the key of an action.
const ACTION: &str = "provision-client";
/// An example of the key of a step.
const STEP: &str = "processing";

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
        let queue_id = read::optional_id(&mut violations, "queue_id", &body.queue_id);
        violations.finish()?;
        let render: fn(Fulfilled) -> _ = if body.validate_only {
            |created| render::created(created, render::preview)
        } else {
            |created| render::created(created, render::order)
        };
        let _converting = self.orders.converting();
        let prepare = || self.orders.prepare_create(new.clone(), queue_id);
        read_and_mutate(&self.commit, &call, prepare, render).await
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
            client_id: read::optional_id(&mut violations, "client_id", &body.client_id),
            queue_id: read::optional_id(&mut violations, "queue_id", &body.queue_id),
            step: parse::key_filter(&mut violations, "step", &body.step),
            open_action: parse::key_filter(&mut violations, "open_action", &body.open_action),
            states,
        };
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.orders.list(&filter, page.input()?).await?;
        let page = page.build(rows, |last| last.seq, render::order)?;
        Ok(Response::new(proto::ListOrdersResponse {
            orders: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
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
        let action = parse::key(&mut violations, "action", body.action, ACTION);
        let report = parse::report(&mut violations, body.outcome, &body.note, &body.reference);
        violations.finish()?;
        let render: fn(Fulfilled) -> _ = if body.validate_only {
            |outcome| render::run_action(outcome, render::preview_run)
        } else {
            |outcome| render::run_action(outcome, render::run)
        };
        let input = RunAction {
            order_id,
            action,
            report,
            etag: body.etag,
            validate_only: body.validate_only,
        };
        let _converting = self.orders.converting();
        // The first attempt does without the time, which only a claimed action needs.
        let is_retried = AtomicBool::new(false);
        let prepare = || {
            let is_retried = is_retried.swap(true, Ordering::Relaxed);
            self.orders.prepare_run(input.clone(), is_retried)
        };
        read_and_mutate(&self.commit, &call, prepare, render).await
    }

    async fn claim_actions(
        &self,
        request: Request<proto::ClaimActionsRequest>,
    ) -> Result<Response<proto::ClaimActionsResponse>, Status> {
        self.claim(request).await
    }

    async fn report_action(
        &self,
        request: Request<proto::ReportActionRequest>,
    ) -> Result<Response<proto::ReportActionResponse>, Status> {
        self.report(request).await
    }

    async fn release_action(
        &self,
        request: Request<proto::ReleaseActionRequest>,
    ) -> Result<Response<proto::ReleaseActionResponse>, Status> {
        self.release(request).await
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

    async fn skip_action(
        &self,
        request: Request<proto::SkipActionRequest>,
    ) -> Result<Response<proto::SkipActionResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body, order_id, reason);
        let action = parse::key(&mut violations, "action", body.action, ACTION);
        violations.finish()?;
        by_hand!(
            self,
            call,
            target,
            Deed::Skip(action),
            with_runs,
            SkipActionResponse
        )
    }

    async fn undo_skip(
        &self,
        request: Request<proto::UndoSkipRequest>,
    ) -> Result<Response<proto::UndoSkipResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body, order_id, reason);
        let action = parse::key(&mut violations, "action", body.action, ACTION);
        violations.finish()?;
        by_hand!(
            self,
            call,
            target,
            Deed::UndoSkip(action),
            with_runs,
            UndoSkipResponse
        )
    }

    async fn r#move(
        &self,
        request: Request<proto::MoveOrderRequest>,
    ) -> Result<Response<proto::MoveOrderResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body, order_id, reason);
        let step = parse::key(&mut violations, "step", body.step, STEP);
        violations.finish()?;
        by_hand!(
            self,
            call,
            target,
            Deed::Move(step),
            with_runs,
            MoveOrderResponse
        )
    }

    async fn cancel(
        &self,
        request: Request<proto::CancelOrderRequest>,
    ) -> Result<Response<proto::CancelOrderResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body, id, reason);
        violations.finish()?;
        by_hand!(
            self,
            call,
            target,
            Deed::Cancel,
            with_run,
            CancelOrderResponse
        )
    }

    async fn comment(
        &self,
        request: Request<proto::CommentOrderRequest>,
    ) -> Result<Response<proto::CommentOrderResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body, order_id, text);
        violations.finish()?;
        by_hand!(
            self,
            call,
            target,
            Deed::Comment,
            with_run,
            CommentOrderResponse
        )
    }

    async fn list_history(
        &self,
        request: Request<proto::ListOrderHistoryRequest>,
    ) -> Result<Response<proto::ListOrderHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("order", id);
        let rows = self.orders.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListOrderHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}
