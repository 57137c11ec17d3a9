//! Those about orders and queues.

use leadsmith_proto::{
    ActionType, ArchiveOrderQueueRequest, CancelOrderRequest, ClaimActionsRequest,
    CommentOrderRequest, CreateOrderQueueRequest, CreateOrderRequest, MoveOrderRequest, Order,
    OrderAction, OrderQueue, OrderStep, ReleaseActionRequest, ReportActionRequest,
    RunActionRequest, RunOutcome, SkipActionRequest, UnarchiveOrderQueueRequest, UndoSkipRequest,
    UpdateOrderQueueRequest,
};

/// An order with the single action provision-client.
pub fn order(lead_id: &str, request_id: String) -> CreateOrderRequest {
    let order = Some(Order {
        lead_id: lead_id.to_owned(),
        ..Default::default()
    });
    CreateOrderRequest {
        order,
        request_id,
        ..Default::default()
    }
}

/// Runs the action provision-client.
pub fn run(order_id: &str, request_id: String) -> RunActionRequest {
    RunActionRequest {
        order_id: order_id.to_owned(),
        action: "provision-client".to_owned(),
        request_id,
        ..Default::default()
    }
}

/// The key of the action of [`order_to_install`].
pub const INSTALL: &str = "install";

/// An order with the single EXTERNAL action [`INSTALL`].
pub fn order_to_install(lead_id: &str, request_id: String) -> CreateOrderRequest {
    order_to(INSTALL, lead_id, request_id)
}

/// An order with a single EXTERNAL action of this key.
pub fn order_to(action: &str, lead_id: &str, request_id: String) -> CreateOrderRequest {
    let mut request = order(lead_id, request_id);
    let action = OrderAction {
        key: action.to_owned(),
        r#type: ActionType::External.into(),
        ..Default::default()
    };
    request.order.get_or_insert_default().actions = vec![action];
    request
}

/// Claims up to `max` actions [`INSTALL`] for so many seconds.
pub fn claim(max: i32, seconds: i64, request_id: String) -> ClaimActionsRequest {
    claim_of(INSTALL, max, seconds, request_id)
}

/// Claims up to `max` actions of this key for so many seconds.
pub fn claim_of(action: &str, max: i32, seconds: i64, request_id: String) -> ClaimActionsRequest {
    ClaimActionsRequest {
        actions: vec![action.to_owned()],
        max,
        lease: Some(prost_types::Duration { seconds, nanos: 0 }),
        request_id,
        ..Default::default()
    }
}

/// Reports that a claimed action succeeded.
pub fn report(run_id: &str, request_id: String) -> ReportActionRequest {
    ReportActionRequest {
        run_id: run_id.to_owned(),
        outcome: RunOutcome::Succeeded.into(),
        request_id,
        ..Default::default()
    }
}

pub fn release(run_id: &str, request_id: String) -> ReleaseActionRequest {
    ReleaseActionRequest {
        run_id: run_id.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn skip(order_id: &str, action: &str, request_id: String) -> SkipActionRequest {
    SkipActionRequest {
        order_id: order_id.to_owned(),
        action: action.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn undo_skip(order_id: &str, action: &str, request_id: String) -> UndoSkipRequest {
    UndoSkipRequest {
        order_id: order_id.to_owned(),
        action: action.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn move_order(order_id: &str, step: &str, request_id: String) -> MoveOrderRequest {
    MoveOrderRequest {
        order_id: order_id.to_owned(),
        step: step.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn comment(order_id: &str, text: &str, request_id: String) -> CommentOrderRequest {
    CommentOrderRequest {
        order_id: order_id.to_owned(),
        text: text.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn cancel(order_id: &str, request_id: String) -> CancelOrderRequest {
    CancelOrderRequest {
        id: order_id.to_owned(),
        request_id,
        ..Default::default()
    }
}

/// The keys of the steps of [`queue`]. Each has an action to do by hand.
pub const STEPS: [&str; 2] = ["first", "second"];

/// A queue of two steps.
pub fn queue(name: &str, request_id: String) -> CreateOrderQueueRequest {
    let step = |key: &str| OrderStep {
        key: key.to_owned(),
        name: key.to_owned(),
    };
    let action = |step: &str| OrderAction {
        key: format!("call-{step}"),
        r#type: ActionType::Manual.into(),
        step: step.to_owned(),
        ..Default::default()
    };
    let order_queue = Some(OrderQueue {
        name: name.to_owned(),
        steps: STEPS.map(step).to_vec(),
        actions: STEPS.map(action).to_vec(),
        ..Default::default()
    });
    CreateOrderQueueRequest {
        order_queue,
        request_id,
        ..Default::default()
    }
}

/// Renames a queue.
pub fn rename_queue(id: &str, name: &str, request_id: String) -> UpdateOrderQueueRequest {
    let order_queue = Some(OrderQueue {
        id: id.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    });
    UpdateOrderQueueRequest {
        order_queue,
        request_id,
        ..Default::default()
    }
}

pub fn archive_queue(id: &str, request_id: String) -> ArchiveOrderQueueRequest {
    ArchiveOrderQueueRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}

pub fn unarchive_queue(id: &str, request_id: String) -> UnarchiveOrderQueueRequest {
    UnarchiveOrderQueueRequest {
        id: id.to_owned(),
        request_id,
        ..Default::default()
    }
}
