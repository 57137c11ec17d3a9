//! The rows of orders and of the entries of their ledgers.
//!
//! What orders have since there are queues is in columns of its own, which a previous version neither reads nor
//! writes: it keeps the steps of an order that it changes. An order that it created has no plan, and the
//! defaults of the other columns: it is in the only step of the default queue.
//!
//! A claimed action is stored as PENDING, with its claim in a column of its own. So a previous version can read the
//! order. If it runs or skips the action, the action is no more PENDING, and the claim is ignored.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::NotSet, ActiveValue::Set};
use serde::{Deserialize, Serialize};

use crate::core::text_enum::TextEnum as _;
use crate::db::entities::action_run;
use crate::db::entities::order::{ActiveModel, Model};
use crate::db::json::{from_json, to_json};
use crate::error::{Error, Result};
use crate::features::order_queues::model::{PROCESSING, Step};
use crate::features::orders::model::{
    Action, ActionRun, ActionState, ActionType, Claim, Order, OrderState, RunKind, RunOutcome,
};

/// The steps of an order, and what its actions have since there are steps.
#[derive(Serialize, Deserialize)]
struct Plan {
    steps: Vec<Step>,
    /// By the key of the action.
    actions: BTreeMap<String, Place>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Place {
    step: String,
    repeatable: bool,
}

/// An action as the previous version knows it.
#[derive(Serialize, Deserialize)]
struct StoredAction {
    key: String,
    r#type: ActionType,
    name: String,
    automatic: bool,
    prerequisites: Vec<String>,
    state: ActionState,
}

impl Plan {
    fn of(order: &Order) -> Self {
        let places = order.actions.iter().map(|action| {
            let place = Place {
                step: action.step.clone(),
                repeatable: action.repeatable,
            };
            (action.key.clone(), place)
        });
        Self {
            steps: order.steps.clone(),
            actions: places.collect(),
        }
    }

    /// The plan of an order that was created by a version without queues.
    fn before_queues() -> Self {
        Self {
            steps: vec![Step::processing()],
            actions: BTreeMap::new(),
        }
    }

    fn place(&self, key: &str) -> Place {
        let place = self.actions.get(key).cloned();
        place.unwrap_or_else(|| Place {
            step: PROCESSING.to_owned(),
            repeatable: false,
        })
    }
}

impl StoredAction {
    fn of(action: &Action) -> Self {
        Self {
            key: action.key.clone(),
            r#type: action.r#type,
            name: action.name.clone(),
            automatic: action.automatic,
            prerequisites: action.prerequisites.clone(),
            state: match action.claim {
                Some(_) => ActionState::Pending,
                None => action.state,
            },
        }
    }

    fn with(self, place: Place, claim: Option<Claim>) -> Action {
        let claim = claim.filter(|_| self.state == ActionState::Pending);
        Action {
            key: self.key,
            r#type: self.r#type,
            name: self.name,
            automatic: self.automatic,
            prerequisites: self.prerequisites,
            state: match claim {
                Some(_) => ActionState::Claimed,
                None => self.state,
            },
            step: place.step,
            repeatable: place.repeatable,
            claim,
        }
    }
}

/// The claims of an order's actions, by the keys of the actions; none if there are none.
fn claims(order: &Order) -> Result<Option<serde_json::Value>> {
    let claims = order.actions.iter();
    let claims = claims.filter_map(|action| Some((&action.key, action.claim.as_ref()?)));
    let claims: BTreeMap<&String, &Claim> = claims.collect();
    (!claims.is_empty()).then(|| to_json(&claims)).transpose()
}

/// The row of an order.
pub(super) fn to_row(order: &Order) -> Result<ActiveModel> {
    let actions: Vec<StoredAction> = order.actions.iter().map(StoredAction::of).collect();
    Ok(ActiveModel {
        seq: NotSet,
        id: Set(order.id),
        lead_id: Set(order.lead_id),
        opportunity_id: Set(order.opportunity_id),
        version: Set(order.version),
        state: Set(order.state.as_str().to_owned()),
        items: Set(to_json(&order.items)?),
        actions: Set(to_json(&actions)?),
        create_time: Set(order.create_time),
        update_time: Set(order.update_time),
        queue_id: Set(order.queue_id),
        client_id: Set(order.client_id),
        step: Set(order.step.clone()),
        plan: Set(Some(to_json(&Plan::of(order))?)),
        claims: Set(claims(order)?),
        claims_version: Set(Some(order.version)),
    })
}

pub(super) fn from_row(row: Model) -> Result<Order> {
    let state = OrderState::from_text(&row.state)
        .ok_or_else(|| Error::internal(format!("unknown order state {}", row.state)))?;
    let plan = match row.plan {
        Some(plan) => from_json(plan)?,
        None => Plan::before_queues(),
    };
    let actions: Vec<StoredAction> = from_json(row.actions)?;
    let mut claims: BTreeMap<String, Claim> = match row.claims {
        Some(claims) => from_json(claims)?,
        None => BTreeMap::new(),
    };
    let actions = actions.into_iter().map(|action| {
        let place = plan.place(&action.key);
        let claim = claims.remove(&action.key);
        action.with(place, claim)
    });
    Ok(Order {
        id: row.id,
        seq: row.seq,
        lead_id: row.lead_id,
        opportunity_id: row.opportunity_id,
        version: row.version,
        queue_id: row.queue_id,
        client_id: row.client_id,
        step: row.step,
        state,
        items: from_json(row.items)?,
        actions: actions.collect(),
        steps: plan.steps,
        create_time: row.create_time,
        update_time: row.update_time,
    })
}

/// The row of an entry of a ledger.
pub fn run_to_row(run: &ActionRun) -> Result<action_run::ActiveModel> {
    Ok(action_run::ActiveModel {
        seq: NotSet,
        id: Set(run.id),
        order_id: Set(run.order_id),
        lead_id: Set(run.lead_id),
        action: Set(run.action.clone()),
        time: Set(run.time),
        actor: Set(to_json(&run.actor)?),
        outcome: Set(run.outcome.as_str().to_owned()),
        no_change: Set(run.no_change),
        automatic: Set(run.automatic),
        error_reason: Set(run.error_reason.clone()),
        error_message: Set(run.error_message.clone()),
        kind: Set(run.kind.as_str().to_owned()),
        note: Set(run.note.clone()),
        reference: Set(run.reference.clone()),
        step: Set(run.step.clone()),
        claim_run_id: Set(run.claim_run_id),
        expire_time: Set(run.expire_time),
    })
}

pub(super) fn run_from_row(row: action_run::Model) -> Result<ActionRun> {
    let outcome = RunOutcome::from_text(&row.outcome)
        .ok_or_else(|| Error::internal(format!("unknown run outcome {}", row.outcome)))?;
    let kind = RunKind::from_text(&row.kind)
        .ok_or_else(|| Error::internal(format!("unknown kind of run {}", row.kind)))?;
    Ok(ActionRun {
        id: row.id,
        seq: row.seq,
        order_id: row.order_id,
        lead_id: row.lead_id,
        kind,
        action: row.action,
        time: row.time,
        actor: from_json(row.actor)?,
        outcome,
        no_change: row.no_change,
        automatic: row.automatic,
        error_reason: row.error_reason,
        error_message: row.error_message,
        note: row.note,
        reference: row.reference,
        step: row.step,
        claim_run_id: row.claim_run_id,
        expire_time: row.expire_time,
    })
}
