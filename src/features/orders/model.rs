//! The order, its actions and their rules. Must not depend on messages or on the database.

mod action;
mod claim;
mod machine;

use crate::core::text_enum::{TextEnum as _, text_enum};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::etag::etag;
use crate::core::field_change::FieldChange;
use crate::core::money::Money;
use crate::features::order_queues::model::Step;

pub use crate::features::order_queues::model::ActionType;
pub use action::{Action, ActionRun, ActionState, RunKind, RunOutcome};
pub use claim::{Claim, Claimable, Claiming, MAX_LEASE, MIN_LEASE};

text_enum! {
    /// The state of an order.
    pub enum OrderState {
        /// Some actions are not finished.
        Processing,
        /// It has passed its last step.
        Complete,
        /// Canceled. This state is final.
        Canceled,
    }
}

/// The maximum number of items of an order.
pub const MAX_ITEMS: usize = 100;

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Item {
    pub description: String,
    pub quantity: i64,
    pub unit_price: Option<Money>,
}

/// A sale to a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A UUIDv7.
    pub id: Uuid,
    /// The number that gives the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The lead that it was sold to.
    pub lead_id: Uuid,
    /// The opportunity that it came from.
    pub opportunity_id: Option<Uuid>,
    /// The version, counted from 1.
    pub version: i64,
    /// The queue that it was created in.
    pub queue_id: Uuid,
    /// The steps that its queue had then, at least one.
    pub steps: Vec<Step>,
    /// The key of the step that it is in.
    pub step: String,
    /// The state of the order.
    pub state: OrderState,
    /// The client that its lead is joined to when it is converted; `None` for a client of its own.
    pub client_id: Option<Uuid>,
    /// The items that were sold.
    pub items: Vec<Item>,
    /// The actions that fulfil it.
    pub actions: Vec<Action>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

impl Order {
    /// Its etag.
    pub fn etag(&self) -> String {
        etag(self.version)
    }

    /// The next version as of `time`, without free text, and the fields that contained free text. Keys,
    /// numbers and prices are kept: they show what was sold, not to whom. `None` if there was no free text.
    pub fn erased(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        let mut after = self.clone();
        after.version += 1;
        after.update_time = time;
        let mut changes = Vec::new();
        let mut erase = |path: String, text: &mut String| {
            if !text.is_empty() {
                text.clear();
                changes.push(FieldChange::new(path, "", ""));
            }
        };
        for (index, item) in after.items.iter_mut().enumerate() {
            erase(format!("items.{index}.description"), &mut item.description);
        }
        for action in &mut after.actions {
            erase(format!("actions.{}.name", action.key), &mut action.name);
        }
        (!changes.is_empty()).then_some((after, changes))
    }

    /// Whether a change may convert the lead: by an automatic action, or by the action that it runs.
    pub fn may_convert(&self, run: Option<&str>) -> bool {
        let mut provisions = self
            .actions
            .iter()
            .filter(|action| action.r#type == ActionType::ProvisionClient);
        provisions.any(|action| action.automatic || run == Some(action.key.as_str()))
    }

    /// The changes of the states and claims of the actions, and of the step and the state of the order, since `before`, for
    /// the history.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for (then, now) in before.actions.iter().zip(&self.actions) {
            if then.state != now.state {
                let path = format!("actions.{}.state", now.key);
                changes.push(FieldChange::new(
                    path,
                    then.state.as_str(),
                    now.state.as_str(),
                ));
            } else if let (Some(then), Some(claim)) = (&then.claim, &now.claim)
                && then.run_id != claim.run_id
            {
                // One worker after another: the first claim has expired.
                let path = format!("actions.{}.claim", now.key);
                changes.push(FieldChange::new(
                    path,
                    then.run_id.to_string(),
                    claim.run_id.to_string(),
                ));
            }
        }
        if before.step != self.step {
            changes.push(FieldChange::new("step", &before.step, &self.step));
        }
        if before.state != self.state {
            changes.push(FieldChange::new(
                "state",
                before.state.as_str(),
                self.state.as_str(),
            ));
        }
        changes
    }
}

/// The filter of List.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only orders of this lead.
    pub lead_id: Option<Uuid>,
    /// Only orders of this client, and of the leads that were joined to it.
    pub client_id: Option<Uuid>,
    /// Only orders of this queue.
    pub queue_id: Option<Uuid>,
    /// Only orders in the step with this key; empty for all.
    pub step: String,
    /// Only PROCESSING orders with an open action of this key; empty for all.
    pub open_action: String,
    /// The states to list; empty for all.
    pub states: Vec<OrderState>,
}
