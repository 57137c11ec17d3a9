//! The actions of an order and their runs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::call::Principal;
use crate::core::text_enum::text_enum;

/// The key of the action that an order gets if the caller gives no actions.
const PROVISION_CLIENT: &str = "provision-client";

text_enum! {
    /// The effect of an action.
    pub enum ActionType {
        /// Converts the order's lead.
        ProvisionClient,
        /// Records that somebody did something outside of Leadsmith.
        Manual,
    }
}

text_enum! {
    /// The state of an action.
    pub enum ActionState {
        /// Not run yet.
        Pending,
        /// Done.
        Done,
        /// The last run failed. It can be run again.
        Failed,
        /// Skipped on purpose.
        Skipped,
    }
}

impl ActionState {
    /// Whether it still has to be run.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Failed)
    }
}

text_enum! {
    /// The outcome of a run.
    pub enum RunOutcome {
        /// The action is done.
        Succeeded,
        /// The run was refused.
        Failed,
    }
}

/// A step of an order, identified by its key.
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
    /// The default action, for an order without actions.
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

/// The first action, if any, that depends on itself through its prerequisites.
pub fn find_cycle(actions: &[Action]) -> Option<&str> {
    // Repeatedly removes the actions without remaining prerequisites. Actions that cannot be removed form a
    // cycle.
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

/// One run of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionRun {
    /// A UUIDv7.
    pub id: Uuid,
    /// The number that gives the order of creation; 0 until it is stored.
    #[serde(skip)]
    pub seq: i64,
    /// The order.
    pub order_id: Uuid,
    /// The order's lead.
    pub lead_id: Uuid,
    /// The action's key.
    pub action: String,
    /// The time of the run.
    pub time: DateTime<Utc>,
    /// The principal that ran it, or whose call triggered it.
    pub actor: Principal,
    /// The outcome.
    pub outcome: RunOutcome,
    /// It succeeded, but the lead was already converted.
    pub no_change: bool,
    /// It was run automatically.
    pub automatic: bool,
    /// The reason of the failure, as in ErrorInfo.
    pub error_reason: String,
    /// The message of the failure.
    pub error_message: String,
}
