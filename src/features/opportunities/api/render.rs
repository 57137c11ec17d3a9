//! Renders opportunities.

use crate::core::etag::etag;
use crate::features::opportunities::model::{Opportunity, OpportunityState, Outcome, Stage, View};
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::money;
use crate::grpc::render::{principal, time};
use leadsmith_proto as proto;

/// Renders an opportunity with its lead's name and state.
pub fn view(view: View) -> proto::Opportunity {
    proto::Opportunity {
        lead_display_name: view.lead_display_name,
        lead_state: view.lead_state.to_wire(),
        ..opportunity(view.opportunity)
    }
}

/// Renders an opportunity without its lead's name and state.
pub fn opportunity(opportunity: Opportunity) -> proto::Opportunity {
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
            stage: close.stage.to_wire(),
        }),
        etag: etag(opportunity.version),
        create_time: Some(time(opportunity.create_time)),
        update_time: Some(time(opportunity.update_time)),
        lead_display_name: String::new(),
        lead_state: 0,
    }
}

/// Renders an opportunity that was only validated, without the fields that are set when it is stored.
pub fn preview(opportunity: View) -> proto::Opportunity {
    proto::Opportunity {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..view(opportunity)
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
wire_enum!(Outcome = proto::OpportunityOutcome { Won, Lost });
