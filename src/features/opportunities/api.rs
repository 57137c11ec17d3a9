//! `OpportunityService`: conversion between messages and domain types.

mod parse;
pub mod render;

use tonic::{Request, Response, Status};

use super::model::{Field, Filter, OpportunityState, View};
use super::{NewOpportunity, Opportunities};
use crate::commit::{GroupCommit, Target};
use crate::core::violations::Violations;
use crate::db::Db;
use crate::features::operators::{self, Ownership};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::{self, mutate, read, set_request_key, target};
use leadsmith_proto::{self as proto, opportunity_service_server::OpportunityService};

/// See `opportunity_service.proto`.
pub struct OpportunityApi {
    /// The use cases.
    pub opportunities: Opportunities,
    /// Commits the changes.
    pub commit: GroupCommit,
    /// Used to look up owners.
    pub db: Db,
    /// Signs page tokens.
    pub page_tokens: PageTokens,
}

/// The maximum number of characters of a reason.
const MAX_REASON: usize = 1_000;

paged!(ListOpportunitiesRequest, ListOpportunityHistoryRequest);

/// The renderer of a response that has only the opportunity.
macro_rules! with_opportunity {
    ($response:ident, $render:path) => {
        |view| proto::$response {
            opportunity: Some($render(view)),
        }
    };
}

#[tonic::async_trait]
impl OpportunityService for OpportunityApi {
    async fn create(
        &self,
        request: Request<proto::CreateOpportunityRequest>,
    ) -> Result<Response<proto::CreateOpportunityResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let (lead_id, details) = parse::new(&mut violations, body.opportunity);
        let owner = ("opportunity.owner_id", details.owner_id.as_str());
        let owner = operators::check_owner(&self.db, &mut violations, owner).await?;
        violations.finish()?;
        let render: fn(View) -> _ = match body.validate_only {
            true => with_opportunity!(CreateOpportunityResponse, render::preview),
            false => with_opportunity!(CreateOpportunityResponse, render::view),
        };
        let new = NewOpportunity {
            lead_id,
            details,
            owner,
            validate_only: body.validate_only,
        };
        mutate(&self.commit, call, super::create(new), render).await
    }

    async fn get(
        &self,
        request: Request<proto::GetOpportunityRequest>,
    ) -> Result<Response<proto::GetOpportunityResponse>, Status> {
        let (call, body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("opportunity", id);
        let view = self.opportunities.get(id).await?;
        Ok(Response::new(proto::GetOpportunityResponse {
            opportunity: Some(render::view(view)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOpportunitiesRequest>,
    ) -> Result<Response<proto::ListOpportunitiesResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let mut states = read::enums(
            &mut violations,
            "states",
            &mut body.states,
            OpportunityState::from_wire,
        );
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        if states.is_empty() {
            states.push(OpportunityState::Open);
        }
        let filter = Filter {
            lead_id: read::optional_id(&mut violations, "lead_id", &body.lead_id),
            client_id: read::optional_id(&mut violations, "client_id", &body.client_id),
            owner_id: read::optional_id(&mut violations, "owner_id", &body.owner_id),
            states,
            stage: parse::stage_filter(&mut violations, body.stage),
            expected_close_before: read::date(
                &mut violations,
                "expected_close_before",
                &body.expected_close_before,
            ),
        };
        violations.finish()?;
        let watch_token = page.watch_token().await?;
        let rows = self.opportunities.list(&filter, page.input()?).await?;
        let page = page.build(rows, |last| last.opportunity.seq, render::view)?;
        Ok(Response::new(proto::ListOpportunitiesResponse {
            opportunities: page.rows,
            next_page_token: page.next_page_token,
            watch_token,
        }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateOpportunityRequest>,
    ) -> Result<Response<proto::UpdateOpportunityResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        set_request_key(&mut call, request_id, &body);
        let mut opportunity = parse::required(&mut violations, body.opportunity);
        let target = Target {
            id: read::id(&mut violations, "opportunity.id", &opportunity.id),
            etag: std::mem::take(&mut opportunity.etag),
            validate_only: body.validate_only,
        };
        let patch = parse::patch(&mut violations, opportunity, body.update_mask);
        let mut owner = Ownership::Allowed;
        if patch.names(Field::OwnerId) {
            let given = ("opportunity.owner_id", patch.values.owner_id.as_str());
            owner = operators::check_owner(&self.db, &mut violations, given).await?;
        }
        violations.finish()?;
        let render = with_opportunity!(UpdateOpportunityResponse, render::view);
        let update = super::update(target, patch, owner);
        mutate(&self.commit, call, update, render).await
    }

    async fn close(
        &self,
        request: Request<proto::CloseOpportunityRequest>,
    ) -> Result<Response<proto::CloseOpportunityResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        let outcome = parse::outcome(&mut violations, body.outcome);
        let reason = read::text(&mut violations, "reason", &body.reason, MAX_REASON);
        violations.finish()?;
        let render = with_opportunity!(CloseOpportunityResponse, render::view);
        let close = super::close(target, outcome, reason);
        mutate(&self.commit, call, close, render).await
    }

    async fn reopen(
        &self,
        request: Request<proto::ReopenOpportunityRequest>,
    ) -> Result<Response<proto::ReopenOpportunityResponse>, Status> {
        let (mut call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let target = target!(violations, call, body);
        violations.finish()?;
        let render = with_opportunity!(ReopenOpportunityResponse, render::view);
        mutate(&self.commit, call, super::reopen(target), render).await
    }

    async fn list_history(
        &self,
        request: Request<proto::ListOpportunityHistoryRequest>,
    ) -> Result<Response<proto::ListOpportunityHistoryResponse>, Status> {
        let (call, mut body) = grpc::open(request)?;
        let mut violations = Violations::default();
        let page = self.page_tokens.page(&mut violations, &call, &mut body);
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        call.notes.about("opportunity", id);
        let rows = self.opportunities.history(id, page.input()?).await?;
        let page = page.build(rows, |last| last.version, grpc::render::entry)?;
        Ok(Response::new(proto::ListOpportunityHistoryResponse {
            entries: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}
