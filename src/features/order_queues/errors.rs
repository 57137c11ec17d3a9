//! The errors of the rules of queues.

use tonic::Code;
use uuid::Uuid;

use super::model::{DEFAULT_QUEUE, OrderQueue};
use crate::error::{Error, ErrorReason};

/// No queue has this id.
pub fn not_found(id: Uuid) -> Error {
    let reason = ErrorReason::OrderQueueNotFound;
    Error::not_found(reason, "order queue", "OrderQueue", "order_queue_id", id)
}

/// Another queue has the name.
pub(super) fn duplicate(other: &OrderQueue) -> Error {
    let message = format_args!(
        "An order queue {:?} already exists: choose another name. Letter case makes no difference.",
        other.name
    );
    Error::new(
        Code::AlreadyExists,
        ErrorReason::DuplicateOrderQueue,
        message,
    )
    .with("order_queue_id", other.id)
    .field("order_queue.name", "belongs to another order queue")
}

/// No order is created in the queue.
pub fn archived(queue: &OrderQueue) -> Error {
    let message = format_args!(
        "The order queue {:?} is archived. Create the order in another queue, or unarchive this one first.",
        queue.name
    );
    let reason = ErrorReason::OrderQueueArchived;
    Error::new(Code::FailedPrecondition, reason, message)
        .with("order_queue_id", queue.id)
        .precondition(queue.id)
}

/// The default queue keeps its name and is not archived.
pub(super) fn default_queue() -> Error {
    let message = "The order queue \"default\" always exists: it can be neither renamed nor archived. Change its steps \
                   and actions, or create another queue.";
    let reason = ErrorReason::OrderQueueDefault;
    Error::new(Code::FailedPrecondition, reason, message)
        .with("order_queue_id", DEFAULT_QUEUE)
        .precondition(DEFAULT_QUEUE)
}
