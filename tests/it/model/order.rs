//! The model of a lead's orders of the queue, which people work on by hand. The last one is changed; those before it
//! stay as they are.

use leadsmith_proto::{self as proto, ActionState, Order, OrderState, RunOutcome};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tonic::Status;

use super::Etag;
use super::queue::{ExpectedQueue, STEPS, Template};
use super::work::after;
use crate::harness::Caller;

/// An id that no order has.
const NO_ORDER: &str = "01900000-0000-7000-8000-000000000002";
/// The keys of all actions that a queue can have, and one that none has.
const KEYS: [&str; 4] = ["pack", "send", "thank", "nothing"];

/// The model of an order. Its steps and actions are those that the queue had when it was created.
#[derive(Clone, Debug)]
pub struct ExpectedOrder {
    pub id: String,
    pub version: u64,
    state: OrderState,
    /// The number of its steps, and the index of the one that it is in.
    steps: usize,
    step: usize,
    actions: Vec<(&'static Template, ActionState)>,
}

/// The model of the orders of a lead, oldest first.
#[derive(Clone, Debug, Default)]
pub struct ExpectedOrders(Vec<ExpectedOrder>);

#[derive(Clone, Copy, Debug)]
pub enum OrderChange {
    Create,
    Run(&'static str, RunOutcome),
    Skip(&'static str),
    UndoSkip(&'static str),
    Move(&'static str),
    Comment,
    Cancel,
}

pub fn changes() -> impl Strategy<Value = OrderChange> {
    let key = || {
        // Most calls are about an action that exists.
        prop_oneof![8 => prop::sample::select(&KEYS[..3]), 1 => Just(KEYS[3])]
    };
    let outcome = prop_oneof![3 => Just(RunOutcome::Succeeded), 1 => Just(RunOutcome::Failed)];
    prop_oneof![
        6 => Just(OrderChange::Create),
        6 => (key(), outcome).prop_map(|(key, outcome)| OrderChange::Run(key, outcome)),
        3 => key().prop_map(OrderChange::Skip),
        2 => key().prop_map(OrderChange::UndoSkip),
        3 => prop::sample::select(&STEPS[..]).prop_map(OrderChange::Move),
        1 => Just(OrderChange::Comment),
        1 => Just(OrderChange::Cancel),
    ]
}

fn is_open(state: ActionState) -> bool {
    ![ActionState::Done, ActionState::Skipped].contains(&state)
}

impl ExpectedOrder {
    fn new(id: String, queue: &ExpectedQueue) -> Self {
        let actions = queue.templates.iter();
        Self {
            id,
            version: 1,
            state: OrderState::Processing,
            steps: queue.steps,
            step: 0,
            actions: actions.map(|of| (of, ActionState::Pending)).collect(),
        }
    }

    fn find(&self, key: &str) -> Result<usize, &'static str> {
        let found = self.actions.iter().position(|(of, _)| of.key == key);
        found.ok_or("ACTION_NOT_FOUND")
    }

    /// Why an action cannot be run because of where the order is.
    fn check_reached(&self, index: usize) -> Result<(), &'static str> {
        let of = self.actions[index].0;
        let mut actions = self.actions.iter();
        if actions.any(|(other, state)| other.key == of.after && is_open(*state)) {
            return Err("ACTION_PREREQUISITE");
        }
        match of.step <= self.step {
            true => Ok(()),
            false => Err("ACTION_STEP"),
        }
    }

    /// Leaves the steps without an open action. After the last one it is COMPLETE.
    fn advance(&mut self) {
        while self.state == OrderState::Processing {
            let mut actions = self.actions.iter();
            if actions.any(|(of, state)| of.step == self.step && is_open(*state)) {
                return;
            }
            match self.step + 1 < self.steps {
                true => self.step += 1,
                false => self.state = OrderState::Complete,
            }
        }
    }

    /// Runs the automatic actions that are ready, which always succeed.
    fn run_automatic(&mut self) {
        while self.state == OrderState::Processing {
            let ready = (0..self.actions.len()).find(|index| {
                let (of, state) = self.actions[*index];
                let is_pending = state == ActionState::Pending;
                of.automatic && is_pending && self.check_reached(*index).is_ok()
            });
            let Some(index) = ready else { return };
            self.actions[index].1 = ActionState::Done;
            self.advance();
        }
    }

    fn check_not_canceled(&self) -> Result<(), &'static str> {
        match self.state == OrderState::Canceled {
            true => Err("ORDER_CANCELED"),
            false => Ok(()),
        }
    }

    fn check_processing(&self) -> Result<(), &'static str> {
        match self.state == OrderState::Complete {
            true => Err("ORDER_COMPLETE"),
            false => self.check_not_canceled(),
        }
    }

