//! Renders queues, and the steps that orders have too.

use crate::core::etag::etag;
use crate::features::order_queues::model::{ActionType, OrderQueue, Step, Template};
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::render::time;
use leadsmith_proto as proto;

/// Renders a queue.
pub fn queue(queue: OrderQueue) -> proto::OrderQueue {
    proto::OrderQueue {
        id: queue.id.to_string(),
        name: queue.name,
        steps: queue.steps.into_iter().map(step).collect(),
        actions: queue.actions.into_iter().map(action).collect(),
        archived: queue.archive_time.is_some(),
        etag: etag(queue.version),
        create_time: Some(time(queue.create_time)),
        update_time: Some(time(queue.update_time)),
        archive_time: queue.archive_time.map(time),
    }
}

/// Renders a queue that was only validated, without the fields that are set when it is stored.
pub(super) fn preview(queue: OrderQueue) -> proto::OrderQueue {
    proto::OrderQueue {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..self::queue(queue)
    }
}

/// Renders a step.
pub fn step(step: Step) -> proto::OrderStep {
    proto::OrderStep {
        key: step.key,
        name: step.name,
    }
}

/// Renders the template of an action, which has neither a state nor a claim.
pub fn action(action: Template) -> proto::OrderAction {
    proto::OrderAction {
        key: action.key,
        r#type: action.r#type.to_wire(),
        name: action.name,
        automatic: action.automatic,
        prerequisites: action.prerequisites,
        state: 0,
        step: action.step,
        repeatable: action.repeatable,
        claim: None,
    }
}

wire_enum!(
    ActionType = proto::ActionType {
        ProvisionClient,
        Manual,
        External
    }
);
