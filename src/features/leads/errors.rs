//! The errors of leads.

use chrono::{DateTime, SecondsFormat, Utc};
use tonic::Code;
use uuid::Uuid;

use super::model::{Lead, LeadState, MAX_JOINED_LEADS, Transition};
use crate::error::{Error, ErrorReason};

/// No lead has this id.
pub fn not_found(id: Uuid) -> Error {
    Error::not_found(ErrorReason::LeadNotFound, "lead", "Lead", "lead_id", id)
}

/// Another lead has the same email.
pub(super) fn duplicate(lead: &Lead) -> Error {
    let (id, state) = (lead.id, lead.state());
    let next = match (state, lead.joined_to()) {
        (LeadState::Open, _) => "Use that lead".to_owned(),
        (LeadState::Deactivated, _) => "Reactivate that lead".to_owned(),
        (LeadState::Converted, Some(client_id)) => {
            format!("Use the client {client_id}, to which it was joined")
        }
        (LeadState::Converted, None) => "Use its client, which has the same id".to_owned(),
    };
    let message = format_args!(
        "The lead {id} already has this email and is {state}. {next}, or set allow_duplicate to create another \
         lead."
    );
    let error = Error::new(Code::AlreadyExists, ErrorReason::DuplicateLead, message)
        .with("lead_id", id)
        .with("state", state);
    match lead.conversion() {
        Some(conversion) => error.with("client_id", conversion.client_id),
        None => error,
    }
}

/// No client has this id. `found` is the lead with this id, if there is one.
pub fn client_not_found(id: Uuid, found: Option<&Lead>) -> Error {
    let joined_to = found.and_then(Lead::joined_to);
    let message = match (found, joined_to) {
        (_, Some(client_id)) => format!(
            "The lead {id} is no client of its own: it was joined to the client {client_id}. Use that client."
        ),
        (Some(_), None) => format!(
            "No client has the id {id}: the lead with this id is not converted. Convert it first, or use another \
             client."
        ),
        (None, None) => format!(
            "No client has the id {id}. Check the id, or convert the lead with this id first."
        ),
    };
    let error = Error::new(Code::NotFound, ErrorReason::ClientNotFound, message)
        .with("client_id", joined_to.unwrap_or(id))
        .resource("Client", id);
    match joined_to {
        Some(_) => error.with("lead_id", id),
        None => error,
    }
}

/// The client's personal data is erased, so no lead is joined to it.
pub(super) fn client_erased(client: &Lead) -> Error {
    let id = client.id;
    let message = format_args!(
        "The personal data of the client {id} is erased, which is final. Convert the lead to a client of its own, or \
         into another client."
    );
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::LeadErased);
    Error::new(code, reason, message)
        .with("current_state", client.state())
        .with("allowed", "")
        .with("lead_id", id)
        .precondition(id)
}

/// As many leads as possible are joined to the client.
pub(super) fn client_full(client_id: Uuid) -> Error {
    let message = format_args!(
        "{MAX_JOINED_LEADS} leads are joined to the client {client_id}, which is the most. Convert the lead to a client \
         of its own, or into another client."
    );
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::ClientFull);
    Error::new(code, reason, message)
        .with("client_id", client_id)
        .with("limit", MAX_JOINED_LEADS)
        .precondition(client_id)
}

/// Why a conversion cannot be reverted any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Settled {
    /// The time to revert it is over: it ended then. `None` if reverting is switched off.
    Period(Option<DateTime<Utc>>),
    /// This order of the lead is COMPLETE.
    OrderComplete(Uuid),
    /// This lead was joined to it.
    Joined(Uuid),
}

/// The conversion cannot be reverted any more.
pub(super) fn conversion_settled(lead: &Lead, cause: Settled) -> Error {
    let (name, message) = match cause {
        Settled::Period(None) => (
            "period",
            "Conversions cannot be reverted here: the administrator has switched it off. Continue with the client."
                .to_owned(),
        ),
        Settled::Period(Some(end)) => (
            "period",
            format!(
                "The conversion could be reverted until {}. Continue with the client.",
                end.to_rfc3339_opts(SecondsFormat::Secs, true)
            ),
        ),
        Settled::OrderComplete(order_id) => (
            "order_complete",
            format!(
                "The order {order_id} of this lead is COMPLETE, so the conversion stays. Continue with the client."
            ),
        ),
        Settled::Joined(lead_id) => (
            "joined",
            format!(
                "The lead {lead_id} was joined to this client. Revert the conversion of that lead first, or continue \
                 with the client."
            ),
        ),
    };
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::ConversionSettled);
    let error = Error::new(code, reason, message)
        .with("cause", name)
        .with("lead_id", lead.id)
        .precondition(lead.id);
    match cause {
        Settled::Period(None) => error,
        Settled::Period(Some(end)) => {
            let end = end.to_rfc3339_opts(SecondsFormat::Micros, true);
            error.with("end_time", end)
        }
        Settled::OrderComplete(order_id) => error.with("order_id", order_id),
        Settled::Joined(lead_id) => error.with("joined_lead_id", lead_id),
    }
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
        by_state(lead, transition)
    };
    let allowed: Vec<&str> = state.allowed(is_erased).map(Transition::rpc).collect();
    let error = Error::new(Code::FailedPrecondition, reason, message)
        .with("current_state", state)
        .with("allowed", allowed.join(","))
        .with("lead_id", id)
        .precondition(id);
    match lead.conversion().filter(|_| !is_erased) {
        Some(conversion) => error.with("client_id", conversion.client_id),
        None => error,
    }
}

fn by_state(lead: &Lead, transition: Transition) -> (ErrorReason, String) {
    if transition == Transition::RevertConversion {
        let state = lead.state();
        return (
            ErrorReason::LeadNotConverted,
            format!("The lead is {state}, so there is no conversion to revert."),
        );
    }
    match lead.state() {
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
                | Transition::RevertConversion
                | Transition::Attach
                | Transition::Erase => "The lead is DEACTIVATED. Reactivate it first.".to_owned(),
            },
        ),
        LeadState::Converted => (
            ErrorReason::LeadConverted,
            format!(
                "The lead is CONVERTED. Use the client {}, or revert the conversion.",
                lead.conversion().map_or(lead.id, |by| by.client_id)
            ),
        ),
    }
}
