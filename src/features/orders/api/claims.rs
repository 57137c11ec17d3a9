//! The RPCs of workers.

use tonic::{Request, Response, Status};

use super::{OrderApi, parse, render};
use crate::core::violations::Violations;
use crate::features::order_queues::model::DEFAULT_QUEUE;
use crate::features::orders::Fulfilled;
use crate::features::orders::claims::{ClaimActions, Claimed, ReleaseAction, ReportAction};
use crate::features::orders::model::{MAX_LEASE, MIN_LEASE};
use crate::grpc::{self, find_and_mutate, read, read_and_mutate, set_request_key};
use leadsmith_proto as proto;

impl OrderApi {
    pub(super) async fn claim(
        &self,
        request: Request<proto::ClaimActionsRequest>,
    ) -> Result<Response<proto::ClaimActionsResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let queue_id = read::optional_id(&mut violations, "queue_id", &body.queue_id);
        let wanted = parse::claiming(&mut violations, body.actions, body.retry_failed);
        let max = parse::max_claims(&mut violations, body.max);
        let lease = read::duration(&mut violations, "lease", body.lease, MIN_LEASE, MAX_LEASE);
        violations.finish()?;
        let render: fn(Vec<Claimed>) -> _ = match body.validate_only {
            true => render::preview_claimed,
            false => render::claimed,
        };
        let input = ClaimActions {
            queue_id: queue_id.unwrap_or(DEFAULT_QUEUE),
            wanted,
            max,
            lease,
            validate_only: body.validate_only,
        };
        let prepare = || self.orders.prepare_claim(&input);
        find_and_mutate(&self.commit, &call, prepare, render).await
    }

    pub(super) async fn report(
        &self,
        request: Request<proto::ReportActionRequest>,
    ) -> Result<Response<proto::ReportActionResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let run_id = read::id(&mut violations, "run_id", &body.run_id);
        let (note, reference) = (&body.note, &body.reference);
        let report = parse::report_of_claim(&mut violations, body.outcome, note, reference);
        violations.finish()?;
        let render: fn(Fulfilled) -> _ = match body.validate_only {
            true => |fulfilled| render::reported(fulfilled, render::preview_run),
            false => |fulfilled| render::reported(fulfilled, render::run),
        };
        let input = ReportAction {
            run_id,
            report,
            validate_only: body.validate_only,
        };
        let _converting = self.orders.converting();
        let prepare = || self.orders.prepare_report(&input);
        read_and_mutate(&self.commit, &call, prepare, render).await
    }

    pub(super) async fn release(
        &self,
        request: Request<proto::ReleaseActionRequest>,
    ) -> Result<Response<proto::ReleaseActionResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let run_id = read::id(&mut violations, "run_id", &body.run_id);
        let reason = parse::reason(&mut violations, &body.reason);
        violations.finish()?;
        let render: fn(Fulfilled) -> _ = match body.validate_only {
            true => |fulfilled| render::released(fulfilled, render::preview_run),
            false => |fulfilled| render::released(fulfilled, render::run),
        };
        let input = ReleaseAction {
            run_id,
            reason,
            validate_only: body.validate_only,
        };
        let prepare = || self.orders.prepare_release(&input);
        read_and_mutate(&self.commit, &call, prepare, render).await
    }
}
