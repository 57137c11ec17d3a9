//! The model of an EXTERNAL action that several workers claim, while time passes.

use chrono::Duration;
use leadsmith::core::clock::Clock;
use leadsmith_proto::{self as proto, ActionState, Order, RunOutcome};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tonic::Status;

use crate::harness::Caller;

/// How long the claims last, and how much time passes at once for all actions, in seconds.
const LEASE: i64 = 60;
const PASS: i64 = 31;
/// An id that no claim has.
const NO_CLAIM: &str = "01900000-0000-7000-8000-000000000001";

/// The model of the action, which is the only one of its order.
#[derive(Clone, Debug)]
pub struct ExpectedWork {
    pub order_id: String,
    pub key: String,
    pub version: u64,
    state: ActionState,
    /// The id of the last claim.
    run_id: String,
    /// Who made it, and when it expires, in milliseconds of the clock's uptime.
    claim: Option<(usize, i64)>,
    /// What the last change must have returned: success, or the reason of the error.
    pub expected: Result<(), &'static str>,
}

#[derive(Clone, Copy, Debug)]
pub enum WorkChange {
    /// Of an action that is FAILED, or of one that is not.
    Claim(bool),
    Report(RunOutcome),
    Release,
    Run(RunOutcome),
    Skip,
    Pass,
}

pub fn changes() -> impl Strategy<Value = WorkChange> {
    let outcome = || prop_oneof![Just(RunOutcome::Succeeded), Just(RunOutcome::Failed)];
    prop_oneof![
        6 => prop_oneof![3 => Just(false), 1 => Just(true)].prop_map(WorkChange::Claim),
        3 => outcome().prop_map(WorkChange::Report),
        2 => Just(WorkChange::Release),
        1 => outcome().prop_map(WorkChange::Run),
        1 => Just(WorkChange::Skip),
        4 => Just(WorkChange::Pass),
    ]
}

impl ExpectedWork {
    pub fn new(order_id: String, key: String) -> Self {
        Self {
            order_id,
            key,
            version: 1,
            state: ActionState::Pending,
            run_id: NO_CLAIM.to_owned(),
            claim: None,
            expected: Ok(()),
        }
    }

    /// Whether the order is COMPLETE.
    pub fn is_finished(&self) -> bool {
        [ActionState::Done, ActionState::Skipped].contains(&self.state)
    }

    /// Makes a change, and predicts its result. A claim that gets nothing succeeds.
    pub async fn call(
        &mut self,
        change: WorkChange,
        caller: (usize, &Caller),
        clock: &Clock,
    ) -> Result<(), Status> {
        let (number, caller) = caller;
        let run_id = self.run_id.clone();
        let version = self.version;
        let now = clock.uptime().num_milliseconds();
        self.expected = self.apply(change, number, now);
        let mut orders = caller.orders();
        match change {
            WorkChange::Claim(retry_failed) => {
                let request = proto::ClaimActionsRequest {
                    actions: vec![self.key.clone()],
                    lease: Some(prost_types::Duration {
                        seconds: LEASE,
                        nanos: 0,
                    }),
                    retry_failed,
                    ..Default::default()
                };
                let runs = orders.claim_actions(request).await?.into_inner().runs;
                assert_eq!(runs.len() as u64, self.version - version, "{self:?}");
                for run in runs {
                    self.run_id = run.id;
                }
            }
            WorkChange::Report(outcome) => {
                let request = proto::ReportActionRequest {
                    run_id,
                    outcome: outcome.into(),
                    ..Default::default()
                };
                orders.report_action(request).await?;
            }
            WorkChange::Release => {
                let request = proto::ReleaseActionRequest {
                    run_id,
                    ..Default::default()
                };
                orders.release_action(request).await?;
            }
            WorkChange::Run(outcome) => {
                let request = proto::RunActionRequest {
                    order_id: self.order_id.clone(),
                    action: self.key.clone(),
                    outcome: outcome.into(),
                    ..Default::default()
                };
                orders.run_action(request).await?;
            }
            WorkChange::Skip => {
                caller.skip(&self.order_id, &self.key).await?;
            }
            WorkChange::Pass => {
                clock.advance(Duration::seconds(PASS));
            }
        }
        Ok(())
    }

    /// The model's result of a change by this caller.
    fn apply(&mut self, change: WorkChange, caller: usize, now: i64) -> Result<(), &'static str> {
        let is_claimed = self.state == ActionState::Claimed;
        let is_held = is_claimed && self.claim.is_some_and(|(_, end)| now < end);
        let ends_claim = match self.claim {
            None => Err("CLAIM_NOT_FOUND"),
            Some((holder, _)) if is_held && holder == caller => Ok(()),
            Some(_) => Err("CLAIM_LOST"),
        };
        let is_free = match (self.is_finished(), is_held) {
            (true, _) => Err("ACTION_DONE"),
            (false, true) => Err("ACTION_CLAIMED"),
            (false, false) => Ok(()),
        };
        self.state = match change {
            WorkChange::Claim(retry_failed) => {
                let is_failed = self.state == ActionState::Failed;
                if is_free.is_err() || is_failed != retry_failed {
                    return Ok(());
                }
                self.claim = Some((caller, now + LEASE * 1_000));
                ActionState::Claimed
            }
            WorkChange::Pass => return Ok(()),
            WorkChange::Report(outcome) => ends_claim.map(|()| after(outcome))?,
            WorkChange::Release => ends_claim.map(|()| ActionState::Pending)?,
            WorkChange::Run(outcome) => is_free.map(|()| after(outcome))?,
            WorkChange::Skip => is_free.map(|()| ActionState::Skipped)?,
        };
        self.version += 1;
        Ok(())
    }

    /// Compares the stored order with the model.
    pub fn check(&self, order: &Order) -> Result<(), TestCaseError> {
        let action = &order.actions[0];
        prop_assert_eq!(action.state(), self.state);
        prop_assert_eq!(&order.etag, &format!("\"{}\"", self.version));
        let claim = action.claim.as_ref().map(|claim| claim.run_id.as_str());
        let is_claimed = self.state == ActionState::Claimed;
        prop_assert_eq!(claim, is_claimed.then_some(self.run_id.as_str()));
        Ok(())
    }
}

/// The state after a run with this outcome.
pub fn after(outcome: RunOutcome) -> ActionState {
    match outcome {
        RunOutcome::Failed => ActionState::Failed,
        RunOutcome::Succeeded | RunOutcome::Unspecified => ActionState::Done,
    }
}
