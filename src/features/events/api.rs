//! `EventService`: conversion between messages and domain types.

mod parse;
pub mod render;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::hub::Hub;
use super::list::{Events, Listed};
use super::watch::{Signal, Watch};
use crate::auth::stream::StreamLease;
use crate::core::violations::Violations;
use crate::error::{Error, Result as CallResult};
use crate::grpc;
use crate::grpc::page::{PageTokens, paged};
use leadsmith_proto::{self as proto, event_service_server::EventService};

/// See `event_service.proto`.
pub struct EventApi {
    /// What the streams share.
    pub hub: Arc<Hub<proto::ChangeEvent>>,
    /// The use cases of the past.
    pub events: Events,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

paged!(ListEventsRequest);

#[tonic::async_trait]
impl EventService for EventApi {
    type WatchStream = BoxStream<'static, Result<proto::WatchEventsResponse, Status>>;

    async fn watch(
        &self,
        mut request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let lease = request.extensions_mut().remove::<StreamLease>();
        let lease = lease.ok_or_else(|| Error::internal("a stream was admitted as a call"))?;
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let asked = parse::watch(&mut violations, &self.hub.tokens, body);
        violations.finish()?;
        let (begin, filter) = asked?.of_role(call.role);
        if let Some(lead_id) = filter.lead_id {
            call.notes.about("lead", lead_id);
        }
        let watch = Watch::open(&self.hub, begin, filter, &lease).await?;
        let messages = stream::unfold(watch, |mut watch| async {
            let signal = watch.next().await?;
            Some((message(signal), watch))
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn list(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let filter = parse::list(&mut violations, &mut body, call.role);
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        violations.finish()?;
        if let Some(lead_id) = filter.lead_id {
            call.notes.about("lead", lead_id);
        }
        let watch_token = page.watch_token().await?;
        let found = self.events.list(&filter, page.input()?).await?;
        let render = |listed: Listed| render::event(listed.event).0;
        let page = page.build_until(found.part, found.end, |last| last.number, render)?;
        Ok(Response::new(proto::ListEventsResponse {
            events: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }
}

fn message(
    signal: CallResult<Signal<proto::ChangeEvent>>,
) -> Result<proto::WatchEventsResponse, Status> {
    use proto::watch_events_response::Item;
    let (item, resume_token) = match signal? {
        Signal::Event(event, token) => (Item::Event(Arc::unwrap_or_clone(event)), token),
        Signal::Checkpoint(token) => (Item::Checkpoint(proto::WatchCheckpoint {}), token),
    };
    Ok(proto::WatchEventsResponse {
        item: Some(item),
        resume_token,
    })
}