    /// The model's result of a change of this order: success, or the reason of the error.
    fn apply(&mut self, change: OrderChange, etag: Etag) -> Result<(), &'static str> {
        let index = match change {
            OrderChange::Run(key, _) | OrderChange::Skip(key) | OrderChange::UndoSkip(key) => {
                self.find(key)?
            }
            OrderChange::Create
            | OrderChange::Move(_)
            | OrderChange::Comment
            | OrderChange::Cancel => 0,
        };
        etag.check()?;
        match change {
            OrderChange::Create => {}
            OrderChange::Run(_, outcome) => {
                self.check_not_canceled()?;
                if !is_open(self.actions[index].1) {
                    return Err("ACTION_DONE");
                }
                self.check_reached(index)?;
                self.actions[index].1 = after(outcome);
                if outcome == RunOutcome::Succeeded {
                    self.advance();
                }
            }
            OrderChange::Skip(_) => {
                self.check_not_canceled()?;
                if !is_open(self.actions[index].1) {
                    return Err("ACTION_DONE");
                }
                self.actions[index].1 = ActionState::Skipped;
                self.advance();
            }
            OrderChange::UndoSkip(_) => {
                self.check_not_canceled()?;
                if self.actions[index].1 != ActionState::Skipped {
                    return Err("ACTION_NOT_SKIPPED");
                }
                self.actions[index].1 = ActionState::Pending;
                self.state = OrderState::Processing;
            }
            OrderChange::Move(step) => {
                self.check_processing()?;
                let mut steps = STEPS[..self.steps].iter();
                let found = steps.position(|key| *key == step);
                let another = found.filter(|index| *index != self.step);
                self.step = another.ok_or("FIELD_INVALID")?;
            }
            OrderChange::Comment => {}
            OrderChange::Cancel => {
                self.check_processing()?;
                self.state = OrderState::Canceled;
            }
        }
        if !matches!(change, OrderChange::Comment) {
            self.run_automatic();
        }
        self.version += 1;
        Ok(())
    }

    /// Compares the stored order with the model.
    pub fn check(&self, stored: &Order, queue_id: &str) -> Result<(), TestCaseError> {
        let steps = stored.steps.iter().map(|step| step.key.as_str());
        let actions = stored.actions.iter();
        let actions = actions.map(|action| (action.key.as_str(), action.state()));
        let found = (
            stored.state(),
            stored.step.as_str(),
            steps.collect::<Vec<_>>(),
            actions.collect::<Vec<_>>(),
            stored.etag.clone(),
            stored.queue_id.as_str(),
        );
        let actions = self.actions.iter().map(|(of, state)| (of.key, *state));
        let expected = (
            self.state,
            STEPS[self.step],
            STEPS[..self.steps].to_vec(),
            actions.collect::<Vec<_>>(),
            format!("\"{}\"", self.version),
            queue_id,
        );
        prop_assert_eq!(found, expected);
        Ok(())
    }
}

impl ExpectedOrders {
    pub fn current(&self) -> Option<&ExpectedOrder> {
        self.0.last()
    }

    pub fn all(&self) -> &[ExpectedOrder] {
        &self.0
    }

    pub fn is_any_complete(&self) -> bool {
        let mut orders = self.0.iter();
        orders.any(|order| order.state == OrderState::Complete)
    }

    /// The model's result of a change: success, or the reason of the error. `created` is the id of a new order.
    pub fn apply(
        &mut self,
        change: OrderChange,
        etag: Etag,
        queue: &ExpectedQueue,
        created: Option<String>,
    ) -> Result<(), &'static str> {
        match (change, self.0.last_mut()) {
            (OrderChange::Create, _) if queue.is_archived => Err("ORDER_QUEUE_ARCHIVED"),
            (OrderChange::Create, _) => {
                let id = created.unwrap_or_default();
                self.0.push(ExpectedOrder::new(id, queue));
                Ok(())
            }
            (_, None) => Err("ORDER_NOT_FOUND"),
            (_, Some(order)) => order.apply(change, etag),
        }
    }

    /// Makes the change. Returns the id of a new order.
    pub async fn call(
        &self,
        change: OrderChange,
        caller: &Caller,
        etag: Etag,
        lead_id: &str,
        queue: &ExpectedQueue,
    ) -> Result<Option<String>, Status> {
        let order = self.current();
        let order_id = order.map_or(NO_ORDER, |order| order.id.as_str()).to_owned();
        let etag = etag.at(order.map_or(1, |order| order.version));
        let mut orders = caller.orders();
        match change {
            OrderChange::Create => {
                let request = proto::CreateOrderRequest {
                    order: Some(Order {
                        lead_id: lead_id.to_owned(),
                        ..Order::default()
                    }),
                    queue_id: queue.id.clone(),
                    ..Default::default()
                };
                let created = orders.create(request).await?.into_inner();
                return Ok(created.order.map(|order| order.id));
            }
            OrderChange::Run(action, outcome) => {
                let request = proto::RunActionRequest {
                    order_id,
                    etag,
                    action: action.into(),
                    outcome: outcome.into(),
                    ..Default::default()
                };
                orders.run_action(request).await?;
            }
            OrderChange::Skip(action) => {
                let request = proto::SkipActionRequest {
                    order_id,
                    etag,
                    action: action.into(),
                    ..Default::default()
                };
                orders.skip_action(request).await?;
            }
            OrderChange::UndoSkip(action) => {
                let request = proto::UndoSkipRequest {
                    order_id,
                    etag,
                    action: action.into(),
                    ..Default::default()
                };
                orders.undo_skip(request).await?;
            }
            OrderChange::Move(step) => {
                let request = proto::MoveOrderRequest {
                    order_id,
                    etag,
                    step: step.into(),
                    ..Default::default()
                };
                orders.r#move(request).await?;
            }
            OrderChange::Comment => {
                let request = proto::CommentOrderRequest {
                    order_id,
                    etag,
                    text: "Called".into(),
                    ..Default::default()
                };
                orders.comment(request).await?;
            }
            OrderChange::Cancel => {
                let request = proto::CancelOrderRequest {
                    id: order_id,
                    etag,
                    ..Default::default()
                };
                orders.cancel(request).await?;
            }
        }
        Ok(None)
    }
}
