//! The errors of leads.

use tonic::Code;
use uuid::Uuid;

use super::model::{Lead, LeadState, Transition};
use crate::error::{Error, ErrorReason};

/// No lead has this id.
pub fn not_found(id: Uuid) -> Error {
    Error::not_found(ErrorReason::LeadNotFound, "lead", "Lead", "lead_id", id)
}

/// Another lead has the same email.
pub(super) fn duplicate(lead: &Lead) -> Error {
    let (id, state) = (lead.id, lead.state());
    let next = match state {
        LeadState::Open => "Use that lead",
        LeadState::Deactivated => "Reactivate that lead",
        LeadState::Converted => "Use its client, which has the same id",
    };
    let message = format_args!(
        "The lead {id} already has this email and is {state}. {next}, or set allow_duplicate to create another \
         lead."
    );
    Error::new(Code::AlreadyExists, ErrorReason::DuplicateLead, message)
        .with("lead_id", id)
        .with("state", state)
}

/// The lifecycle does not allow this transition in the lead's state.
pub(super) fn refused(lead: &Lead, transition: Transition) -> Error {
    let (id, state, is_erased) = (lead.id, lead.state(), lead.erasure.is_some());
    let (reason, message) = if is_erased {
        (
            ErrorReason::LeadErased,
            "The lead's personal data is erased, which is final. Create a new lead.".to_owned(),
        )
    } else {
        by_state(id, state, transition)
    };
    let allowed: Vec<&str> = state.allowed(is_erased).map(Transition::rpc).collect();
    let error = Error::new(Code::FailedPrecondition, reason, message)
        .with("current_state", state)
        .with("allowed", allowed.join(","))
        .with("lead_id", id)
        .precondition(id);
    match (state, is_erased) {
        (LeadState::Converted, false) => error.with("client_id", id),
        (LeadState::Open | LeadState::Deactivated, _) | (LeadState::Converted, true) => error,
    }
}

fn by_state(id: Uuid, state: LeadState, transition: Transition) -> (ErrorReason, String) {
    match state {
        LeadState::Open => (
            ErrorReason::LeadNotDeactivated,
            "The lead is already OPEN. It can be used without reactivation.".to_owned(),
        ),
        LeadState::Deactivated => (
            ErrorReason::LeadDeactivated,
            match transition {
                Transition::Deactivate => {
                    "The lead is already DEACTIVATED. Reactivate it to use it again.".to_owned()
                }
                Transition::Update
                | Transition::Reactivate
                | Transition::Convert
                | Transition::ProvisionClient
                | Transition::Attach
                | Transition::Erase => "The lead is DEACTIVATED. Reactivate it first.".to_owned(),
            },
        ),
        LeadState::Converted => (
            ErrorReason::LeadConverted,
            format!("The lead is CONVERTED, which is final. Use the client {id}."),
        ),
    }
}
