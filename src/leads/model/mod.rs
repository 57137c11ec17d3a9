//! The lead and its rules, with nothing of the wire or the database in them.

mod details;
pub mod email;
mod listing;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Principal;
use crate::changes::{self, draft::Versioned};
use crate::error::{Error, Result};
use crate::wire::words::{on_the_wire, words};

pub use crate::text::fold;
pub use details::{
    Address, CUSTOM_FIELDS, CUSTOM_KEY, CUSTOM_VALUE, CustomFields, CustomPatch, Details, FIELDS,
    Field, Patch,
};
pub use listing::{Filter, OrderKey, Ordering, Position, PositionKey};

words! {
    /// A lead's place in its lifecycle.
    pub enum LeadState {
        /// Being worked.
        Open = "OPEN",
        /// Set aside.
        Deactivated = "DEACTIVATED",
        /// A client now, for good.
        Converted = "CONVERTED",
    }
}

on_the_wire!(LeadState, crate::wire::proto::LeadState, "LEAD_STATE_");

/// What can be asked of a lead that depends on its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Edit its fields.
    Update,
    /// Set it aside.
    Deactivate,
    /// Bring it back.
    Reactivate,
    /// Convert it by hand.
    Convert,
    /// Convert it by an order's PROVISION_CLIENT action.
    ProvisionClient,
    /// Give it an opportunity or an order.
    Attach,
    /// Erase its personal data.
    Erase,
}

impl Transition {
    /// The transitions that are RPCs of LeadService. Erase is none of the lifecycle: it asks for no
    /// state and leads to none.
    const RPCS: [Self; 4] = [
        Self::Update,
        Self::Deactivate,
        Self::Reactivate,
        Self::Convert,
    ];

    /// The RPC that asks for it.
    pub const fn rpc(self) -> &'static str {
        match self {
            Self::Update => "Update",
            Self::Deactivate => "Deactivate",
            Self::Reactivate => "Reactivate",
            Self::Convert => "Convert",
            Self::ProvisionClient => "RunAction",
            Self::Attach => "Create",
            Self::Erase => "Erase",
        }
    }
}

/// What a transition does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It leads to this state (for one that changes no state, the same one).
    To(LeadState),
    /// It succeeds and changes nothing.
    NoChange,
    /// It is refused.
    Refused,
}

impl LeadState {
    /// The lifecycle: the whole table. Of a lead that is `erased` nobody knows any more who it is, so
    /// there is nothing to go on with.
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
            // Running an order's action for who is a client already succeeds, as Ubersmith has it.
            (S::Converted, T::ProvisionClient) => E::NoChange,
            (S::Open, T::Reactivate)
            | (S::Deactivated, T::Update | T::Deactivate | T::Convert | T::ProvisionClient)
            | (S::Converted, T::Update | T::Deactivate | T::Reactivate | T::Convert) => E::Refused,
        }
    }

    /// The RPCs of LeadService that would work in this state.
    pub fn allowed(self, erased: bool) -> impl Iterator<Item = Transition> {
        Transition::RPCS
            .into_iter()
            .filter(move |transition| self.effect(erased, *transition) != Effect::Refused)
    }
}

/// Who set a lead aside, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivation {
    /// When.
    pub time: DateTime<Utc>,
    /// By whom.
    pub actor: Principal,
    /// Why; may be empty.
    pub reason: String,
}

/// Who erased a lead's personal data, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// When.
    pub time: DateTime<Utc>,
    /// By whom.
    pub actor: Principal,
}

words! {
    /// How a conversion came about.
    pub enum Trigger {
        /// By hand.
        Manual = "MANUAL",
        /// By an order's PROVISION_CLIENT action.
        OrderAction = "ORDER_ACTION",
    }
}

on_the_wire!(
    Trigger,
    crate::wire::proto::ConversionTrigger,
    "CONVERSION_TRIGGER_"
);

/// Who converted a lead, when and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// When.
    pub time: DateTime<Utc>,
    /// By whom.
    pub actor: Principal,
    /// The client's id: the lead's own.
    pub client_id: Uuid,
    /// The order whose action did it; none by hand.
    pub order_id: Option<Uuid>,
    /// By hand or by an order's action.
    pub trigger: Trigger,
}

impl Conversion {
    /// A conversion by hand, or by the action of an order.
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
        }
    }
}

/// A lead's state with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum Status {
    /// Being worked.
    #[serde(rename = "OPEN")]
    Open,
    /// Set aside.
    #[serde(rename = "DEACTIVATED")]
    Deactivated {
        /// Who, when and why.
        deactivation: Deactivation,
    },
    /// A client now.
    #[serde(rename = "CONVERTED")]
    Converted {
        /// Who, when and how.
        conversion: Conversion,
    },
}

impl Status {
    /// The state alone.
    pub const fn state(&self) -> LeadState {
        match self {
            Self::Open => LeadState::Open,
            Self::Deactivated { .. } => LeadState::Deactivated,
            Self::Converted { .. } => LeadState::Converted,
        }
    }
}

/// A lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lead {
    /// Its id for life.
    pub id: Uuid,
    /// Its place in the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// Counts its changes, from 1.
    pub version: i64,
    /// What can be edited.
    #[serde(flatten)]
    pub details: Details,
    /// Where it stands.
    #[serde(flatten)]
    pub status: Status,
    /// Set once its personal data is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
}

impl Versioned for Lead {
    fn id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl Lead {
    /// Its state.
    pub const fn state(&self) -> LeadState {
        self.status.state()
    }

    /// Its version as the caller sees it.
    pub fn etag(&self) -> String {
        changes::etag(self.version)
    }

    /// What a transition would do.
    ///
    /// # Errors
    /// [`Error::LeadRefused`] when the lifecycle does not have it.
    pub fn effect(&self, transition: Transition) -> Result<Effect> {
        let erased = self.erasure.is_some();
        match self.state().effect(erased, transition) {
            Effect::Refused => Err(Error::LeadRefused {
                id: self.id,
                state: self.state(),
                erased,
                transition,
                order_etag: None,
            }),
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

    /// This next version as it is shown when it was only checked: with the etag and the time of the one
    /// before it, because these stay.
    pub fn unwritten(self, before: &Self) -> Self {
        Self {
            version: before.version,
            update_time: before.update_time,
            ..self
        }
    }

    /// The next version, as of `time`, without anything that tells who it is. What stays is what is
    /// not about the lead: who works it, where it stands, what happened when and by whom.
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
            status @ (Status::Open | Status::Converted { .. }) => status,
        };
        Self {
            details,
            erasure: Some(Erasure { time, actor }),
            ..self.next(status, time)
        }
    }
}
