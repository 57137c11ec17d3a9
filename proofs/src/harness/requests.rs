//! Request messages for every RPC that changes data, each with a request id.

mod orders;

use leadsmith_proto::{
    CloseOpportunityRequest, ConvertLeadRequest, CreateLeadRequest, CreateOpportunityRequest,
    DeactivateLeadRequest, EraseLeadRequest, Lead, Opportunity, OpportunityOutcome,
    ReactivateLeadRequest, ReopenOpportunityRequest, RevertConversionRequest, UpdateLeadRequest,
    UpdateOpportunityRequest,
};

use super::context::PASSWORD;
pub use orders::*;

pub fn create(last_name: &str, request_id: String) -> CreateLeadRequest {
    let lead = Some(Lead {
        last_name: last_name.to_owned(),
        ..Lead::default()
    });
    CreateLeadRequest {
        lead,
        request_id,
        ..Default::default()
    }
}

/// Sets a lead's phone.
pub fn update(id: &str, phone: &str, request_id: String) -> UpdateLeadRequest {
    let lead = Some(Lead {
        id: id.to_owned(),
        phone: phone.to_owned(),
        ..Lead::default()
    });
    UpdateLeadRequest {
        lead,
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["phone".to_owned()],
        }),
        request_id,
        ..Default::default()
    }
}

/// Sets the email of a lead at version 1. The caller must be an operator with [`PASSWORD`].
pub fn update_email(id: &str, email: &str, request_id: String) -> UpdateLeadRequest {
    let lead = Some(Lead {
        id: id.to_owned(),
        email: email.to_owned(),
        etag: "1".to_owned(),
        ..Lead::default()
    });
    UpdateLeadRequest {
        lead,
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["email".to_owned()],
        }),
        current_password: PASSWORD.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn deactivate(id: &str, request_id: String) -> DeactivateLeadRequest {
    DeactivateLeadRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn reactivate(id: &str, request_id: String) -> ReactivateLeadRequest {
    ReactivateLeadRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn convert(id: &str, request_id: String) -> ConvertLeadRequest {
    ConvertLeadRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}

/// Joins a lead to a client.
pub fn convert_into(id: &str, client_id: &str, request_id: String) -> ConvertLeadRequest {
    ConvertLeadRequest {
        client_id: client_id.to_owned(),
        ..convert(id, request_id)
    }
}

pub fn revert_conversion(id: &str, request_id: String) -> RevertConversionRequest {
    RevertConversionRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}

/// The caller must be an operator with [`PASSWORD`].
pub fn erase(id: &str, request_id: String) -> EraseLeadRequest {
    EraseLeadRequest {
        id: id.to_owned(),
        current_password: PASSWORD.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn opportunity(lead_id: &str, name: &str, request_id: String) -> CreateOpportunityRequest {
    let opportunity = Some(Opportunity {
        lead_id: lead_id.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    });
    CreateOpportunityRequest {
        opportunity,
        request_id,
        ..Default::default()
    }
}

/// Sets the next step of an opportunity.
pub fn next_step(id: &str, text: &str, request_id: String) -> UpdateOpportunityRequest {
    let opportunity = Some(Opportunity {
        id: id.to_owned(),
        next_step: text.to_owned(),
        ..Default::default()
    });
    UpdateOpportunityRequest {
        opportunity,
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["next_step".to_owned()],
        }),
        request_id,
        ..Default::default()
    }
}

pub fn close(id: &str, outcome: OpportunityOutcome, request_id: String) -> CloseOpportunityRequest {
    CloseOpportunityRequest {
        id: id.to_owned(),
        outcome: outcome.into(),
        request_id,
        ..Default::default()
    }
}

pub fn reopen(id: &str, request_id: String) -> ReopenOpportunityRequest {
    ReopenOpportunityRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}
