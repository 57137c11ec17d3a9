//! The conversion of a lead: to a client of its own, or into a client that exists, to which it is then joined.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::details::{custom_key, custom_path};
use super::{Details, FIELDS, LeadState, MAX_CUSTOM_FIELDS, Mask, Shared};
use crate::core::call::Principal;
use crate::core::text_enum::text_enum;

/// The maximum number of leads that are joined to one client.
pub const MAX_JOINED_LEADS: usize = 100;
/// The maximum number of opportunities, and of orders, that a report lists.
pub const MAX_REPORTED: usize = 100;
/// The maximum number of look-alikes that a report lists.
pub const MAX_LOOK_ALIKES: u64 = 20;

text_enum! {
    /// The method of a conversion.
    pub enum Trigger {
        /// By the Convert RPC.
        Manual,
        /// By an order's PROVISION_CLIENT action.
        OrderAction,
    }
}

/// The conversion of a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that converted it.
    pub actor: Principal,
    /// The client's id: the lead's own, or that of the client that it was joined to.
    pub client_id: Uuid,
    /// The order whose action converted it; `None` for the Convert RPC.
    pub order_id: Option<Uuid>,
    /// The method.
    pub trigger: Trigger,
    /// Of a client: the leads that were joined to it, in this order.
    #[serde(default, rename = "lead_ids", skip_serializing_if = "Vec::is_empty")]
    pub joined_leads: Vec<Uuid>,
    /// Of a joined lead: what the client got from it, to restore what the client had before. It is in no event and no
    /// history: there it would have to be erased too.
    #[serde(skip)]
    pub carried: Vec<Carried>,
}

impl Conversion {
    /// A conversion to the client `client_id`; `order_id` is the order whose action converted the lead.
    pub fn new(
        time: DateTime<Utc>,
        actor: Principal,
        client_id: Uuid,
        order_id: Option<Uuid>,
    ) -> Self {
        let trigger = match order_id {
            Some(_) => Trigger::OrderAction,
            None => Trigger::Manual,
        };
        Self {
            time,
            actor,
            client_id,
            order_id,
            trigger,
            joined_leads: Vec::new(),
            carried: Vec::new(),
        }
    }
}

/// A field of a client that was filled or overwritten with the value of a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The path, as in update masks.
    pub field: String,
    /// The client's value before; may be empty.
    pub old_value: String,
    /// The lead's value.
    pub new_value: String,
}

/// What a conversion made of a field of the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client has it from the lead.
    Carried,
    /// The client's own value stays. It may be the same.
    Kept,
    /// The client has no place for it.
    Dropped,
}

/// The outcome of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOutcome {
    /// The path, as in update masks.
    pub field: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// A client's fields after it got those of a lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The client's fields.
    pub details: Details,
    /// One for each field in which the lead has a value.
    pub outcomes: Vec<FieldOutcome>,
    /// What was filled or overwritten.
    pub carried: Vec<Carried>,
}

impl Merge {
    /// A lead that becomes its own client keeps everything.
    pub fn own(lead: &Details) -> Self {
        Self {
            details: lead.clone(),
            outcomes: fields_of(lead, |_| Outcome::Carried),
            carried: Vec::new(),
        }
    }

    /// Fills the empty fields of a client from a lead, and overwrites those that the mask names. A field in which the
    /// lead has no value stays as it is, even if it is named.
    pub fn into_client(lead: &Details, client: &Details, overwrite: &Mask) -> Self {
        let (mut details, mut carried) = (client.clone(), Vec::new());
        let outcomes = fields_of(lead, |path| {
            let new_value = value_of(lead, path);
            let old_value = value_of(&details, path);
            let named = match custom_key(path) {
                Some(key) => overwrite.names_custom(key),
                None => overwrite.names(path),
            };
            if old_value == new_value || !(old_value.is_empty() || named) {
                return Outcome::Kept;
            }
            let is_full = details.custom_fields.len() >= MAX_CUSTOM_FIELDS;
            if custom_key(path).is_some() && old_value.is_empty() && is_full {
                return Outcome::Dropped;
            }
            set(&mut details, path, &new_value);
            carried.push(Carried {
                field: path.to_owned(),
                old_value,
                new_value,
            });
            Outcome::Carried
        });
        Self {
            details,
            outcomes,
            carried,
        }
    }
}

/// The fields of a client without what it got from a lead, where nobody has changed it since.
pub fn restored(client: &Details, carried: &[Carried]) -> Details {
    let mut details = client.clone();
    for field in carried {
        if value_of(&details, &field.field) == field.new_value {
            set(&mut details, &field.field, &field.old_value);
        }
    }
    details
}

/// The outcomes of the fields in which a lead has a value: text fields, then custom fields by key.
fn fields_of(lead: &Details, mut outcome: impl FnMut(&str) -> Outcome) -> Vec<FieldOutcome> {
    let texts = FIELDS.iter().filter(|field| !field.of(lead).is_empty());
    let texts = texts.map(|field| field.path.to_owned());
    let custom = lead.custom_fields.keys().map(|key| custom_path(key));
    let all = texts.chain(custom).map(|field| FieldOutcome {
        outcome: outcome(&field),
        field,
    });
    all.collect()
}

/// The value at a path; empty if there is none.
fn value_of(details: &Details, path: &str) -> String {
    let value = match custom_key(path) {
        Some(key) => details.custom_fields.get(key),
        None => {
            let field = FIELDS.iter().find(|field| field.path == path);
            field.map(|field| field.of(details))
        }
    };
    value.cloned().unwrap_or_default()
}

fn set(details: &mut Details, path: &str, value: &str) {
    match custom_key(path) {
        Some(key) if value.is_empty() => {
            details.custom_fields.remove(key);
        }
        Some(key) => {
            details
                .custom_fields
                .insert(key.to_owned(), value.to_owned());
        }
        None => {
            if let Some(field) = FIELDS.iter().find(|field| field.path == path) {
                value.clone_into(field.of_mut(details));
            }
        }
    }
}

/// What refers to a lead, newest first: at most [`MAX_REPORTED`] ids each, and how many there are; and the newest
/// [`MAX_LOOK_ALIKES`] of the leads that look like it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "lead_service.proto describes them")]
pub struct References {
    pub opportunity_ids: Vec<Uuid>,
    pub opportunity_count: i64,
    pub order_ids: Vec<Uuid>,
    pub order_count: i64,
    pub look_alikes: Vec<LookAlike>,
    pub look_alikes_omitted: bool,
}

/// Another lead that looks like a converted one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "lead_service.proto describes them")]
pub struct LookAlike {
    pub lead_id: Uuid,
    pub state: LeadState,
    pub shared: Vec<Shared>,
}

impl References {
    /// Adds an order that was created since.
    #[must_use]
    pub fn with_order(mut self, id: Uuid) -> Self {
        self.order_ids.insert(0, id);
        self.order_ids.truncate(MAX_REPORTED);
        self.order_count += 1;
        self
    }
}

/// What a conversion did, without any personal value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of each field of the lead.
    pub outcomes: Vec<FieldOutcome>,
    /// What refers to the lead.
    pub references: References,
    // The other leads that look like it belong here: they are read beside the references, and the report gets them
    // as they are.
}

#[cfg(test)]
mod tests;
