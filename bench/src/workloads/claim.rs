//! ClaimActions of one action. The orders of the data set get an EXTERNAL action instead of provision-client. Each call
//! claims one that was not claimed before, and the load fails when all are. The database alone uses random orders of its
//! own copy, and does not have to find one that is free.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::request_id;
use super::run_action::any;
use super::stored::{self, Stored};
use crate::data::{self, order_id};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, data_sets};

const ACTION: &str = "provision-client";
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

/// Makes the actions of all orders EXTERNAL, and lists them for workers, as the service does.
fn preparation(database: Database) -> [&'static str; 2] {
    let update = match database {
        Database::Postgres => {
            "UPDATE orders SET claims_version = version, \
             actions = replace(actions::text, 'PROVISION_CLIENT', 'EXTERNAL')::jsonb"
        }
        Database::Sqlite => {
            "UPDATE orders SET claims_version = version, \
             actions = replace(actions, 'PROVISION_CLIENT', 'EXTERNAL')"
        }
    };
    [
        update,
        "INSERT INTO claimable_actions (order_id, action, queue_id, is_failed, claim_time) \
         SELECT id, 'provision-client', queue_id, FALSE, create_time FROM orders",
    ]
}

/// The work of PostgreSQL.
fn script(leads: u64, stored: &Stored) -> Script {
    let statement = format!(
        "{}{}{}{}WITH changed AS (
           UPDATE orders SET version = version + 1, actions = :actions::text,
                             update_time = clock_timestamp()
            WHERE id = {} RETURNING id, version, update_time),
         run AS (
           INSERT INTO action_runs (order_id, id, action, time, actor, outcome)
           SELECT id, {}, 'provision-client', clock_timestamp(), :actor::text, 'SUCCEEDED'
             FROM changed)
         {}",
        pgbench::ordered(),
        pgbench::order_id(),
        pgbench::new_id("run"),
        stored.ids(),
        pgbench::uuid("o"),
        pgbench::uuid("run"),
        stored.inserts()
    );
    let mut variables = stored.variables();
    variables.push(("open", data::open(leads).to_string()));
    variables.push(("orders", data::orders(leads).to_string()));
    variables.push(("actions", data::actions("CLAIMED")));
    Script {
        statements: vec![statement],
        variables,
        writes: true,
    }
}

/// The work of SQLite.
struct ClaimTask {
    leads: u64,
    stored: Stored,
    claimed: String,
}

impl Task for ClaimTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE orders SET version = version + 1, actions = ?, update_time = ? WHERE id = ?
             RETURNING version"
                .to_owned(),
            "INSERT INTO action_runs (order_id, id, action, time, actor, outcome)
             VALUES (?, ?, 'provision-client', ?, ?, 'SUCCEEDED')"
                .to_owned(),
        ];
        statements.extend(Stored::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let order = order_id(any(self.leads, random));
        let (bytes, time) = (order.as_bytes(), stored::now());
        let claimed = params![self.claimed, time, bytes];
        let version = statements[0].query_row(claimed, |row| row.get(0))?;
        let run = *stored::new_id(random).as_bytes();
        statements[1].execute(params![bytes, run, time, stored::ACTOR])?;
        self.stored
            .write(&mut statements[2..], random, order, version)
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let leads = setting.leads;
    // Builds to compare with may not have this RPC.
    let programs = &setting.programs()[..1];
    let data = data_sets(setting, programs, database, leads, Access::Changes).await?;
    for statement in preparation(database) {
        data[0].storage.execute(statement).await?;
    }
    data[0].storage.analyze().await?;
    let bed = Testbed::on(setting, data).await?;
    let storage = Tables::Writes.ready(setting, database).await?;
    let workloads = bed.workloads(async |_| Ok(Claim)).await?;
    let changes = [("actions.provision-client.state", "PENDING", "CLAIMED")];
    let stored = Stored::new("ClaimActions", "order.action_claimed", &changes)
        .with_response(&bed.reply(&workloads).await?);
    let task = Arc::new(ClaimTask {
        leads,
        stored: stored.clone(),
        claimed: data::actions("CLAIMED"),
    });
    let limit = Limit::new(
        &storage,
        setting.in_flight,
        || task,
        || script(leads, &stored),
    );
    let row = bed.rate("ClaimActions", setting.in_flight, &workloads, &limit, None);
    let rows = vec![row.await?];
    bed.end().await?;
    storage.remove().await?;
    Ok(rows)
}
