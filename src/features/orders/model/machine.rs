//! The states of an order: what can be run, skipped and moved when, and where the order goes by itself. All
//! of it changes only the order; `fulfilment.rs` does what running an action does to others.
//!
//! The rules: an action can be run once the order has reached its step and its prerequisites are finished. Each
//! time an action is finished, the order leaves the steps whose actions are all finished. After the last step it
//! is COMPLETE. An action that a worker has claimed is open, and is neither run nor skipped until the claim has
//! expired (`claim.rs`).

use chrono::{DateTime, Utc};

use super::{Action, ActionState, Order, OrderState};
use crate::error::Result;
use crate::features::orders::errors;

impl Order {
    /// The action with this key.
    ///
    /// # Errors
    /// `ACTION_NOT_FOUND`.
    pub fn action(&self, key: &str) -> Result<&Action> {
        let found = self.actions.iter().find(|action| action.key == key);
        found.ok_or_else(|| {
            let keys = self.actions.iter().map(|action| action.key.clone());
            errors::action_not_found(key, &keys.collect::<Vec<_>>())
        })
    }

    /// Checks whether the order allows an action to run at `now`, by the database's clock. It matters only if the
    /// action is claimed.
    ///
    /// # Errors
    /// `ORDER_CANCELED`, `ACTION_DONE`, `ACTION_CLAIMED`, `ACTION_PREREQUISITE`, `ACTION_STEP`.
    pub fn check_runnable(&self, action: &Action, now: DateTime<Utc>) -> Result<()> {
        self.check_not_canceled()?;
        let is_repeatable = action.state == ActionState::Done && action.repeatable;
        if !action.state.is_open() && !is_repeatable {
            return Err(errors::action_done(action));
        }
        action.check_free(now)?;
        self.check_reached(action)
    }

    /// Checks that the prerequisites of an action are finished, and its step reached.
    ///
    /// # Errors
    /// `ACTION_PREREQUISITE`, `ACTION_STEP`.
    pub(super) fn check_reached(&self, action: &Action) -> Result<()> {
        let open = self.open_prerequisites(action);
        if !open.is_empty() {
            return Err(errors::action_prerequisite(&action.key, &open));
        }
        match self.has_reached(&action.step) {
            true => Ok(()),
            false => Err(errors::action_step(action, &self.step)),
        }
    }

    /// The next automatic action that is ready. An automatic action that failed is not run again
    /// automatically.
    pub fn next_automatic(&self) -> Option<Action> {
        let ready = |action: &&Action| {
            action.automatic
                && action.state == ActionState::Pending
                && self.check_reached(action).is_ok()
        };
        let is_processing = self.state == OrderState::Processing;
        let found = self.actions.iter().find(ready);
        found.filter(|_| is_processing).cloned()
    }

    /// Sets what a run has made of an action. If it is finished, the order goes on. A DONE action stays DONE when
    /// a repetition fails.
    pub fn set_result(&mut self, key: &str, state: ActionState) {
        let actions = self.actions.iter_mut();
        for action in actions.filter(|action| action.key == key && action.state.is_open()) {
            action.state = state;
            action.claim = None;
        }
        if !state.is_open() {
            self.advance();
        }
    }

    /// Leaves each step whose actions are all finished, from the one that the order is in. After the last one it
    /// is COMPLETE.
    pub fn advance(&mut self) {
        if self.state != OrderState::Processing {
            return;
        }
        let index = self.step_index(&self.step).unwrap_or_default();
        for step in &self.steps[index.min(self.steps.len())..] {
            self.step.clone_from(&step.key);
            let mut actions = self.actions.iter();
            if actions.any(|action| action.step == step.key && action.state.is_open()) {
                return;
            }
        }
        self.state = OrderState::Complete;
    }

    /// Skips an action, which finishes it, at `now` by the database's clock.
    ///
    /// # Errors
    /// `ACTION_NOT_FOUND`, `ORDER_CANCELED`, `ACTION_DONE`, `ACTION_CLAIMED`.
    pub fn skip(&mut self, key: &str, now: DateTime<Utc>) -> Result<()> {
        let action = self.action(key)?;
        self.check_not_canceled()?;
        if !action.state.is_open() {
            return Err(errors::action_done(action));
        }
        action.check_free(now)?;
        self.set_result(key, ActionState::Skipped);
        Ok(())
    }

    /// Makes a SKIPPED action PENDING again. A COMPLETE order is PROCESSING again, in its last step.
    ///
    /// # Errors
    /// `ACTION_NOT_FOUND`, `ORDER_CANCELED`, `ACTION_NOT_SKIPPED`.
    pub fn undo_skip(&mut self, key: &str) -> Result<()> {
        let action = self.action(key)?;
        self.check_not_canceled()?;
        if action.state != ActionState::Skipped {
            return Err(errors::action_not_skipped(action));
        }
        for action in self.actions.iter_mut().filter(|action| action.key == key) {
            action.state = ActionState::Pending;
        }
        self.state = OrderState::Processing;
        Ok(())
    }

    /// Whether [`Order::move_to`] can put it to this step: to another one of its own.
    pub fn has_other_step(&self, key: &str) -> bool {
        self.step_index(key).is_some() && self.step != key
    }

    /// Puts it to another of its steps, which [`Order::has_other_step`] has found. It stays there until an action
    /// is finished next.
    ///
    /// # Errors
    /// `ORDER_CANCELED`, `ORDER_COMPLETE`.
    pub fn move_to(&mut self, key: &str) -> Result<()> {
        self.check_processing()?;
        key.clone_into(&mut self.step);
        Ok(())
    }

    /// Cancels it, for good.
    ///
    /// # Errors
    /// `ORDER_CANCELED`, `ORDER_COMPLETE`.
    pub fn cancel(&mut self) -> Result<()> {
        self.check_processing()?;
        self.state = OrderState::Canceled;
        Ok(())
    }

    /// Checks that it is PROCESSING.
    ///
    /// # Errors
    /// `ORDER_CANCELED`, `ORDER_COMPLETE`.
    pub fn check_processing(&self) -> Result<()> {
        match self.state {
            OrderState::Processing => Ok(()),
            OrderState::Canceled => Err(errors::order_canceled(self.id)),
            OrderState::Complete => Err(errors::order_complete(self.id)),
        }
    }

    pub(super) fn check_not_canceled(&self) -> Result<()> {
        match self.state {
            OrderState::Processing | OrderState::Complete => Ok(()),
            OrderState::Canceled => Err(errors::order_canceled(self.id)),
        }
    }

    fn open_prerequisites(&self, action: &Action) -> Vec<String> {
        let open = |key: &&String| {
            self.actions
                .iter()
                .any(|other| other.key == **key && other.state.is_open())
        };
        action.prerequisites.iter().filter(open).cloned().collect()
    }

    /// Whether it is in this step or a later one.
    fn has_reached(&self, step: &str) -> bool {
        self.step_index(step) <= self.step_index(&self.step)
    }

    fn step_index(&self, key: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.key == key)
    }
}

#[cfg(test)]
mod tests;
