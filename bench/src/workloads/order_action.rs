//! What both workloads of actions that people and workers do have in common: their orders, and the work that each
//! database does for a change of an action.

use std::sync::Arc;

use anyhow::Result;
use rusqlite::{Statement, params};

use super::run_action::any;
use super::stored::{self, Stored};
use crate::data::{self, order_id};
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::Workload;
use crate::program::Program;
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, data_sets};

/// The action of the orders of the data set.
pub const ACTION: &str = "provision-client";

/// A statement that gives the action of all orders another type.
pub fn retyped(database: Database, kind: &str) -> String {
    match database {
        Database::Postgres => format!(
            "UPDATE orders SET \
             actions = replace(actions::text, 'PROVISION_CLIENT', '{kind}')::jsonb"
        ),
        Database::Sqlite => {
            format!("UPDATE orders SET actions = replace(actions, 'PROVISION_CLIENT', '{kind}')")
        }
    }
}

/// What is measured.
pub struct Measured<W> {
    /// The name of the row.
    pub name: &'static str,
    /// Statements that prepare the orders.
    pub preparation: Vec<String>,
    pub workload: fn(leads: u64) -> W,
    /// The state of the action after the call.
    pub state: &'static str,
    /// The type of the call's event.
    pub event: &'static str,
}

impl<W: Workload> Measured<W> {
    /// The rate of these builds, compared with the limit.
    pub async fn measure(
        self,
        setting: &Setting,
        programs: &[Program],
        database: Database,
    ) -> Result<Row> {
        let leads = setting.leads;
        let data = data_sets(setting, programs, database, leads, Access::Changes).await?;
        for data in &data {
            for statement in &self.preparation {
                data.storage.execute(statement).await?;
            }
            data.storage.analyze().await?;
        }
        let bed = Testbed::on(setting, data).await?;
        let storage = Tables::Writes.ready(setting, database).await?;
        let workloads = bed.workloads(async |_| Ok((self.workload)(leads))).await?;
        let changes = [("actions.provision-client.state", "PENDING", self.state)];
        let response = bed.reply(&workloads).await?;
        let stored = Stored::new(self.name, self.event, &changes).with_response(&response);
        let work = Work {
            leads,
            actions: data::actions(self.state),
            stored,
        };
        let script = work.script();
        let limit = Limit::new(&storage, setting.in_flight, || Arc::new(work), || script);
        let row = bed.rate(self.name, setting.in_flight, &workloads, &limit, None);
        let row = row.await?;
        bed.end().await?;
        storage.remove().await?;
        Ok(row)
    }
}

/// The change of a random order's action, with a row of its ledger and what is stored with each change.
struct Work {
    leads: u64,
    actions: String,
    stored: Stored,
}

impl Work {
    fn script(&self) -> Script {
        let statement = format!(
            "{}{}{}{}WITH changed AS (
               UPDATE orders SET version = version + 1, actions = :actions::text,
                                 update_time = clock_timestamp()
                WHERE id = {} RETURNING id, version, update_time),
             run AS (
               INSERT INTO action_runs (order_id, id, action, time, actor, outcome)
               SELECT id, {}, '{ACTION}', clock_timestamp(), :actor::text, 'SUCCEEDED'
                 FROM changed)
             {}",
            pgbench::ordered(),
            pgbench::order_id(),
            pgbench::new_id("run"),
            self.stored.ids(),
            pgbench::uuid("o"),
            pgbench::uuid("run"),
            self.stored.inserts()
        );
        let mut variables = self.stored.variables();
        variables.push(("open", data::open(self.leads).to_string()));
        variables.push(("orders", data::orders(self.leads).to_string()));
        variables.push(("actions", self.actions.clone()));
        Script {
            statements: vec![statement],
            variables,
            writes: true,
        }
    }
}

impl Task for Work {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE orders SET version = version + 1, actions = ?, update_time = ? WHERE id = ?
             RETURNING version"
                .to_owned(),
            format!(
                "INSERT INTO action_runs (order_id, id, action, time, actor, outcome)
                 VALUES (?, ?, '{ACTION}', ?, ?, 'SUCCEEDED')"
            ),
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
        let changed = params![self.actions, time, bytes];
        let version = statements[0].query_row(changed, |row| row.get(0))?;
        let run = *stored::new_id(random).as_bytes();
        statements[1].execute(params![bytes, run, time, stored::ACTOR])?;
        self.stored
            .write(&mut statements[2..], random, order, version)
    }
}
