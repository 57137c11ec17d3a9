//! The actions of an order and their runs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::claim::Claim;
use crate::core::call::Principal;
use crate::core::text_enum::text_enum;
use crate::features::order_queues::model::{ActionType, Template};

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
        /// Claimed by a worker.
        Claimed,
    }
}

impl ActionState {
    /// Whether it still has to be run.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Claimed | Self::Failed)
    }
}

text_enum! {
    /// The outcome of a run.
    pub enum RunOutcome {
        /// The action is done.
        Succeeded,
        /// The run was refused, or the caller reported that it failed.
        Failed,
    }
}

text_enum! {
    /// What an entry of the ledger records.
    pub enum RunKind {
        /// A run of an action.
        Run,
        /// The skip of an action.
        Skip,
        /// That a skip was undone.
        UndoSkip,
        /// That the order was moved to a step.
        Move,
        /// That the order was canceled.
        Cancel,
        /// A comment.
        Comment,
        /// The claim of an action by a worker.
        Claim,
        /// That a worker gave back an action that it had claimed.
        Release,
    }
}

/// A piece of work of an order, identified by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "order_service.proto describes them")]
pub struct Action {
    pub key: String,
    pub r#type: ActionType,
    pub name: String,
    pub automatic: bool,
    pub prerequisites: Vec<String>,
    pub state: ActionState,
    pub step: String,
    pub repeatable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

impl From<Template> for Action {
    fn from(template: Template) -> Self {
        Self {
            key: template.key,
            r#type: template.r#type,
            name: template.name,
            automatic: template.automatic,
            prerequisites: template.prerequisites,
            state: ActionState::Pending,
            step: template.step,
            repeatable: template.repeatable,
            claim: None,
        }
    }
}

/// An entry of an order's ledger: a run of an action, or what `kind` says.
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
    /// What it records.
    pub kind: RunKind,
    /// The action's key; empty if it is about none.
    pub action: String,
    /// The time.
    pub time: DateTime<Utc>,
    /// The principal that did it, or whose call triggered it.
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
    /// A note, a reason or a comment.
    pub note: String,
    /// What it refers to outside of Leadsmith.
    pub reference: String,
    /// The step that the order was moved to; empty otherwise.
    pub step: String,
    /// The entry of the claim that was reported or released.
    pub claim_run_id: Option<Uuid>,
    /// When a claim expires.
    pub expire_time: Option<DateTime<Utc>>,
}
