//! 6 callers on a sale: a lead, its order, its opportunity, and a client that the lead can be joined to. The calls convert
//! the lead in three ways, revert that, claim and report the order's actions, and close the opportunity. The history of
//! calls and responses over all these records must be linearizable, so every call is one transaction over all that it
//! touches. Shown to fail by `revert-keeps-client`.

mod calls;
mod model;

use anyhow::Result;
use leadsmith_proto::OpportunityOutcome;
use tonic::Status;

use crate::harness::client::Caller;
use crate::harness::context::Context;
use crate::harness::linear::{self, Sizes, Subject};
use crate::harness::report::Findings;
use calls::{Claims, Sale};
use model::{Answer, Model, Op};

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    linear::run::<Sale>(context).await
}

impl Subject for Sale {
    type Model = Model;
    type Memory = Claims;

    const SIZES: Sizes = Sizes {
        short: 160,
        callers: 6,
        calls: 6,
        subjects: 4,
        killed: 8,
        kill_after: 20,
    };
    const REASONS: &'static [&'static str] = &[
        "LEAD_CONVERTED",
        "LEAD_NOT_CONVERTED",
        "CONVERSION_SETTLED",
        "ACTION_DONE",
        "ACTION_PREREQUISITE",
        "CLAIM_LOST",
        "OPPORTUNITY_CLOSED",
        "OPPORTUNITY_OPEN",
    ];
    const LAST: &'static [Op] = &[Op::GetLead, Op::GetClient, Op::GetOrder, Op::GetOpportunity];

    async fn create(caller: &Caller, number: usize) -> Result<(Self, Model)> {
        Self::open(caller, number).await
    }

    fn choose(random: &mut fastrand::Rng, number: usize, claims: &Claims) -> Op {
        let claimed = claims.last().map(|(number, _)| *number);
        match (random.u32(..24), claimed) {
            (0..3, _) => Op::Convert,
            (3..6, _) => Op::Join,
            (6..10, _) => Op::Revert,
            (10..13, _) => Op::Provision,
            (13..17, Some(claimed)) => Op::Report(claimed),
            (17, Some(claimed)) => Op::Release(claimed),
            (13..18, None) => Op::Claim(number),
            (18, _) => Op::Call,
            (19, _) => Op::Close(OpportunityOutcome::Won),
            (20, _) => Op::Reopen,
            (21, _) => Op::GetLead,
            (22, _) => Op::GetClient,
            _ => Op::GetOrder,
        }
    }

    async fn call(&self, caller: &Caller, op: Op, claims: &mut Claims) -> Result<Answer, Status> {
        self.send(caller, op, claims).await
    }

    fn rejected(reason: &'static str) -> Answer {
        Answer::Rejected(reason)
    }

    fn lead_version(answer: &Answer) -> Option<i64> {
        match answer {
            Answer::Lead(_, version) => Some(*version),
            Answer::Joined(..)
            | Answer::Client(_)
            | Answer::Order(_)
            | Answer::Opportunity(_)
            | Answer::Nothing
            | Answer::Rejected(_) => None,
        }
    }
}
