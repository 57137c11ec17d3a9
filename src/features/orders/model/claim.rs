//! Claims: that a worker does an EXTERNAL action until a lease expires. The expiry itself changes nothing: a claim that
//! has expired is looked at as if it were not there. All times are of the database's clock, which all servers share.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Action, ActionState, ActionType, Order, OrderState};
use crate::core::call::Principal;
use crate::error::Result;
use crate::features::orders::errors;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::seconds(10);
/// The longest lease.
pub const MAX_LEASE: Duration = Duration::hours(1);

/// The claim of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The entry of the ledger that records it.
    pub run_id: Uuid,
    /// The principal that has claimed the action.
    pub actor: Principal,
    /// When the lease expires.
    pub expire_time: DateTime<Utc>,
}

impl Claim {
    /// Whether it has not expired.
    pub fn is_held(&self, now: DateTime<Utc>) -> bool {
        now < self.expire_time
    }
}

/// What a worker wants to claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claiming {
    /// The keys of the actions that it can do.
    pub actions: Vec<String>,
    /// Only actions that are FAILED, instead of those that are not.
    pub retry_failed: bool,
}

/// An action that can be claimed, or could be if the claim that it has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimable {
    /// The action's key.
    pub action: String,
    /// Whether it is FAILED.
    pub is_failed: bool,
    /// When the claim that it has expires; none if it has none.
    pub expire_time: Option<DateTime<Utc>>,
}

impl Order {
    /// The EXTERNAL actions that can be claimed, or could be if the claims that they have expired: those that are open,
    /// whose step is reached and whose prerequisites are finished, while the order is PROCESSING.
    pub fn claimable(&self) -> Vec<Claimable> {
        if self.state != OrderState::Processing {
            return Vec::new();
        }
        let external = self
            .actions
            .iter()
            .filter(|action| action.r#type == ActionType::External && action.state.is_open());
        let ready = external.filter(|action| self.check_reached(action).is_ok());
        let claimable = ready.map(|action| Claimable {
            action: action.key.clone(),
            is_failed: action.state == ActionState::Failed,
            expire_time: action.claim.as_ref().map(|claim| claim.expire_time),
        });
        claimable.collect()
    }

    /// The first action that a worker can claim at `now`; none if there is none.
    pub fn find_claimable(&self, wanted: &Claiming, now: DateTime<Utc>) -> Option<String> {
        let is_wanted = |found: &Claimable| {
            let is_free = found
                .expire_time
                .is_none_or(|expire_time| expire_time <= now);
            is_free
                && found.is_failed == wanted.retry_failed
                && wanted.actions.contains(&found.action)
        };
        let found = self.claimable().into_iter().find(is_wanted)?;
        Some(found.action)
    }

    /// Claims an action that [`Order::find_claimable`] has found.
    pub fn claim(&mut self, key: &str, claim: Claim) {
        for action in self.actions.iter_mut().filter(|action| action.key == key) {
            action.state = ActionState::Claimed;
            action.claim = Some(claim.clone());
        }
    }

    /// Checks that a worker holds the claim `run_id` of an action at `now`.
    ///
    /// # Errors
    /// `ACTION_NOT_FOUND`, `ORDER_CANCELED`, `CLAIM_LOST`.
    pub fn check_claim(
        &self,
        key: &str,
        run_id: Uuid,
        actor: Uuid,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let action = self.action(key)?;
        self.check_not_canceled()?;
        let lost = |cause: &str| Err(errors::claim_lost(self.id, action, run_id, cause));
        match &action.claim {
            Some(claim) if claim.run_id == run_id => match claim {
                _ if claim.actor.id != actor => lost("another principal has claimed the action"),
                _ if !claim.is_held(now) => lost("its lease has expired"),
                _ => Ok(()),
            },
            _ => lost(
                "it was reported or released, or its lease had expired and another call ended it",
            ),
        }
    }

    /// Gives back an action that is claimed.
    pub fn release(&mut self, key: &str) {
        for action in self.actions.iter_mut().filter(|action| action.key == key) {
            action.state = ActionState::Pending;
            action.claim = None;
        }
    }
}

impl Action {
    /// Checks that no worker holds it at `now`.
    ///
    /// # Errors
    /// `ACTION_CLAIMED`.
    pub fn check_free(&self, now: DateTime<Utc>) -> Result<()> {
        match &self.claim {
            Some(claim) if claim.is_held(now) => Err(errors::action_claimed(self, claim)),
            _ => Ok(()),
        }
    }
}
