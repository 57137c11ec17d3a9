//! The order, its actions and their rules, with nothing of the wire or the database in them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Principal;
use crate::changes::draft::Versioned;
use crate::changes::{self, FieldChange};
use crate::error::{Error, Result};
use crate::wire::money::Money;
use crate::wire::words::{on_the_wire, words};

words! {
    /// How far an order has come.
    pub enum OrderState {
        /// Some action is still to be done.
        Processing = "PROCESSING",
        /// Every action is done or skipped.
        Complete = "COMPLETE",
        /// Called off, for good.
        Canceled = "CANCELED",
    }
}

on_the_wire!(OrderState, crate::wire::proto::OrderState, "ORDER_STATE_");

words! {
    /// What an action does.
    pub enum ActionType {
        /// Converts the order's lead.
        ProvisionClient = "PROVISION_CLIENT",
        /// Records that something outside was done.
        Manual = "MANUAL",
    }
}

on_the_wire!(ActionType, crate::wire::proto::ActionType, "ACTION_TYPE_");

words! {
    /// How far an action has come.
    pub enum ActionState {
        /// Not run yet.
        Pending = "PENDING",
        /// Done.
        Done = "DONE",
        /// The last attempt failed; it can be run again.
        Failed = "FAILED",
        /// Left out on purpose.
        Skipped = "SKIPPED",
    }
}

on_the_wire!(
    ActionState,
    crate::wire::proto::ActionState,
    "ACTION_STATE_"
);

impl ActionState {
    /// Whether there is something left to run.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Failed)
    }
}

words! {
    /// How an attempt ended.
    pub enum RunOutcome {
        /// The action is done by it.
        Succeeded = "SUCCEEDED",
        /// It was refused.
        Failed = "FAILED",
    }
}

on_the_wire!(RunOutcome, crate::wire::proto::RunOutcome, "RUN_OUTCOME_");

/// The key of the action an order gets when none are given.
pub const PROVISION_CLIENT: &str = "provision-client";
/// How many items an order may have.
pub const ITEMS: usize = 100;
/// How many actions an order may have.
pub const ACTIONS: usize = 50;

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Item {
    pub description: String,
    pub quantity: i64,
    pub unit_price: Option<Money>,
}

/// A named step of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Action {
    pub key: String,
    pub r#type: ActionType,
    pub name: String,
    pub automatic: bool,
    pub prerequisites: Vec<String>,
    pub state: ActionState,
}

impl Action {
    /// The one action of an order that names none.
    pub fn provision_client() -> Self {
        Self {
            key: PROVISION_CLIENT.to_owned(),
            r#type: ActionType::ProvisionClient,
            name: "Provision Client".to_owned(),
            automatic: false,
            prerequisites: Vec::new(),
            state: ActionState::Pending,
        }
    }
}

/// What was sold to a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// A UUIDv7.
    pub id: Uuid,
    /// Its place in the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The lead it was sold to.
    pub lead_id: Uuid,
    /// The opportunity it came from.
    pub opportunity_id: Option<Uuid>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// How far it has come.
    pub state: OrderState,
    /// What was sold.
    pub items: Vec<Item>,
    /// What is to be done.
    pub actions: Vec<Action>,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
}

impl Versioned for Order {
    fn id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl Order {
    /// Its version as the caller sees it.
    pub fn etag(&self) -> String {
        changes::etag(self.version)
    }

    /// The next version, as of `time`, without what is said in it in free text, and in which fields
    /// that was. Keys, numbers and prices stay: they tell what was sold, not to whom. None when nothing
    /// is said.
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

    /// An action, by its key.
    ///
    /// # Errors
    /// [`Error::ActionNotFound`].
    pub fn action(&self, key: &str) -> Result<&Action> {
        let found = self.actions.iter().find(|action| action.key == key);
        found.ok_or_else(|| Error::ActionNotFound {
            action: key.to_owned(),
            actions: self
                .actions
                .iter()
                .map(|action| action.key.clone())
                .collect(),
        })
    }

    /// Whether an action may be run now, as far as the order decides it.
    ///
    /// # Errors
    /// [`Error::OrderCanceled`], [`Error::ActionDone`], [`Error::ActionPrerequisite`].
    pub fn check_runnable(&self, action: &Action) -> Result<()> {
        if self.state == OrderState::Canceled {
            return Err(Error::OrderCanceled(self.id));
        }
        if !action.state.is_open() {
            return Err(Error::ActionDone {
                action: action.key.clone(),
                state: action.state,
            });
        }
        let open = self.open_prerequisites(action);
        if open.is_empty() {
            return Ok(());
        }
        Err(Error::ActionPrerequisite {
            action: action.key.clone(),
            open,
        })
    }

    fn open_prerequisites(&self, action: &Action) -> Vec<String> {
        let open = |key: &&String| {
            self.actions
                .iter()
                .any(|other| other.key == **key && other.state.is_open())
        };
        action.prerequisites.iter().filter(open).cloned().collect()
    }

    /// The next action that runs by itself now. One that failed by itself waits for a person.
    pub fn next_automatic(&self) -> Option<Action> {
        let ready = |action: &&Action| {
            action.automatic
                && action.state == ActionState::Pending
                && self.open_prerequisites(action).is_empty()
        };
        self.actions.iter().find(ready).cloned()
    }

    /// How far the actions and the order have come since `before`, for the history.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for (then, now) in before.actions.iter().zip(&self.actions) {
            if then.state != now.state {
                let path = format!("actions.{}.state", now.key);
                changes.push(FieldChange::new(path, then.state.word(), now.state.word()));
            }
        }
        if before.state != self.state {
            changes.push(FieldChange::new(
                "state",
                before.state.word(),
                self.state.word(),
            ));
        }
        changes
    }

    /// Notes how far an action has come, and with it how far the order has.
    pub fn set_action(&mut self, key: &str, state: ActionState) {
        for action in self.actions.iter_mut().filter(|action| action.key == key) {
            action.state = state;
        }
        if self.actions.iter().all(|action| !action.state.is_open()) {
            self.state = OrderState::Complete;
        }
    }
}

/// The first action, if any, whose prerequisites lead back to itself.
pub fn find_cycle(actions: &[Action]) -> Option<&str> {
    // What is left when everything whose prerequisites are gone has gone, waits for itself.
    let mut left: Vec<&Action> = actions.iter().collect();
    loop {
        let waits = |action: &&Action| {
            action
                .prerequisites
                .iter()
                .any(|key| left.iter().any(|other| other.key == *key))
        };
        let waiting: Vec<&Action> = left.iter().copied().filter(waits).collect();
        if waiting.len() == left.len() {
            return left.first().map(|action| action.key.as_str());
        }
        left = waiting;
    }
}

/// One attempt to run an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionRun {
    /// A UUIDv7.
    pub id: Uuid,
    /// Its place in the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The order.
    pub order_id: Uuid,
    /// The order's lead.
    pub lead_id: Uuid,
    /// The action's key.
    pub action: String,
    /// When.
    pub time: DateTime<Utc>,
    /// Who ran it, or made it run.
    pub actor: Principal,
    /// How it ended.
    pub outcome: RunOutcome,
    /// It succeeded but found the lead converted.
    pub no_change: bool,
    /// It ran by itself.
    pub automatic: bool,
    /// Why it failed, as ErrorInfo has it.
    pub error_reason: String,
    /// Why it failed, for people.
    pub error_message: String,
}

/// What List is asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this lead's.
    pub lead_id: Option<Uuid>,
    /// The states wanted; none for all.
    pub states: Vec<OrderState>,
}
