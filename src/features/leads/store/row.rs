//! Conversion between a lead and its row.

use sea_orm::ActiveValue::{NotSet, Set};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::text_enum::TextEnum as _;
use crate::db::entities::lead::{ActiveModel, CustomFields, Model};
use crate::db::json::{from_json, to_json};
use crate::error::{Error, Result};
use crate::features::leads::model::{
    Address, Conversion, Deactivation, Details, Erasure, Lead, LeadState, Status, fold,
};

/// A list in a nullable column: NULL if it is empty.
fn list<T: Serialize>(elements: &Vec<T>) -> Result<Option<Value>> {
    match elements.is_empty() {
        true => Ok(None),
        false => to_json(elements).map(Some),
    }
}

/// The elements of such a list.
fn elements<T: DeserializeOwned>(list: Option<Value>) -> Result<Vec<T>> {
    list.map_or_else(|| Ok(Vec::new()), from_json)
}

/// The row of a lead.
pub(super) fn to_row(lead: &Lead) -> Result<ActiveModel> {
    let details = lead.details.clone();
    let (deactivation, conversion) = match &lead.status {
        Status::Open => (None, None),
        Status::Deactivated { deactivation } => (Some(deactivation), None),
        Status::Converted { conversion } => (None, Some(conversion)),
    };
    Ok(ActiveModel {
        seq: NotSet,
        id: Set(lead.id),
        version: Set(lead.version),
        state: Set(lead.state().as_str().to_owned()),
        last_name_key: Set(fold(&details.last_name)),
        company_key: Set(fold(&details.company)),
        email_key: Set(details.email_key()),
        first_name: Set(details.first_name),
        last_name: Set(details.last_name),
        company: Set(details.company),
        email: Set(details.email),
        phone: Set(details.phone),
        fax: Set(details.fax),
        vat_id: Set(details.vat_id),
        street: Set(details.address.street),
        city: Set(details.address.city),
        region: Set(details.address.region),
        postal_code: Set(details.address.postal_code),
        country_code: Set(details.address.country_code),
        language: Set(details.language),
        owner_id: Set(details.owner_id),
        source: Set(details.source),
        custom_fields: Set(CustomFields(details.custom_fields)),
        deactivation_time: Set(deactivation.map(|by| by.time)),
        deactivation_actor: Set(deactivation.map(|by| to_json(&by.actor)).transpose()?),
        deactivation_reason: Set(deactivation.map(|by| by.reason.clone())),
        conversion_time: Set(conversion.map(|by| by.time)),
        conversion_actor: Set(conversion.map(|by| to_json(&by.actor)).transpose()?),
        conversion_order_id: Set(conversion.and_then(|by| by.order_id)),
        conversion_client_id: Set(lead.joined_to()),
        conversion_carried: Set(conversion.map_or(Ok(None), |by| list(&by.carried))?),
        joined_lead_ids: Set(conversion.map_or(Ok(None), |by| list(&by.joined_leads))?),
        create_time: Set(lead.create_time),
        update_time: Set(lead.update_time),
        erasure_time: Set(lead.erasure.as_ref().map(|by| by.time)),
        erasure_actor: Set(match &lead.erasure {
            Some(by) => Some(to_json(&by.actor)?),
            None => None,
        }),
    })
}

/// Converts a row to a lead.
///
/// # Errors `INTERNAL` if this service cannot have written the row.
pub fn from_row(row: Model) -> Result<Lead> {
    let inconsistent = || Error::internal(format!("the row of lead {} contradicts itself", row.id));
    let status = match LeadState::from_text(&row.state).ok_or_else(inconsistent)? {
        LeadState::Open => Status::Open,
        LeadState::Deactivated => Status::Deactivated {
            deactivation: Deactivation {
                time: row.deactivation_time.ok_or_else(inconsistent)?,
                actor: from_json(row.deactivation_actor.clone().ok_or_else(inconsistent)?)?,
                reason: row.deactivation_reason.clone().unwrap_or_default(),
            },
        },
        LeadState::Converted => Status::Converted {
            conversion: Conversion {
                joined_leads: elements(row.joined_lead_ids.clone())?,
                carried: elements(row.conversion_carried.clone())?,
                ..Conversion::new(
                    row.conversion_time.ok_or_else(inconsistent)?,
                    from_json(row.conversion_actor.clone().ok_or_else(inconsistent)?)?,
                    row.conversion_client_id.unwrap_or(row.id),
                    row.conversion_order_id,
                )
            },
        },
    };
    let erasure = match (row.erasure_time, row.erasure_actor.clone()) {
        (Some(time), Some(actor)) => Some(Erasure {
            time,
            actor: from_json(actor)?,
        }),
        _ => None,
    };
    Ok(Lead {
        id: row.id,
        seq: row.seq,
        version: row.version,
        status,
        erasure,
        create_time: row.create_time,
        update_time: row.update_time,
        details: Details {
            first_name: row.first_name,
            last_name: row.last_name,
            company: row.company,
            email: row.email,
            phone: row.phone,
            fax: row.fax,
            vat_id: row.vat_id,
            address: Address {
                street: row.street,
                city: row.city,
                region: row.region,
                postal_code: row.postal_code,
                country_code: row.country_code,
            },
            language: row.language,
            owner_id: row.owner_id,
            source: row.source,
            custom_fields: row.custom_fields.0,
        },
    })
}
