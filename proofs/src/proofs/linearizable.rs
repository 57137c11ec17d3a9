//! 8 callers on few leads. The history of calls and responses of each lead must be linearizable. Shown to fail by
//! `answer-before-commit`, and by `lost-update`, which cannot occur on SQLite because of its single writer.

use anyhow::Result;
use leadsmith_proto::{Lead, LeadState};
use stateright::semantics::SequentialSpec;
use tonic::Status;

use crate::harness::client::{Caller, version};
use crate::harness::context::Context;
use crate::harness::linear::{self, Sizes, Subject};
use crate::harness::report::Findings;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Update(u32),
    Deactivate,
    Reactivate,
    Convert,
    Revert,
    Get,
}

#[derive(Clone, Debug, PartialEq)]
enum Response {
    Is(Model),
    Rejected(&'static str),
}

/// The part of a lead that this proof checks.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    state: LeadState,
    version: i64,
    phone: u32,
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Response;

    fn invoke(&mut self, op: &Op) -> Response {
        use LeadState::{Converted, Deactivated, Open};
        let next = match (op, self.state) {
            (Op::Get, _) => return Response::Is(self.clone()),
            (Op::Update(_), Open) | (Op::Reactivate, Deactivated) => Open,
            (Op::Deactivate, Open) => Deactivated,
            (Op::Convert, Open) => Converted,
            (Op::Revert, Converted) => Open,
            (Op::Revert, _) => return Response::Rejected("LEAD_NOT_CONVERTED"),
            (_, Open) => return Response::Rejected("LEAD_NOT_DEACTIVATED"),
            (_, Deactivated) => return Response::Rejected("LEAD_DEACTIVATED"),
            (_, _) => return Response::Rejected("LEAD_CONVERTED"),
        };
        if let Op::Update(phone) = op {
            self.phone = *phone;
        }
        self.state = next;
        self.version += 1;
        Response::Is(self.clone())
    }
}

/// A lead.
#[derive(Clone)]
struct Watched {
    id: String,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    linear::run::<Watched>(context).await
}

impl Subject for Watched {
    type Model = Model;
    type Memory = ();

    const SIZES: Sizes = Sizes {
        short: 200,
        callers: 8,
        calls: 5,
        subjects: 4,
        killed: 10,
        kill_after: 15,
    };
    const REASONS: &'static [&'static str] = &[
        "LEAD_NOT_DEACTIVATED",
        "LEAD_DEACTIVATED",
        "LEAD_CONVERTED",
        "LEAD_NOT_CONVERTED",
    ];
    const LAST: &'static [Op] = &[Op::Get];

    async fn create(caller: &Caller, number: usize) -> Result<(Self, Model)> {
        let lead = caller.create(&format!("Lead {number}"), "").await?;
        let model = model_of(&lead);
        Ok((Self { id: lead.id }, model))
    }

    fn choose(random: &mut fastrand::Rng, number: usize, (): &()) -> Op {
        match random.u32(..20) {
            0..9 => Op::Update(u32::try_from(number).unwrap_or(0)),
            9..11 => Op::Deactivate,
            11..13 => Op::Reactivate,
            13 => Op::Convert,
            14 => Op::Revert,
            _ => Op::Get,
        }
    }

    async fn call(&self, caller: &Caller, op: Op, (): &mut ()) -> Result<Response, Status> {
        let id = &self.id;
        let lead = match op {
            Op::Update(phone) => caller.update(id, &phone.to_string(), "").await,
            Op::Deactivate => caller.deactivate(id).await,
            Op::Reactivate => caller.reactivate(id).await,
            Op::Convert => caller.convert(id).await,
            Op::Revert => caller.revert_conversion(id).await,
            Op::Get => caller.get(id).await,
        };
        lead.map(|lead| Response::Is(model_of(&lead)))
    }

    fn rejected(reason: &'static str) -> Response {
        Response::Rejected(reason)
    }

    fn lead_version(response: &Response) -> Option<i64> {
        match response {
            Response::Is(lead) => Some(lead.version),
            Response::Rejected(_) => None,
        }
    }
}

fn model_of(lead: &Lead) -> Model {
    Model {
        state: lead.state(),
        version: version(lead),
        phone: lead.phone.parse().unwrap_or(0),
    }
}
