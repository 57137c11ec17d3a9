//! Get by id.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use rusqlite::Statement;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::{lead_id, person, state};
use crate::echo::Answers;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::{self, Task};
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Work};
use crate::place::Database;
use crate::report::Row;
use crate::setting::Setting;
use crate::testbed::{Access, Side, Testbed};

/// Get of a random lead.
pub struct Get {
    pub leads: u64,
}

impl Work for Get {
    type Body = proto::GetLeadRequest;
    type Answer = proto::GetLeadResponse;
    type Asked = u64;

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        let number = random.u64(1..=self.leads);
        let id = lead_id(number).to_string();
        Ok((proto::GetLeadRequest { id }, number))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.get(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            get: answer,
            ..Answers::default()
        }
    }

    fn check(&self, number: &u64, answer: &Self::Answer) -> Result<()> {
        let lead = answer.lead.as_ref().context("no lead")?;
        ensure!(lead.id == lead_id(*number).to_string(), "another lead");
        // To compute the whole text would cost more than to get it.
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

/// What PostgreSQL does for it.
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

/// What SQLite does for it.
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
    let works = bed
        .works(async |side| {
            check_whole(side).await?;
            Ok(Get { leads })
        })
        .await?;
    let place = Tables::Reads.ready(setting, database).await?;
    let limit = Limit::new(
        &place,
        setting.in_flight,
        || Arc::new(GetTask(leads)),
        || script(leads),
    );
    let row = bed.rate("Get", setting.in_flight, &works, &limit, Some(0.9));
    rows.push(row.await?);
    rows.push(bed.one_caller("Get", &works, &limit, 1.5).await?);
    Ok(rows)
}

/// A lead has every text it was loaded with.
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
