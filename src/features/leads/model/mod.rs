//! The lead and its rules. Must not depend on messages or on the database.

mod conversion;
mod details;
pub mod email;
mod listing;
mod shared;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::call::Principal;
use crate::core::etag::etag;
use crate::core::text_enum::text_enum;
use crate::error::Result;
use crate::features::leads::errors;

pub use crate::core::text::fold;
pub use conversion::{
    Carried, Conversion, FieldOutcome, LookAlike, MAX_JOINED_LEADS, MAX_LOOK_ALIKES, MAX_REPORTED,
    Merge, Outcome, References, Report, Trigger, restored,
};
pub use details::{
    Address, CustomFields, CustomPatch, Details, FIELDS, Field, MAX_CUSTOM_FIELDS, MAX_CUSTOM_KEY,
    MAX_CUSTOM_VALUE, Mask, Patch, custom_key,
};
pub use listing::{Filter, MAX_TOTAL, OrderKey, Ordering, Position, PositionKey, Total};
pub use shared::Shared;

text_enum! {
    /// The lifecycle state of a lead.
    pub enum LeadState {
        /// In progress.
        Open,
        /// Deactivated.
        Deactivated,
        /// Converted to a client, or joined to one.
        Converted,
    }
}

/// An operation on a lead that depends on its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Edit its fields.
    Update,
    /// Deactivate it.
    Deactivate,
    /// Reactivate it.
    Reactivate,
    /// Convert it by an RPC.
    Convert,
    /// Convert it by an order's PROVISION_CLIENT action.
    ProvisionClient,
    /// Revert its conversion.
    RevertConversion,
    /// Attach an opportunity or an order to it, or change one of its opportunities.
    Attach,
    /// Erase its personal data.
    Erase,
}

impl Transition {
    /// The transitions that are RPCs of LeadService. Erase is not part of the lifecycle: it is allowed in
    /// every state and does not change the state.
    const RPCS: [Self; 5] = [
        Self::Update,
        Self::Deactivate,
        Self::Reactivate,
        Self::Convert,
        Self::RevertConversion,
    ];

    /// The RPC that requests it.
    pub const fn rpc(self) -> &'static str {
        match self {
            Self::Update => "Update",
            Self::Deactivate => "Deactivate",
            Self::Reactivate => "Reactivate",
            Self::Convert => "Convert",
            Self::ProvisionClient => "RunAction",
            Self::RevertConversion => "RevertConversion",
            Self::Attach => "Create",
            Self::Erase => "Erase",
        }
    }
}

/// The effect of a transition in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It leads to this state, which may be the same one.
    To(LeadState),
    /// It succeeds and changes nothing.
    NoChange,
    /// It is refused.
    Refused,
}

impl LeadState {
    /// The complete table of the lifecycle. An `erased` lead allows no transition, because nobody knows any
    /// more who it is.
    pub const fn effect(self, erased: bool, transition: Transition) -> Effect {
        use {Effect as E, LeadState as S, Transition as T};
        if erased {
            return E::Refused;
        }
        match (self, transition) {
            (_, T::Attach | T::Erase) => E::To(self),
            (S::Open, T::Update) => E::To(S::Open),
            (S::Open, T::Deactivate) => E::To(S::Deactivated),
            (S::Open, T::Convert | T::ProvisionClient) => E::To(S::Converted),
            (S::Deactivated, T::Reactivate) => E::To(S::Open),
            // Running an order's action for an existing client succeeds, as in Ubersmith.
            (S::Converted, T::ProvisionClient) => E::NoChange,
            // Only within a time, and only if nothing was built on the conversion: see `Lead::check_unsettled`.
            (S::Converted, T::RevertConversion) => E::To(S::Open),
            (S::Open, T::Reactivate | T::RevertConversion)
            | (
                S::Deactivated,
                T::Update | T::Deactivate | T::Convert | T::ProvisionClient | T::RevertConversion,
            )
            | (S::Converted, T::Update | T::Deactivate | T::Reactivate | T::Convert) => E::Refused,
        }
    }

    /// The RPCs of LeadService that are allowed in this state.
    pub fn allowed(self, erased: bool) -> impl Iterator<Item = Transition> {
        Transition::RPCS
            .into_iter()
            .filter(move |transition| self.effect(erased, *transition) != Effect::Refused)
    }
}

/// The deactivation of a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivation {
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that deactivated it.
    pub actor: Principal,
    /// The reason; may be empty.
    pub reason: String,
}

/// The erasure of a lead's personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that erased it.
    pub actor: Principal,
}

