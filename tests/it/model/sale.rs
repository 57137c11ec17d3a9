//! The model of an opportunity, whose lead changes beside it.

use leadsmith::features::opportunities::model::{Effect, OpportunityState, Outcome, Transition};
use leadsmith_proto::{self as proto, Opportunity, OpportunityOutcome, OpportunityStage};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tonic::Status;

use crate::harness::{Caller, close, sale_update};

const STAGES: [OpportunityStage; 3] = [
    OpportunityStage::Contact,
    OpportunityStage::Meeting,
    OpportunityStage::Buying,
];

/// The model of an opportunity.
#[derive(Clone, Debug)]
pub struct ExpectedSale {
    pub id: String,
    state: OpportunityState,
    pub version: u64,
    /// The stage while it is open, which it keeps while it is closed.
    stage: OpportunityStage,
    next_step: String,
}

#[derive(Clone, Debug)]
pub enum SaleChange {
    NextStep(u8),
    Stage(usize),
    Close(Outcome),
    Reopen,
}

pub fn changes() -> impl Strategy<Value = SaleChange> {
    prop_oneof![
        2 => (0..3_u8).prop_map(SaleChange::NextStep),
        2 => (0..STAGES.len()).prop_map(SaleChange::Stage),
        1 => Just(SaleChange::Close(Outcome::Won)),
        1 => Just(SaleChange::Close(Outcome::Lost)),
        2 => Just(SaleChange::Reopen),
    ]
}

impl ExpectedSale {
    pub fn new(id: String) -> Self {
        Self {
            id,
            state: OpportunityState::Open,
            version: 1,
            stage: OpportunityStage::Contact,
            next_step: String::new(),
        }
    }

    /// The model's result of a change: success, or the reason of the error.
    pub fn apply(&mut self, change: &SaleChange) -> Result<(), &'static str> {
        match change {
            SaleChange::NextStep(step) => {
                self.go(Transition::Update)?;
                let before = std::mem::replace(&mut self.next_step, step.to_string());
                self.version += u64::from(before != self.next_step);
            }
            SaleChange::Stage(stage) => {
                self.go(Transition::Update)?;
                let before = std::mem::replace(&mut self.stage, STAGES[*stage]);
                self.version += u64::from(before != self.stage);
            }
            SaleChange::Close(outcome) => self.transit(Transition::Close(*outcome))?,
            SaleChange::Reopen => self.transit(Transition::Reopen)?,
        }
        Ok(())
    }

    fn go(&self, transition: Transition) -> Result<OpportunityState, &'static str> {
        match (self.state.effect(transition), self.state) {
            (Effect::To(state), _) => Ok(state),
            (Effect::Refused, OpportunityState::Open) => Err("OPPORTUNITY_OPEN"),
            (Effect::Refused, OpportunityState::Won | OpportunityState::Lost) => {
                Err("OPPORTUNITY_CLOSED")
            }
        }
    }

    fn transit(&mut self, transition: Transition) -> Result<(), &'static str> {
        self.state = self.go(transition)?;
        self.version += 1;
        Ok(())
    }

    /// Compares the stored opportunity with the model.
    pub fn check(
        &self,
        before: &Opportunity,
        after: &Opportunity,
        lead_state: i32,
    ) -> Result<(), TestCaseError> {
        let is_open = self.state == OpportunityState::Open;
        let expected = Opportunity {
            state: proto::OpportunityState::from_str_name(&format!(
                "OPPORTUNITY_STATE_{}",
                self.state
            ))
            .unwrap()
            .into(),
            stage: match is_open {
                true => self.stage,
                false => OpportunityStage::Closed,
            }
            .into(),
            next_step: self.next_step.clone(),
            etag: format!("\"{}\"", self.version),
            lead_state,
            close: after.close.clone(),
            update_time: after.update_time,
            ..before.clone()
        };
        prop_assert_eq!(after, &expected);
        prop_assert_eq!(
            after.close.as_ref().map(|close| close.stage()),
            (!is_open).then_some(self.stage)
        );
        let is_changed = before.etag != after.etag;
        prop_assert_eq!(is_changed, before.update_time != after.update_time);
        Ok(())
    }
}

impl SaleChange {
    pub async fn call(&self, caller: &Caller, id: &str, etag: String) -> Result<(), Status> {
        let mut opportunities = caller.opportunities();
        let mut change = Opportunity {
            id: id.into(),
            ..Opportunity::default()
        };
        match self {
            Self::NextStep(step) => {
                (change.etag, change.next_step) = (etag, step.to_string());
                let request = sale_update(change, &["next_step"]);
                opportunities.update(request).await.map(|_| ())
            }
            Self::Stage(stage) => {
                (change.etag, change.stage) = (etag, STAGES[*stage].into());
                let request = sale_update(change, &["stage"]);
                opportunities.update(request).await.map(|_| ())
            }
            Self::Close(outcome) => {
                let outcome = match outcome {
                    Outcome::Won => OpportunityOutcome::Won,
                    Outcome::Lost => OpportunityOutcome::Lost,
                };
                let request = proto::CloseOpportunityRequest {
                    etag,
                    ..close(id, outcome)
                };
                opportunities.close(request).await.map(|_| ())
            }
            Self::Reopen => {
                let request = proto::ReopenOpportunityRequest {
                    id: id.into(),
                    etag,
                    ..Default::default()
                };
                opportunities.reopen(request).await.map(|_| ())
            }
        }
    }
}
