//! `OrderQueueService`: conversion between messages and domain types.

pub mod parse;
pub mod render;

use tonic::{Request, Response, Status};

use super::OrderQueues;
use super::model::OrderQueue;
use crate::commit::{GroupCommit, Record as _, Target};
use crate::core::violations::{Reason, Violations};
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate, read, set_request_key, target};
use leadsmith_proto::{self as proto, order_queue_service_server::OrderQueueService};

/// See `order_queue_service.proto`.
pub struct OrderQueueApi {
    /// The use cases.
    pub queues: OrderQueues,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(ListOrderQueuesRequest, ListOrderQueueHistoryRequest);

/// The renderer of a response that has only the queue.
macro_rules! with_queue {
    ($response:ident) => {
        |queue| proto::$response {
            order_queue: Some(render::queue(queue)),
        }
    };
}

#[tonic::async_trait]
impl OrderQueueService for OrderQueueApi {
    async fn create(
        &self,
        request: Request<proto::CreateOrderQueueRequest>,
    ) -> Result<Response<proto::CreateOrderQueueResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(OrderQueue::NAME);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let new = parse::new_queue(&mut violations, body.order_queue, body.validate_only);
        violations.finish()?;
        let render: fn(OrderQueue) -> _ = if new.validate_only {
            |queue| proto::CreateOrderQueueResponse {
                order_queue: Some(render::preview(queue)),
            }
        } else {
            with_queue!(CreateOrderQueueResponse)
        };
        mutate(&self.commit, call, super::create(new), render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetOrderQueueRequest>,
    ) -> Result<Response<proto::GetOrderQueueResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(OrderQueue::NAME, id);
        let queue = self.queues.get(id).await?;
        Ok(Response::new(proto::GetOrderQueueResponse {
            order_queue: Some(render::queue(queue)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOrderQueuesRequest>,
    ) -> Result<Response<proto::ListOrderQueuesResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.queues.list(body.include_archived, page.input()?);
        let page = page.build(rows.await?, |last| last.id, render::queue)?;
        Ok(Response::new(proto::ListOrderQueuesResponse {
            order_queues: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateOrderQueueRequest>,
    ) -> Result<Response<proto::UpdateOrderQueueResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(OrderQueue::NAME);
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let queue = body.order_queue.unwrap_or_else(|| {
            violations.add("order_queue", Reason::Required, "is required");
            proto::OrderQueue::default()
        });
        let target = Target {
            id: read::id(&mut violations, "order_queue.id", &queue.id),
            etag: queue.etag.clone(),
            validate_only: body.validate_only,
        };
        let patch = parse::patch(&mut violations, queue, body.update_mask);
        violations.finish()?;
        let render = with_queue!(UpdateOrderQueueResponse);
        mutate(&self.commit, call, super::update(target, patch), render).await
    }

    async fn archive(
        &self,
        request: Request<proto::ArchiveOrderQueueRequest>,
    ) -> Result<Response<proto::ArchiveOrderQueueResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(OrderQueue::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_queue!(ArchiveOrderQueueResponse);
        mutate(&self.commit, call, super::archive(target), render).await
    }

    async fn unarchive(
        &self,
        request: Request<proto::UnarchiveOrderQueueRequest>,
    ) -> Result<Response<proto::UnarchiveOrderQueueResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        call.notes.root_kind(OrderQueue::NAME);
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_queue!(UnarchiveOrderQueueResponse);
        mutate(&self.commit, call, super::unarchive(target), render).await
    }

    async fn list_history(
        &self,
        request: Request<proto::ListOrderQueueHistoryRequest>,
    ) -> Result<Response<proto::ListOrderQueueHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about(OrderQueue::NAME, id);
        let rows = self.queues.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListOrderQueueHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}
