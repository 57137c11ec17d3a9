//! `OpportunityService` on the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::NewOpportunity;
use super::model::{Details, Filter, OpportunityState, Stage, View};
use crate::changes::desk::Desk;
use crate::changes::{self, RequestKey};
use crate::operators;
use crate::wire::money::Money;
use crate::wire::proto::{self, opportunity_service_server::OpportunityService};
use crate::wire::render::{principal, time};
use crate::wire::violations::{Reason, Violations};
use crate::wire::{self, read};

/// See `opportunity_service.proto`.
pub struct OpportunityApi(pub Arc<Desk>);

#[tonic::async_trait]
impl OpportunityService for OpportunityApi {
    async fn create(
        &self,
        request: Request<proto::CreateOpportunityRequest>,
    ) -> Result<Response<proto::CreateOpportunityResponse>, Status> {
        let (mut call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let request_id = read::request_id(&mut violations, &mut body.request_id);
        call.key = RequestKey::of(request_id, call.rpc, &body);
        let (lead_id, details) = details(&mut violations, body.opportunity);
        let owner = ("opportunity.owner_id", details.owner_id.as_str());
        let owner = operators::check_owner(&self.0, &mut violations, owner).await?;
        violations.finish()?;
        let render: fn(View) -> _ = if body.validate_only {
            |view| proto::CreateOpportunityResponse {
                opportunity: Some(unstored(view)),
            }
        } else {
            |view| proto::CreateOpportunityResponse {
                opportunity: Some(render(view)),
            }
        };
        let validate_only = body.validate_only;
        let new = NewOpportunity {
            lead_id,
            details,
            owner,
        };
        let answer = super::create(&self.0, call, new, validate_only, render).await?;
        Ok(Response::new(answer))
    }

    async fn get(
        &self,
        request: Request<proto::GetOpportunityRequest>,
    ) -> Result<Response<proto::GetOpportunityResponse>, Status> {
        let (_, body) = wire::open(request)?;
        let mut violations = Violations::default();
        let id = read::id(&mut violations, "id", &body.id);
        violations.finish()?;
        let view = super::get(&self.0, id).await?;
        Ok(Response::new(proto::GetOpportunityResponse {
            opportunity: Some(render(view)),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListOpportunitiesRequest>,
    ) -> Result<Response<proto::ListOpportunitiesResponse>, Status> {
        let (call, mut body) = wire::open(request)?;
        let mut violations = Violations::default();
        let mut states = read::enums(
            &mut violations,
            "states",
            &mut body.states,
            OpportunityState::from_wire,
        );
        let window = self.0.page_tokens.window(&mut violations, &call, &mut body);
        if states.is_empty() {
            states.push(OpportunityState::Open);
        }
        let filter = Filter {
            lead_id: read::optional_id(&mut violations, "lead_id", &body.lead_id),
            owner_id: read::optional_id(&mut violations, "owner_id", &body.owner_id),
            states,
        };
        violations.finish()?;
        let page = super::list(&self.0, &filter, window, render).await?;
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
            "must not be CLOSED: a new opportunity is open, so give the stage it has reached",
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
            .map(|amount| Money::parse(violations, "opportunity.amount", amount, false)),
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
        amount: details.amount.map(Money::render),
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
        etag: changes::etag(opportunity.version),
        create_time: Some(time(opportunity.create_time)),
        update_time: Some(time(opportunity.update_time)),
        lead_display_name: view.lead_display_name,
        lead_state: view.lead_state.to_wire(),
    }
}

/// One that was only to be created: without what it would get by being stored.
fn unstored(view: View) -> proto::Opportunity {
    proto::Opportunity {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..render(view)
    }
}
