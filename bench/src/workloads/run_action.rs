//! RunAction of an order's provision-client, which converts the order's lead.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{self, Sequence, check_converted};
use super::request_id;
use super::stored::{self, Stored};
use crate::data::{self, order_id, ordered};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed};

/// RunAction of the next order.
struct RunAction {
    sequence: Sequence,
    leads: u64,
}

impl RunAction {
    fn new(leads: u64) -> Self {
        Self {
            sequence: Sequence::new(data::orders(leads)),
            leads,
        }
    }
}

/// The number of the lead of a random order.
pub(super) fn any(leads: u64, random: &mut fastrand::Rng) -> u64 {
    ordered(random.u64(..data::orders(leads)), leads)
}

fn body(number: u64, random: &mut fastrand::Rng) -> (proto::RunActionRequest, u64) {
    let body = proto::RunActionRequest {
        order_id: order_id(number).to_string(),
        action: "provision-client".to_owned(),
        request_id: request_id(random).to_string(),
        ..proto::RunActionRequest::default()
    };
    (body, number)
}

impl Workload for RunAction {
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
        ensure!(order.id == order_id(*number).to_string(), "another order");
        ensure!(
            order.state() == proto::OrderState::Complete,
            "the order is not COMPLETE"
        );
        ensure!(
            run.outcome() == proto::RunOutcome::Succeeded && !run.no_change,
            "the run did not convert"
        );
        let lead = reply.lead.as_ref().context("no lead")?;
        check_converted(*number, lead, reply.client.as_ref())
    }
}

/// The work of PostgreSQL.
fn script(leads: u64, stored: &Stored) -> Script {
    let statement = format!(
        "{}{}{}{}WITH done AS (
           UPDATE orders SET version = version + 1, state = 'COMPLETE', actions = :actions::text,
                             update_time = clock_timestamp()
            WHERE id = {} RETURNING id, lead_id),
         changed AS (
           UPDATE leads SET state = 'CONVERTED', version = version + 1,
                  conversion_time = clock_timestamp(), conversion_actor = :actor::text,
                  conversion_order_id = done.id, update_time = clock_timestamp()
             FROM done WHERE leads.id = done.lead_id
           RETURNING leads.id, leads.version, leads.update_time),
         run AS (
           INSERT INTO action_runs (order_id, id, action, time, actor, outcome)
           SELECT id, {}, 'provision-client', clock_timestamp(), :actor::text, 'SUCCEEDED'
             FROM done)
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
    variables.push(("actions", data::actions("DONE")));
    Script {
        statements: vec![statement],
        variables,
        writes: true,
    }
}

/// The work of SQLite.
struct RunTask {
    leads: u64,
    stored: Stored,
    done: String,
}

impl Task for RunTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE orders SET version = version + 1, state = 'COMPLETE', actions = ?,
                    update_time = ? WHERE id = ? RETURNING lead_id"
                .to_owned(),
            "UPDATE leads SET state = 'CONVERTED', version = version + 1, conversion_time = ?1,
                    conversion_actor = ?2, conversion_order_id = ?3, update_time = ?1
              WHERE id = ?4 RETURNING version"
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
        let (order, time, actor) = (order.as_bytes(), stored::now(), stored::ACTOR);
        let done = params![self.done, time, order];
        let lead: [u8; 16] = statements[0].query_row(done, |row| row.get(0))?;
        let converted = params![time, actor, order, lead];
        let version = statements[1].query_row(converted, |row| row.get(0))?;
        let run = *stored::new_id(random).as_bytes();
        statements[2].execute(params![order, run, time, actor])?;
        let lead = Uuid::from_bytes(lead);
        self.stored
            .write(&mut statements[3..], random, lead, version)
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Changes).await?;
    let storage = Tables::Writes.ready(setting, database).await?;
    let leads = setting.leads;
    let workloads = bed.workloads(async |_| Ok(RunAction::new(leads))).await?;
    let stored = convert::stored("RunAction").with_response(&bed.reply(&workloads).await?);
    let task = Arc::new(RunTask {
        leads,
        stored: stored.clone(),
        done: data::actions("DONE"),
    });
    let limit = Limit::new(
        &storage,
        setting.in_flight,
        || task,
        || script(leads, &stored),
    );
    let row = bed.rate(
        "RunAction",
        setting.in_flight,
        &workloads,
        &limit,
        Some(0.5),
    );
    rows.push(row.await?);
    bed.end().await?;
    storage.remove().await?;
    Ok(rows)
}
