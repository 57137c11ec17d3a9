//! The order, its actions and their rules. Must not depend on messages or on the database.

mod action;

use crate::core::text_enum::{TextEnum as _, text_enum};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::errors;
use crate::core::etag::etag;
use crate::core::field_change::FieldChange;
use crate::core::money::Money;
use crate::error::Result;

pub use action::{Action, ActionRun, ActionState, ActionType, RunOutcome, find_cycle};

text_enum! {
    /// The state of an order.
    pub enum OrderState {
        /// Some actions are not finished.
        Processing,
        /// Every action is done or skipped.
        Complete,
        /// Canceled. This state is final.
        Canceled,
    }
}

/// The maximum number of items of an order.
pub const MAX_ITEMS: usize = 100;
/// The maximum number of actions of an order.
pub const MAX_ACTIONS: usize = 50;

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Item {
    pub description: String,
    pub quantity: i64,
    pub unit_price: Option<Money>,
}

/// A sale to a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The state of the order.
    pub state: OrderState,
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

    /// The action with this key.
    ///
    /// # Errors
    /// `ACTION_NOT_FOUND`.
    pub fn action(&self, key: &str) -> Result<&Action> {
        let found = self.actions.iter().find(|action| action.key == key);
        found.ok_or_else(|| {
            let keys = self.actions.iter().map(|action| action.key.clone());
            errors::action_not_found(key, &keys.collect::<Vec<_>>())
        })
    }

    /// Checks whether the order allows an action to run now.
    ///
    /// # Errors
    /// `ORDER_CANCELED`, `ACTION_DONE`, `ACTION_PREREQUISITE`.
    pub fn check_runnable(&self, action: &Action) -> Result<()> {
        if self.state == OrderState::Canceled {
            return Err(errors::order_canceled(self.id));
        }
        if !action.state.is_open() {
            return Err(errors::action_done(action));
        }
        let open = self.open_prerequisites(action);
        if open.is_empty() {
            return Ok(());
        }
        Err(errors::action_prerequisite(&action.key, &open))
    }

    fn open_prerequisites(&self, action: &Action) -> Vec<String> {
        let open = |key: &&String| {
            self.actions
                .iter()
                .any(|other| other.key == **key && other.state.is_open())
        };
        action.prerequisites.iter().filter(open).cloned().collect()
    }

    /// The next automatic action that is ready. An automatic action that failed is not run again
    /// automatically.
    pub fn next_automatic(&self) -> Option<Action> {
        let ready = |action: &&Action| {
            action.automatic
                && action.state == ActionState::Pending
                && self.open_prerequisites(action).is_empty()
        };
        self.actions.iter().find(ready).cloned()
    }

    /// The changes of the states of the actions and of the order since `before`, for the history.
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
            }
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

    /// Sets the state of an action, and of the order if all its actions are finished.
    pub fn set_action(&mut self, key: &str, state: ActionState) {
        for action in self.actions.iter_mut().filter(|action| action.key == key) {
            action.state = state;
        }
        if self.actions.iter().all(|action| !action.state.is_open()) {
            self.state = OrderState::Complete;
        }
    }
}

/// The filter of List.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only orders of this lead.
    pub lead_id: Option<Uuid>,
    /// The states to list; empty for all.
    pub states: Vec<OrderState>,
}
