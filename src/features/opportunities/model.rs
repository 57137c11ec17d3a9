//! The opportunity and its rules. Must not depend on messages or on the database.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::call::Principal;
use crate::core::field_change::FieldChange;
use crate::core::money::Money;
use crate::core::text_enum::text_enum;
use crate::features::leads::model::LeadState;

text_enum! {
    /// The state of an opportunity.
    pub enum OpportunityState {
        /// It can still be won.
        Open,
        /// Won.
        Won,
        /// Lost.
        Lost,
    }
}

text_enum! {
    /// The sales stage of an opportunity.
    pub enum Stage {
        /// First contact.
        Contact,
        /// A meeting.
        Meeting,
        /// Negotiation.
        Negotiation,
        /// The customer is about to buy.
        Buying,
        /// Finished.
        Closed,
    }
}

/// The editable fields of an opportunity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "opportunity_service.proto describes them")]
pub struct Details {
    pub name: String,
    pub stage: Stage,
    pub amount: Option<Money>,
    pub probability: Option<i32>,
    pub expected_close_date: Option<NaiveDate>,
    pub owner_id: String,
    pub next_step: String,
    pub description: String,
}

/// The closing of an opportunity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that closed it.
    pub actor: Principal,
    /// The reason.
    pub reason: String,
}

/// A possible sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opportunity {
    /// A UUIDv7.
    pub id: Uuid,
    /// The number that gives the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The lead that it belongs to. It never changes.
    pub lead_id: Uuid,
    /// The version, counted from 1.
    pub version: i64,
    /// Whether it is still open.
    pub state: OpportunityState,
    /// The editable fields.
    #[serde(flatten)]
    pub details: Details,
    /// Set when it is closed.
    pub close: Option<Close>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

impl Opportunity {
    /// The next version as of `time`, without free text, and the fields that contained free text. `None` if
    /// there was none.
    pub fn erased(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        let mut after = self.clone();
        after.version += 1;
        after.update_time = time;
        let details = &mut after.details;
        let mut texts = vec![
            ("name", &mut details.name),
            ("next_step", &mut details.next_step),
            ("description", &mut details.description),
        ];
        texts.extend(
            after
                .close
                .as_mut()
                .map(|close| ("close.reason", &mut close.reason)),
        );
        let mut changes = Vec::new();
        for (path, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            text.clear();
            changes.push(FieldChange::new(path, "", ""));
        }
        (!changes.is_empty()).then_some((after, changes))
    }
}

/// An opportunity with the fields of its lead that every view shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The opportunity.
    pub opportunity: Opportunity,
    /// The display name of the lead.
    pub lead_display_name: String,
    /// The state of the lead.
    pub lead_state: LeadState,
}

/// The filter of List.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only opportunities of this lead.
    pub lead_id: Option<Uuid>,
    /// Only opportunities of this operator.
    pub owner_id: Option<Uuid>,
    /// The states to list, at least one.
    pub states: Vec<OpportunityState>,
}
