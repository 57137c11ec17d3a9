//! The opportunity, with nothing of the wire or the database in it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Principal;
use crate::changes::FieldChange;
use crate::changes::draft::Versioned;
use crate::leads::model::LeadState;
use crate::wire::money::Money;
use crate::wire::words::{on_the_wire, words};

words! {
    /// Whether an opportunity is still open.
    pub enum OpportunityState {
        /// Still possible.
        Open = "OPEN",
        /// Sold.
        Won = "WON",
        /// Not sold.
        Lost = "LOST",
    }
}

on_the_wire!(
    OpportunityState,
    crate::wire::proto::OpportunityState,
    "OPPORTUNITY_STATE_"
);

words! {
    /// How far an opportunity has come.
    pub enum Stage {
        /// First contact.
        Contact = "CONTACT",
        /// A meeting.
        Meeting = "MEETING",
        /// Negotiating.
        Negotiation = "NEGOTIATION",
        /// About to buy.
        Buying = "BUYING",
        /// Over.
        Closed = "CLOSED",
    }
}

on_the_wire!(
    Stage,
    crate::wire::proto::OpportunityStage,
    "OPPORTUNITY_STAGE_"
);

/// What can be edited of an opportunity.
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

/// Who closed an opportunity, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// When.
    pub time: DateTime<Utc>,
    /// By whom.
    pub actor: Principal,
    /// Why.
    pub reason: String,
}

/// A possible sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opportunity {
    /// A UUIDv7.
    pub id: Uuid,
    /// Its place in the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The lead it belongs to for life.
    pub lead_id: Uuid,
    /// Counts its changes, from 1.
    pub version: i64,
    /// Whether it is still open.
    pub state: OpportunityState,
    /// What can be edited.
    #[serde(flatten)]
    pub details: Details,
    /// Set once it is closed.
    pub close: Option<Close>,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
}

impl Versioned for Opportunity {
    fn id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl Opportunity {
    /// The next version, as of `time`, without what is said in it in free text, and in which fields
    /// that was. None when nothing is said.
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

/// An opportunity with what every view shows of its lead.
#[derive(Clone, Debug)]
pub struct View {
    /// The opportunity.
    pub opportunity: Opportunity,
    /// What the lead is called.
    pub lead_display_name: String,
    /// Where the lead stands.
    pub lead_state: LeadState,
}

/// What List is asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this lead's.
    pub lead_id: Option<Uuid>,
    /// Only this operator's.
    pub owner_id: Option<Uuid>,
    /// The states wanted, at least one.
    pub states: Vec<OpportunityState>,
}
