//! RunAction of a MANUAL action: a person notes that it is done. The orders of the data set get such an action instead of
//! provision-client. Each call runs the action of another order.

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use super::convert::Sequence;
use super::order_action::{ACTION, Measured, retyped};
use super::request_id;
use super::run_action::any;
use crate::data::{self, order_id, ordered};
use crate::echo::Replies;
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;

/// RunAction of the next order's action.
struct Manual {
    sequence: Sequence,
    leads: u64,
}

fn body(number: u64, random: &mut fastrand::Rng) -> (proto::RunActionRequest, u64) {
    let body = proto::RunActionRequest {
        order_id: order_id(number).to_string(),
        action: ACTION.to_owned(),
        request_id: request_id(random).to_string(),
        note: "Signed, and sent back by post".to_owned(),
        reference: format!("C-{number}"),
        ..proto::RunActionRequest::default()
    };
    (body, number)
}

impl Workload for Manual {
    type Body = proto::RunActionRequest;
    type Reply = proto::RunActionResponse;
    type Expected = u64;

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(ordered(self.sequence.next()?, self.leads), random))
    }

    fn next_echo_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(any(self.leads, random), random))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.orders.run_action(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            run_action: reply,
            ..Replies::default()
        }
    }

    fn check(&self, number: &u64, reply: &Self::Reply) -> Result<()> {
        let order = reply.order.as_ref().context("no order")?;
        let run = reply.run.as_ref().context("no run")?;
        let action = order.actions.first().context("no action")?;
        ensure!(order.id == order_id(*number).to_string(), "another order");
        ensure!(action.state() == proto::ActionState::Done, "not DONE");
        ensure!(run.reference == format!("C-{number}"), "another reference");
        let lead = reply.lead.as_ref().context("no lead")?;
        ensure!(
            lead.state() == proto::LeadState::Open,
            "the lead is not OPEN"
        );
        Ok(())
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Row> {
    let measured = Measured {
        name: "RunAction, MANUAL",
        preparation: vec![retyped(database, "MANUAL")],
        workload: |leads| Manual {
            sequence: Sequence::new(data::orders(leads)),
            leads,
        },
        state: "DONE",
        event: "order.action_run",
    };
    measured
        .measure(setting, setting.programs(), database)
        .await
}
