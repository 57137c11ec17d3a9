//! The opportunity and its rules. Must not depend on messages or on the database.

mod details;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::errors;
use crate::core::call::Principal;
use crate::core::field_change::FieldChange;
use crate::core::text_enum::text_enum;
use crate::error::Result;
use crate::features::leads::model::{Lead, LeadState};

pub use details::{Details, Field, Patch, Stage};

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
    /// How an opportunity is closed.
    pub enum Outcome {
        /// Sold.
        Won,
        /// Not sold.
        Lost,
    }
}

/// An operation on an opportunity that depends on its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Edit its fields.
    Update,
    /// Close it.
    Close(Outcome),
    /// Reopen it.
    Reopen,
}

/// The effect of a transition in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It leads to this state, which may be the same one.
    To(OpportunityState),
    /// It is refused.
    Refused,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 4] = [
        Self::Update,
        Self::Close(Outcome::Won),
        Self::Close(Outcome::Lost),
        Self::Reopen,
    ];

    /// The RPC that requests it.
    pub const fn rpc(self) -> &'static str {
        match self {
            Self::Update => "Update",
            Self::Close(_) => "Close",
            Self::Reopen => "Reopen",
        }
    }
}

impl OpportunityState {
    /// The effect of a transition in this state: the whole lifecycle. Whether the lead allows a change is up to
    /// [`LeadState::effect`].
    pub const fn effect(self, transition: Transition) -> Effect {
        use {Effect as E, OpportunityState as S, Transition as T};
        match (self, transition) {
            (S::Open, T::Update) | (S::Won | S::Lost, T::Reopen) => E::To(S::Open),
            (S::Open, T::Close(Outcome::Won)) => E::To(S::Won),
            (S::Open, T::Close(Outcome::Lost)) => E::To(S::Lost),
            (S::Open, T::Reopen) | (S::Won | S::Lost, T::Update | T::Close(_)) => E::Refused,
        }
    }

    /// Whether opportunities in this state can be in a stage: those that are closed are in the stage CLOSED, and
    /// no others.
    pub fn admits(self, stage: Stage) -> bool {
        (self == Self::Open) == (stage != Stage::Closed)
    }

    /// The RPCs that are allowed in this state.
    pub fn allowed(self) -> Vec<&'static str> {
        let all = Transition::ALL.into_iter();
        let allowed = all.filter(|transition| self.effect(*transition) != Effect::Refused);
        let mut rpcs: Vec<&str> = allowed.map(Transition::rpc).collect();
        rpcs.dedup();
        rpcs
    }
}

/// The closing of an opportunity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that closed it.
    pub actor: Principal,
    /// The reason; may be empty.
    pub reason: String,
    /// The stage that it had, in which it is reopened.
    pub stage: Stage,
}

/// A possible sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Set while it is closed.
    pub close: Option<Close>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

impl Opportunity {
    /// Returns the state that a transition leads to.
    ///
    /// # Errors
    /// `OPPORTUNITY_CLOSED` or `OPPORTUNITY_OPEN`, if the lifecycle does not allow it.
    pub fn effect(&self, transition: Transition) -> Result<OpportunityState> {
        match self.state.effect(transition) {
            Effect::To(state) => Ok(state),
            Effect::Refused => Err(errors::refused(self, transition)),
        }
    }

    /// Closes it: the stage that it had is kept in `close`.
    pub fn closed(&self, state: OpportunityState, close: Close) -> Self {
        let mut after = self.clone();
        after.state = state;
        after.close = Some(close);
        after.details.stage = Stage::Closed;
        after
    }

    /// Reopens it in the stage that it had.
    pub fn reopened(&self, state: OpportunityState) -> Self {
        let mut after = self.clone();
        after.state = state;
        if let Some(close) = after.close.take() {
            after.details.stage = close.stage;
        }
        after
    }

    /// The differences from `before`, for the history.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let reason = |of: &Self| {
            let close = of.close.as_ref();
            close.map(|close| close.reason.clone()).unwrap_or_default()
        };
        let mut changes = Vec::new();
        let mut compare = |field: &str, before: String, after: String| {
            if before != after {
                changes.push(FieldChange::new(field, before, after));
            }
        };
        compare("state", before.state.to_string(), self.state.to_string());
        compare("close.reason", reason(before), reason(self));
        changes.extend(self.details.changes_from(&before.details));
        changes
    }

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

impl View {
    /// An opportunity with the fields of its lead.
    pub fn of(opportunity: Opportunity, lead: &Lead) -> Self {
        Self {
            opportunity,
            lead_display_name: lead.details.display_name(),
            lead_state: lead.state(),
        }
    }
}

/// The filter of List.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only opportunities of this lead.
    pub lead_id: Option<Uuid>,
    /// Only opportunities of this client, and of the leads that were joined to it.
    pub client_id: Option<Uuid>,
    /// Only opportunities of this operator.
    pub owner_id: Option<Uuid>,
    /// The states to list, at least one, each once.
    pub states: Vec<OpportunityState>,
    /// Only opportunities in this stage.
    pub stage: Option<Stage>,
    /// Only opportunities that are expected to close before this date.
    pub expected_close_before: Option<NaiveDate>,
}

impl Filter {
    /// The same filter with only those states that admit its stage; `None` if there are none, so that it matches
    /// nothing.
    pub fn possible(&self) -> Option<Self> {
        let mut filter = self.clone();
        if let Some(stage) = filter.stage {
            filter.states.retain(|state| state.admits(stage));
        }
        (!filter.states.is_empty()).then_some(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::text_enum::TextEnum as _;

    #[test]
    fn every_transition_in_every_state_is_what_the_lifecycle_says() {
        use {Effect as E, OpportunityState as S, Transition as T};
        let (won, lost) = (T::Close(Outcome::Won), T::Close(Outcome::Lost));
        let table = [
            (S::Open, T::Update, E::To(S::Open)),
            (S::Open, won, E::To(S::Won)),
            (S::Open, lost, E::To(S::Lost)),
            (S::Open, T::Reopen, E::Refused),
            (S::Won, T::Update, E::Refused),
            (S::Won, won, E::Refused),
            (S::Won, lost, E::Refused),
            (S::Won, T::Reopen, E::To(S::Open)),
            (S::Lost, T::Update, E::Refused),
            (S::Lost, won, E::Refused),
            (S::Lost, lost, E::Refused),
            (S::Lost, T::Reopen, E::To(S::Open)),
        ];
        let mut cells = table.iter();
        for state in S::ALL {
            for transition in T::ALL {
                let (of, by, expected) = cells.next().unwrap();
                assert_eq!((of, by), (state, &transition));
                assert_eq!(
                    state.effect(transition),
                    *expected,
                    "{state} {transition:?}"
                );
            }
        }
        assert!(cells.next().is_none());
        assert_eq!(S::Open.allowed(), ["Update", "Close"]);
        assert_eq!(S::Won.allowed(), ["Reopen"]);
        assert_eq!(S::Lost.allowed(), ["Reopen"]);
    }
}
