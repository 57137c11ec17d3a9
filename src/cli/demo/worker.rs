//! A worker, as a backend of the demo's owner would run one: it claims the EXTERNAL actions of a queue and reports them.
//! It is a client of the demo's server like any other.

use std::net::SocketAddr;
use std::time::Duration;

use leadsmith_proto::order_service_client::OrderServiceClient;
use leadsmith_proto::{ClaimActionsRequest, ReportActionRequest, RunOutcome};
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::config::StartupError;

/// The key of the action that it does.
pub(super) const ACTION: &str = "add-services";
/// How long its claims last, in seconds.
const LEASE: i64 = 30;
/// How often it looks for work. The demo's user waits for it.
const POLL: Duration = Duration::from_millis(300);

/// A worker of one queue.
pub(super) struct Worker {
    /// The queue.
    pub queue_id: Uuid,
    /// The API key of its service account.
    pub key: String,
}

impl Worker {
    /// Works until the handle is dropped.
    pub(super) fn start(self, address: SocketAddr) -> Result<AbortOnDropHandle<()>, StartupError> {
        let failed = |why: &dyn std::fmt::Display| {
            StartupError::new(format!("the demo's worker cannot start: {why}"))
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.map_err(|error| failed(&error))?.connect_lazy();
        let token = format!("Bearer {}", self.key).parse();
        let token = token.map_err(|error| failed(&error))?;
        let work = async move {
            loop {
                // After an error it tries again. What was claimed and not reported is free again after the lease.
                let _ = self.work(channel.clone(), &token).await;
                tokio::time::sleep(POLL).await;
            }
        };
        Ok(AbortOnDropHandle::new(tokio::spawn(work)))
    }

    /// Claims what there is, and reports it as done.
    async fn work(&self, channel: Channel, token: &MetadataValue<Ascii>) -> Result<(), Status> {
        let mut orders = OrderServiceClient::new(channel);
        let claim = ClaimActionsRequest {
            queue_id: self.queue_id.to_string(),
            actions: vec![ACTION.to_owned()],
            max: 10,
            lease: Some(prost_types::Duration {
                seconds: LEASE,
                nanos: 0,
            }),
            ..Default::default()
        };
        let claimed = orders.claim_actions(with_token(claim, token)).await?;
        for run in claimed.into_inner().runs {
            // The services of the demo exist in its text only.
            let items = run.order.map_or(0, |order| order.items.len());
            let report = ReportActionRequest {
                run_id: run.id.clone(),
                outcome: RunOutcome::Succeeded.into(),
                note: format!("Added the services of {items} items"),
                reference: format!(
                    "DEMO-{}",
                    run.order_id.chars().rev().take(4).collect::<String>()
                ),
                // The id of the claim is a UUID that no other report has.
                request_id: run.id,
                ..Default::default()
            };
            orders.report_action(with_token(report, token)).await?;
        }
        Ok(())
    }
}

/// A request with the worker's key, and a deadline.
fn with_token<T>(body: T, token: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(body);
    request
        .metadata_mut()
        .insert("authorization", token.clone());
    request.set_timeout(Duration::from_secs(5));
    request
}
