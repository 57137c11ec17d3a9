//! Renders leads, clients and history entries as messages.

use crate::features::leads::duplicates::Duplicate;
use crate::features::leads::model::{
    Address, Conversion, Erasure, FieldOutcome, Lead, LeadState, MAX_TOTAL, Outcome, Report,
    Shared, Status, Total, Trigger,
};
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::render::{principal, time};
use leadsmith_proto as proto;
use uuid::Uuid;

/// Renders a lead.
pub fn lead(lead: Lead) -> proto::Lead {
    let state = lead.state().to_wire();
    let etag = lead.etag();
    let (deactivation, conversion) = match lead.status {
        Status::Open => (None, None),
        Status::Deactivated { deactivation } => (
            Some(proto::Deactivation {
                time: Some(time(deactivation.time)),
                actor: Some(principal(deactivation.actor)),
                reason: deactivation.reason,
            }),
            None,
        ),
        Status::Converted { conversion } => (None, Some(self::conversion(conversion))),
    };
    let details = lead.details;
    proto::Lead {
        id: lead.id.to_string(),
        first_name: details.first_name,
        last_name: details.last_name,
        company: details.company,
        email: details.email,
        phone: details.phone,
        fax: details.fax,
        vat_id: details.vat_id,
        address: address(details.address),
        language: details.language,
        owner_id: details.owner_id,
        source: details.source,
        custom_fields: details.custom_fields,
        state,
        etag,
        create_time: Some(time(lead.create_time)),
        update_time: Some(time(lead.update_time)),
        deactivation,
        conversion,
        erasure: lead.erasure.map(erasure),
    }
}

/// Renders a lead that was only validated, without the fields that are set when it is stored.
pub fn preview(lead: Lead) -> proto::Lead {
    proto::Lead {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..self::lead(lead)
    }
}

/// A client; `None` if the lead is not converted, or was joined to another one.
pub fn client(lead: Lead) -> Option<proto::Client> {
    let etag = lead.etag();
    if !lead.is_client() {
        return None;
    }
    let Status::Converted { conversion } = lead.status else {
        return None;
    };
    let lead_ids = conversion.joined_leads.iter().map(Uuid::to_string);
    let details = lead.details;
    Some(proto::Client {
        id: lead.id.to_string(),
        first_name: details.first_name,
        last_name: details.last_name,
        company: details.company,
        email: details.email,
        phone: details.phone,
        fax: details.fax,
        vat_id: details.vat_id,
        address: address(details.address),
        language: details.language,
        owner_id: details.owner_id,
        source: details.source,
        custom_fields: details.custom_fields,
        lead_ids: lead_ids.collect(),
        convert_time: Some(time(conversion.time)),
        conversion: Some(self::conversion(conversion)),
        erasure: lead.erasure.map(erasure),
        etag,
        create_time: Some(time(lead.create_time)),
        update_time: Some(time(lead.update_time)),
    })
}

/// Renders another lead and what it shares.
pub fn duplicate(duplicate: Duplicate) -> proto::Duplicate {
    let shared = duplicate.shared.into_iter();
    proto::Duplicate {
        lead: Some(lead(duplicate.lead)),
        shared: shared.map(Shared::to_wire).collect(),
    }
}

/// The number of all leads that were counted, at most [`MAX_TOTAL`].
pub fn total_size(total: &Total) -> i32 {
    at_most(total.all())
}

/// The numbers by state.
pub fn state_totals(total: &Total) -> Vec<proto::LeadStateTotal> {
    let by_state = total
        .by_state
        .iter()
        .map(|(state, size)| proto::LeadStateTotal {
            state: state.to_wire(),
            size: at_most(*size),
            size_is_bound: total.is_bound_in_state(*size),
        });
    by_state.collect()
}

fn at_most(size: u64) -> i32 {
    i32::try_from(size.min(MAX_TOTAL)).unwrap_or(i32::MAX)
}

fn conversion(conversion: Conversion) -> proto::Conversion {
    proto::Conversion {
        time: Some(time(conversion.time)),
        actor: Some(principal(conversion.actor)),
        client_id: conversion.client_id.to_string(),
        order_id: conversion
            .order_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        trigger: conversion.trigger.to_wire(),
    }
}

fn erasure(erasure: Erasure) -> proto::Erasure {
    proto::Erasure {
        time: Some(time(erasure.time)),
        actor: Some(principal(erasure.actor)),
    }
}

/// `None` if all fields of the address are empty.
fn address(address: Address) -> Option<proto::Address> {
    (address != Address::default()).then_some(proto::Address {
        street: address.street,
        city: address.city,
        region: address.region,
        postal_code: address.postal_code,
        country_code: address.country_code,
    })
}

/// Renders the report of a conversion.
pub fn report(report: Report) -> proto::ConversionReport {
    let ids = |ids: Vec<Uuid>| ids.iter().map(Uuid::to_string).collect();
    let outcome = |field: FieldOutcome| proto::FieldOutcome {
        outcome: field.outcome.to_wire(),
        field: field.field,
    };
    let look_alikes = report.references.look_alikes.into_iter();
    let look_alikes = look_alikes.map(|other| proto::LookAlike {
        lead_id: other.lead_id.to_string(),
        state: other.state.to_wire(),
        shared: other.shared.into_iter().map(Shared::to_wire).collect(),
    });
    proto::ConversionReport {
        outcomes: report.outcomes.into_iter().map(outcome).collect(),
        opportunity_ids: ids(report.references.opportunity_ids),
        opportunity_count: report.references.opportunity_count,
        order_ids: ids(report.references.order_ids),
        order_count: report.references.order_count,
        look_alikes: look_alikes.collect(),
        look_alikes_omitted: report.references.look_alikes_omitted,
    }
}

wire_enum!(
    LeadState = proto::LeadState {
        Open,
        Deactivated,
        Converted
    }
);
wire_enum!(
    Shared = proto::SharedField {
        Email,
        Phone,
        CompanyAndName
    }
);
wire_enum!(
    Trigger = proto::ConversionTrigger {
        Manual,
        OrderAction
    }
);
wire_enum!(
    Outcome = proto::ConversionOutcome {
        Carried,
        Kept,
        Dropped
    }
);
