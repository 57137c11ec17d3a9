//! RunAction of an order's provision-client, which converts the order's lead.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{Turns, check_converted};
use super::kept::{self, Blobs, Kept};
use super::request_id;
use crate::data::{DataSet, order_id, orders};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::{self, Pgbench};
use crate::limits::sqlite::{Loop, Task};
use crate::load::{self, Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::Row;
use crate::setting::Setting;

/// How many orders there are at most.
const ORDERS: u64 = 400_000;

/// RunAction of the next order.
struct RunAction(Turns);

fn body(number: u64, random: &mut fastrand::Rng) -> (proto::RunActionRequest, u64) {
    let body = proto::RunActionRequest {
        order_id: order_id(number).to_string(),
        action: "provision-client".to_owned(),
        request_id: request_id(random).to_string(),
        ..proto::RunActionRequest::default()
    };
    (body, number)
}

impl Work for RunAction {
    type Body = proto::RunActionRequest;
    type Answer = proto::RunActionResponse;
    type Asked = u64;

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(self.0.next()?, random))
    }

    fn ask_echo(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(self.0.other(random), random))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.orders.run_action(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            run_action: answer,
            ..Answers::default()
        }
    }

    fn check(&self, number: &u64, answer: &Self::Answer) -> Result<()> {
        let order = answer.order.as_ref().context("no order")?;
        let run = answer.run.as_ref().context("no run")?;
        ensure!(order.id == order_id(*number).to_string(), "another order");
        ensure!(
            order.state() == proto::OrderState::Complete,
            "the order is not COMPLETE"
        );
        ensure!(
            run.outcome() == proto::RunOutcome::Succeeded && !run.no_change,
            "the run did not convert"
        );
        let lead = answer.lead.as_ref().context("no lead")?;
        check_converted(*number, lead, answer.client.as_ref())
    }
}

/// What the database does for it.
fn limit(data: &DataSet, kept: Kept, count: u64, in_flight: usize) -> Result<Limit> {
    Ok(match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(RunTask {
                turns: Turns::new(count, data.open()),
                blobs: kept.blobs()?,
                kept,
                done: orders::actions("DONE"),
            }),
        }),
        Place::Postgres(cluster, name) => {
            let mut variables = kept.variables(data);
            variables.push(("open", data.open().to_string()));
            variables.push(("turns", count.to_string()));
            variables.push(("actions", orders::actions("DONE")));
            let scripts = vec![script()];
            Limit::Postgres(Pgbench::new(cluster, name, scripts, variables, in_flight))
        }
    })
}

fn script() -> String {
    format!(
        "{}{}{}{}WITH done AS (
           UPDATE orders SET version = version + 1, state = 'COMPLETE', actions = :actions::jsonb,
                             update_time = clock_timestamp()
            WHERE id = {} RETURNING id, lead_id),
         changed AS (
           UPDATE leads SET state = 'CONVERTED', version = version + 1,
                  conversion_time = clock_timestamp(), conversion_actor = :actor::jsonb,
                  conversion_order_id = done.id, update_time = clock_timestamp()
             FROM done WHERE leads.id = done.lead_id
           RETURNING leads.id, leads.version, leads.update_time),
         run AS (
           INSERT INTO action_runs (id, order_id, lead_id, action, time, actor, outcome, no_change,
                                    automatic, error_reason, error_message)
           SELECT {}, id, lead_id, 'provision-client', clock_timestamp(), :actor::jsonb, 'SUCCEEDED',
                  false, false, '', '' FROM done)
         {}",
        pgbench::shuffled(),
        pgbench::order_id(),
        pgbench::new_id("run"),
        kept::ids(),
        pgbench::uuid("o"),
        pgbench::uuid("run"),
        kept::inserts(true)
    )
}

struct RunTask {
    turns: Turns,
    kept: Kept,
    blobs: Blobs,
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
            "INSERT INTO action_runs (id, order_id, lead_id, action, time, actor, outcome, no_change,
                                      automatic, error_reason, error_message)
             VALUES (?, ?, ?, 'provision-client', ?, ?, 'SUCCEEDED', false, false, '', '')"
                .to_owned(),
        ];
        statements.extend(kept::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let order = order_id(self.turns.other(random));
        let (order, time, actor) = (order.as_bytes(), kept::now(), &self.kept.actor);
        let done = params![self.done, time, order];
        let lead: [u8; 16] = statements[0].query_row(done, |row| row.get(0))?;
        let converted = params![time, actor, order, lead];
        let version = statements[1].query_row(converted, |row| row.get(0))?;
        let run = *kept::new_id(random).as_bytes();
        statements[2].execute(params![run, order, lead, time, actor])?;
        let blobs = Some(&self.blobs);
        let lead = Uuid::from_bytes(lead);
        self.kept
            .write(&mut statements[3..], random, lead, version, blobs)
    }
}

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let data = data.copy().await?;
        let count = data.open().min(ORDERS);
        orders::load(&data, count).await?;
        let bed = Bed::start(setting, data).await?;
        let work = Arc::new(RunAction(Turns::new(count, bed.data.open())));
        let mut caller = bed.service.callers[0].clone();
        load::call(&*work, &mut caller, &mut fastrand::Rng::new()).await?;
        let kept = Kept::of(&bed.data).await?;
        let limit = limit(&bed.data, kept, count, setting.in_flight)?;
        let row = bed.rate("RunAction", setting.in_flight, &work, &limit, Some(0.5));
        rows.push(row.await?);
        bed.end().await?;
    }
    Ok(rows)
}