/// The state of a lead with the data of that state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum Status {
    /// In progress.
    #[serde(rename = "OPEN")]
    Open,
    /// Deactivated.
    #[serde(rename = "DEACTIVATED")]
    Deactivated {
        /// The principal, the time and the reason.
        deactivation: Deactivation,
    },
    /// Converted to a client.
    #[serde(rename = "CONVERTED")]
    Converted {
        /// The principal, the time and the method.
        conversion: Conversion,
    },
}

impl Status {
    /// The state without its data.
    pub const fn state(&self) -> LeadState {
        match self {
            Self::Open => LeadState::Open,
            Self::Deactivated { .. } => LeadState::Deactivated,
            Self::Converted { .. } => LeadState::Converted,
        }
    }
}

/// A lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// Its id, which never changes.
    pub id: Uuid,
    /// The number that gives the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The version, counted from 1.
    pub version: i64,
    /// The editable fields.
    #[serde(flatten)]
    pub details: Details,
    /// The state with its data.
    #[serde(flatten)]
    pub status: Status,
    /// Set when its personal data is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

impl Lead {
    /// Its state.
    pub const fn state(&self) -> LeadState {
        self.status.state()
    }

    /// Its etag.
    pub fn etag(&self) -> String {
        etag(self.version)
    }

    /// Its conversion, if it is converted.
    pub const fn conversion(&self) -> Option<&Conversion> {
        match &self.status {
            Status::Converted { conversion } => Some(conversion),
            Status::Open | Status::Deactivated { .. } => None,
        }
    }

    /// The client that it was joined to; `None` if it is not converted, or is its own client.
    pub fn joined_to(&self) -> Option<Uuid> {
        let client_id = self.conversion()?.client_id;
        (client_id != self.id).then_some(client_id)
    }

    /// Whether it is a client: a converted lead that was not joined to another one.
    pub fn is_client(&self) -> bool {
        self.conversion().is_some() && self.joined_to().is_none()
    }

    /// The client with this id.
    ///
    /// # Errors
    /// `CLIENT_NOT_FOUND` if there is no such lead, or it is no client.
    pub fn as_client(found: Option<&Self>, id: Uuid) -> Result<&Self> {
        match found {
            Some(lead) if lead.is_client() => Ok(lead),
            found => Err(errors::client_not_found(id, found)),
        }
    }

    /// Returns the effect of a transition.
    ///
    /// # Errors
    /// The refusal, if the lifecycle does not allow it.
    pub fn effect(&self, transition: Transition) -> Result<Effect> {
        let erased = self.erasure.is_some();
        match self.state().effect(erased, transition) {
            Effect::Refused => Err(errors::refused(self, transition)),
            effect @ (Effect::To(_) | Effect::NoChange) => Ok(effect),
        }
    }

    /// The next version, in `status` as of `time`.
    pub fn next(&self, status: Status, time: DateTime<Utc>) -> Self {
        Self {
            version: self.version + 1,
            status,
            update_time: time,
            ..self.clone()
        }
    }

    /// The next version of a client as of `time`, with other fields and other leads joined to it.
    pub fn next_client(
        &self,
        details: Details,
        joined_leads: Vec<Uuid>,
        time: DateTime<Utc>,
    ) -> Self {
        let mut status = self.status.clone();
        if let Status::Converted { conversion } = &mut status {
            conversion.joined_leads = joined_leads;
        }
        Self {
            details,
            ..self.next(status, time)
        }
    }

    /// This next version as shown by `validate_only`: with the etag and the time of the version before it,
    /// because nothing was written.
    pub fn into_preview(self, before: &Self) -> Self {
        Self {
            version: before.version,
            update_time: before.update_time,
            ..self
        }
    }

    /// The next version as of `time`, without the data that identifies the lead. The rest is kept: the
    /// owner, the state, and the times and principals of its transitions.
    pub fn erased(&self, actor: Principal, time: DateTime<Utc>) -> Self {
        let details = Details {
            owner_id: self.details.owner_id.clone(),
            ..Details::default()
        };
        let status = match self.status.clone() {
            Status::Deactivated { mut deactivation } => {
                deactivation.reason.clear();
                Status::Deactivated { deactivation }
            }
            Status::Converted { mut conversion } => {
                conversion.carried.clear();
                Status::Converted { conversion }
            }
            Status::Open => Status::Open,
        };
        Self {
            details,
            erasure: Some(Erasure { time, actor }),
            ..self.next(status, time)
        }
    }
}
