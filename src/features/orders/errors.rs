//! The errors of orders.

use tonic::Code;
use uuid::Uuid;

use super::model::Action;
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
