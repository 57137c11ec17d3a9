//! The errors of opportunities.

use tonic::Code;
use uuid::Uuid;

use super::model::{Opportunity, OpportunityState, Transition};
use crate::error::{Error, ErrorReason};

/// No opportunity has this id.
pub(super) fn not_found(id: Uuid) -> Error {
    let reason = ErrorReason::OpportunityNotFound;
    Error::not_found(reason, "opportunity", "Opportunity", "opportunity_id", id)
}

/// The lifecycle does not allow this transition in the opportunity's state.
pub(super) fn refused(opportunity: &Opportunity, transition: Transition) -> Error {
    let (id, state) = (opportunity.id, opportunity.state);
    let (reason, message) = match (state, transition) {
        (OpportunityState::Open, _) => (
            ErrorReason::OpportunityOpen,
            "The opportunity is already OPEN. It can be used without reopening it.".to_owned(),
        ),
        (OpportunityState::Won | OpportunityState::Lost, Transition::Close(_)) => (
            ErrorReason::OpportunityClosed,
            format!(
                "The opportunity is already {state}. Reopen it first to close it in another way."
            ),
        ),
        (
            OpportunityState::Won | OpportunityState::Lost,
            Transition::Update | Transition::Reopen,
        ) => (
            ErrorReason::OpportunityClosed,
            format!("The opportunity is {state}. Reopen it first."),
        ),
    };
    Error::new(Code::FailedPrecondition, reason, message)
        .with("current_state", state)
        .with("allowed", state.allowed().join(","))
        .with("opportunity_id", id)
        .precondition(id)
}
