//! ClaimActions of one action. The orders of the data set get an EXTERNAL action instead of provision-client. Each call
//! claims one that was not claimed before, and the load fails when all are. The database alone uses random orders of its
//! own copy, and does not have to find one that is free.

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use super::order_action::{ACTION, Measured, retyped};
use super::request_id;
use crate::echo::Replies;
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;

/// Longer than a run, in seconds.
const LEASE: i64 = 3_600;

/// ClaimActions of one action.
struct Claim;

impl Workload for Claim {
    type Body = proto::ClaimActionsRequest;
    type Reply = proto::ClaimActionsResponse;
    type Expected = ();

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, ())> {
        let body = proto::ClaimActionsRequest {
            actions: vec![ACTION.to_owned()],
            max: 1,
            lease: Some(prost_types::Duration {
                seconds: LEASE,
                nanos: 0,
            }),
            request_id: request_id(random).to_string(),
            ..proto::ClaimActionsRequest::default()
        };
        Ok((body, ()))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.orders.claim_actions(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            claim_actions: reply,
            ..Replies::default()
        }
    }

    fn check(&self, (): &(), reply: &Self::Reply) -> Result<()> {
        let [run] = reply.runs.as_slice() else {
            anyhow::bail!(
                "{} claims: measure for fewer --seconds or with more --leads",
                reply.runs.len()
            );
        };
        let order = run.order.as_ref().context("no order")?;
        let action = order.actions.first().context("no action")?;
        let is_claimed = action.state() == proto::ActionState::Claimed;
        ensure!(is_claimed && run.lead.is_some(), "not CLAIMED");
        // Its first claim.
        ensure!(order.etag == "\"2\"", "another version");
        Ok(())
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Row> {
    let measured = Measured {
        name: "ClaimActions",
        // The actions become EXTERNAL, and are listed for workers, as the service does.
        preparation: vec![
            retyped(database, "EXTERNAL"),
            "UPDATE orders SET claims_version = version".to_owned(),
            format!(
                "INSERT INTO claimable_actions (order_id, action, queue_id, is_failed, claim_time) \
                 SELECT id, '{ACTION}', queue_id, FALSE, create_time FROM orders"
            ),
        ],
        workload: |_| Claim,
        state: "CLAIMED",
        event: "order.action_claimed",
    };
    // Builds to compare with may not have this RPC.
    let programs = &setting.programs()[..1];
    measured.measure(setting, programs, database).await
}
