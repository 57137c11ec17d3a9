//! Get by id.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use rusqlite::Statement;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::{lead_id, person, state};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::{self, Task};
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Side, Testbed};

/// Get of a random lead.
pub struct Get {
    pub leads: u64,
}

impl Workload for Get {
    type Body = proto::GetLeadRequest;
    type Reply = proto::GetLeadResponse;
    type Expected = u64;

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        let number = random.u64(1..=self.leads);
        let id = lead_id(number).to_string();
        Ok((proto::GetLeadRequest { id }, number))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.get(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            get: reply,
            ..Replies::default()
        }
    }

    fn check(&self, number: &u64, reply: &Self::Reply) -> Result<()> {
        let lead = reply.lead.as_ref().context("no lead")?;
        ensure!(lead.id == lead_id(*number).to_string(), "another lead");
        // Computing the whole text would cost more than the call.
        ensure!(
            !lead.company.is_empty() && !lead.etag.is_empty(),
            "a part of the lead"
        );
        ensure!(
            lead.state().as_str_name().ends_with(state(*number)),
            "another state"
        );
        Ok(())
    }
}

/// The work of PostgreSQL.
fn script(leads: u64) -> Script {
    let statement = format!(
        "{}{}SELECT {} FROM leads WHERE id = {};\n",
        pgbench::ANY,
        pgbench::lead_id(),
        all_columns(),
        pgbench::uuid("h")
    );
    Script {
        statements: vec![statement],
        variables: vec![("leads", leads.to_string())],
        writes: false,
    }
}

/// The work of SQLite.
struct GetTask(u64);

impl Task for GetTask {
    fn statements(&self) -> Vec<String> {
        vec![format!("SELECT {} FROM leads WHERE id = ?", all_columns())]
    }

    fn writes(&self) -> bool {
        false
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let id = lead_id(random.u64(1..=self.0));
        ensure!(
            sqlite::read(&mut statements[0], [id.as_bytes()])? == 1,
            "no lead"
        );
        Ok(())
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Reads).await?;
    let leads = setting.leads;
    let workloads = bed
        .workloads(async |side| {
            check_whole(side).await?;
            Ok(Get { leads })
        })
        .await?;
    let storage = Tables::Reads.ready(setting, database).await?;
    let limit = Limit::new(
        &storage,
        setting.in_flight,
        || Arc::new(GetTask(leads)),
        || script(leads),
    );
    let row = bed.rate("Get", setting.in_flight, &workloads, &limit, Some(0.9));
    rows.push(row.await?);
    rows.push(bed.one_caller("Get", &workloads, &limit, 1.5).await?);
    Ok(rows)
}

/// Checks that a lead has every text that it was loaded with.
async fn check_whole(side: &Side) -> Result<()> {
    let mut caller = side.caller();
    let number = side.data.leads / 3;
    let id = lead_id(number).to_string();
    let request = caller.request(proto::GetLeadRequest { id });
    let lead = caller.leads.get(request).await?.into_inner().lead;
    let lead = lead.context("no lead")?;
    let loaded = person(number, side.data.leads);
    let custom = lead.custom_fields.into_iter().collect();
    ensure!(
        lead.company == loaded.company
            && lead.phone == loaded.phone
            && lead.email == loaded.email
            && loaded.custom_fields == custom,
        "the service returns another lead than was loaded"
    );
    Ok(())
}
