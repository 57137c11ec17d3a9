//! The errors of orders.

use chrono::SecondsFormat;
use tonic::Code;
use uuid::Uuid;

use super::model::{Action, Claim};
use crate::core::bounded::{Bare, Echo, listed};
use crate::error::{Error, ErrorReason};

/// The maximum number of bytes of action keys in a message.
const MAX_KEYS_LENGTH: usize = 256;

pub(super) fn not_found(id: Uuid) -> Error {
    Error::not_found(ErrorReason::OrderNotFound, "order", "Order", "order_id", id)
}

pub(super) fn action_not_found(action: &str, actions: &[String]) -> Error {
    let (some, omitted) = listed(actions, ", ", MAX_KEYS_LENGTH);
    let more = match omitted {
        0 => "",
        _ => " (get the order to see all of them)",
    };
    let message = format_args!(
        "The order has no action {}. Run one of its actions: {some}{more}.",
        Echo(action)
    );
    Error::new(Code::NotFound, ErrorReason::ActionNotFound, message)
        .with("action", Bare(action))
        .with_list("actions", "actions_omitted", actions)
        .resource("Action", Bare(action))
}

/// The prerequisites `open` are not done.
pub(super) fn action_prerequisite(action: &str, open: &[String]) -> Error {
    let (some, omitted) = listed(open, ", ", MAX_KEYS_LENGTH);
    let more = match omitted {
        0 => String::new(),
        omitted => format!(" and {omitted} more"),
    };
    let message =
        format_args!("The action {action:?} has open prerequisites. Run {some}{more} first.");
    Error::new(
        Code::FailedPrecondition,
        ErrorReason::ActionPrerequisite,
        message,
    )
    .with("action", action)
    .with_list("prerequisites", "prerequisites_omitted", open)
    .precondition(action)
}

pub(super) fn action_done(action: &Action) -> Error {
    let (key, state) = (&action.key, action.state);
    let message = format_args!(
        "The action {key:?} is already {state}. Continue with the order's next action."
    );
    Error::new(Code::FailedPrecondition, ErrorReason::ActionDone, message)
        .with("action", key)
        .with("action_state", state)
        .precondition(key)
}

pub(super) fn order_canceled(id: Uuid) -> Error {
    let message = "The order is CANCELED, which is final. Create a new order.";
    Error::new(
        Code::FailedPrecondition,
        ErrorReason::OrderCanceled,
        message,
    )
    .with("order_id", id)
    .precondition(id)
}

/// The order is in the step `step`, before that of the action.
pub(super) fn action_step(action: &Action, step: &str) -> Error {
    let (key, action_step) = (&action.key, &action.step);
    let message = format_args!(
        "The action {key:?} belongs to the step {action_step:?}, which the order has not reached: it is in the step \
         {step:?}. Finish or skip the actions of that step first, or move the order."
    );
    Error::new(Code::FailedPrecondition, ErrorReason::ActionStep, message)
        .with("action", key)
        .with("action_step", action_step)
        .with("step", step)
        .precondition(key)
}

pub(super) fn action_not_skipped(action: &Action) -> Error {
    let (key, state) = (&action.key, action.state);
    let message = format_args!(
        "The action {key:?} is {state}, so there is no skip to undo. Get the order to see the states of its actions."
    );
    let reason = ErrorReason::ActionNotSkipped;
    Error::new(Code::FailedPrecondition, reason, message)
        .with("action", key)
        .with("action_state", state)
        .precondition(key)
}

pub(super) fn order_complete(id: Uuid) -> Error {
    let message = "The order is COMPLETE: only a PROCESSING order can be moved or canceled. Create a new order, or undo \
                   the skip of an action to continue with this one.";
    Error::new(
        Code::FailedPrecondition,
        ErrorReason::OrderComplete,
        message,
    )
    .with("order_id", id)
    .precondition(id)
}

pub(super) fn action_claimed(action: &Action, claim: &Claim) -> Error {
    let (key, actor) = (&action.key, &claim.actor);
    let until = claim.expire_time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let message = format_args!(
        "The action {key:?} is claimed by {} until {until}. Wait until then, or let the worker report or release it.",
        Echo(&actor.name)
    );
    let reason = ErrorReason::ActionClaimed;
    Error::new(Code::FailedPrecondition, reason, message)
        .with("action", key)
        .with("actor_id", actor.id)
        .with("actor_name", Bare(&actor.name))
        .with("expire_time", until)
        .precondition(key)
}

/// The caller does not hold the claim `run_id`, for this cause.
pub(super) fn claim_lost(order_id: Uuid, action: &Action, run_id: Uuid, cause: &str) -> Error {
    let (key, state) = (&action.key, action.state);
    let message = format_args!(
        "The claim of the action {key:?} is lost: {cause}. Nothing was changed. Stop the work on it, and claim again."
    );
    Error::new(Code::FailedPrecondition, ErrorReason::ClaimLost, message)
        .with("run_id", run_id)
        .with("order_id", order_id)
        .with("action", key)
        .with("action_state", state)
        .precondition(key)
}

pub(super) fn claim_not_found(run_id: Uuid) -> Error {
    let message = format_args!(
        "No claim has the id {run_id}. Send the id of a run that ClaimActions returned."
    );
    Error::new(Code::NotFound, ErrorReason::ClaimNotFound, message)
        .with("run_id", run_id)
        .resource("ActionRun", run_id)
}
