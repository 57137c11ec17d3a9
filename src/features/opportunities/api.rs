//! `OpportunityService`: conversion between messages and domain types.

use crate::grpc::enums::{WireEnum as _, wire_enum};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::model::{Details, Filter, OpportunityState, Stage, View};
use super::{NewOpportunity, Opportunities};
use crate::commit::GroupCommit;
use crate::core::etag::etag;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::features::operators;
use crate::grpc::page::{PageTokens, paged};
use crate::grpc::render::{principal, time};
use crate::grpc::{self, read};
use crate::grpc::{money, mutate, set_request_key};
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

paged!(ListOpportunitiesRequest);

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
        let (lead_id, details) = details(&mut violations, body.opportunity);
        let owner = ("opportunity.owner_id", details.owner_id.as_str());
        let owner = operators::check_owner(&self.db, &mut violations, owner).await?;
        violations.finish()?;
        let render: fn(View) -> _ = if body.validate_only {
            |view| proto::CreateOpportunityResponse {
                opportunity: Some(preview(view)),
            }
        } else {
            |view| proto::CreateOpportunityResponse {
                opportunity: Some(render(view)),
            }
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
            opportunity: Some(render(view)),
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
            owner_id: read::optional_id(&mut violations, "owner_id", &body.owner_id),
            states,
        };
        violations.finish()?;
        let rows = self.opportunities.list(&filter, page.input()?).await?;
        let page = page.build(rows, |last| last.opportunity.seq, render)?;
        Ok(Response::new(proto::ListOpportunitiesResponse {
            opportunities: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

fn details(
    violations: &mut Violations,
    opportunity: Option<proto::Opportunity>,
) -> (Uuid, Details) {
    let given = opportunity.unwrap_or_else(|| {
        violations.add("opportunity", Reason::Required, "is required");
        proto::Opportunity::default()
    });
    let lead_id = read::id(violations, "opportunity.lead_id", &given.lead_id);
    let name = read::text(violations, "opportunity.name", &given.name, 200);
    if name.is_empty() {
        violations.add("opportunity.name", Reason::Required, "is required");
    }
    let stage = if given.stage == 0 {
        Some(Stage::Contact)
    } else {
        Stage::from_wire(given.stage)
    };
    match stage {
        None => violations.add(
            "opportunity.stage",
            Reason::ValueUnknown,
            "is not one of the enum's values",
        ),
        Some(Stage::Closed) => violations.add(
            "opportunity.stage",
            Reason::ValueNotAllowed,
            "must not be CLOSED: a new opportunity is open, so send the stage that it has reached",
        ),
        Some(_) => {}
    }
    if given
        .probability
        .is_some_and(|percent| !(0..=100).contains(&percent))
    {
        violations.add(
            "opportunity.probability",
            Reason::OutOfRange,
            "must be from 0 to 100, or absent",
        );
    }
    let owner_id = read::optional_id(violations, "opportunity.owner_id", &given.owner_id);
    let details = Details {
        name,
        stage: stage.unwrap_or(Stage::Contact),
        amount: given
            .amount
            .map(|amount| money::parse(violations, "opportunity.amount", amount, false)),
        probability: given.probability,
        expected_close_date: read::date(
            violations,
            "opportunity.expected_close_date",
            &given.expected_close_date,
        ),
        owner_id: owner_id.map(|id| id.to_string()).unwrap_or_default(),
        next_step: read::text(violations, "opportunity.next_step", &given.next_step, 500),
        description: read::text(
            violations,
            "opportunity.description",
            &given.description,
            4_096,
        ),
    };
    (lead_id, details)
}

fn render(view: View) -> proto::Opportunity {
    let opportunity = view.opportunity;
    let details = opportunity.details;
    proto::Opportunity {
        id: opportunity.id.to_string(),
        lead_id: opportunity.lead_id.to_string(),
        name: details.name,
        stage: details.stage.to_wire(),
        state: opportunity.state.to_wire(),
        amount: details.amount.map(money::render),
        probability: details.probability,
        expected_close_date: details
            .expected_close_date
            .map(|date| date.to_string())
            .unwrap_or_default(),
        owner_id: details.owner_id,
        next_step: details.next_step,
        description: details.description,
        close: opportunity.close.map(|close| proto::OpportunityClose {
            time: Some(time(close.time)),
            actor: Some(principal(close.actor)),
            reason: close.reason,
        }),
        etag: etag(opportunity.version),
        create_time: Some(time(opportunity.create_time)),
        update_time: Some(time(opportunity.update_time)),
        lead_display_name: view.lead_display_name,
        lead_state: view.lead_state.to_wire(),
    }
}

/// Renders an opportunity that was only validated, without the fields that are set when it is stored.
fn preview(view: View) -> proto::Opportunity {
    proto::Opportunity {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..render(view)
    }
}

wire_enum!(OpportunityState = proto::OpportunityState { Open, Won, Lost });
wire_enum!(
    Stage = proto::OpportunityStage {
        Contact,
        Meeting,
        Negotiation,
        Buying,
        Closed
    }
);
