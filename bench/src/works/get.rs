//! Get by id.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use rusqlite::Statement;
use tonic::{Request, Response, Status};

use super::all_columns;
use crate::data::{DataSet, details, lead_id, state};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::{self, Pgbench};
use crate::limits::sqlite::{self, Loop, Task};
use crate::load::{Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::Row;
use crate::setting::Setting;

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
        // The whole text costs more to make than to get: what it begins with is enough.
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

/// What the database does for it.
pub fn limit(data: &DataSet, in_flight: usize) -> Limit {
    match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(GetTask(data.leads)),
        }),
        Place::Postgres(cluster, name) => {
            let script = format!(
                "{}{}SELECT {} FROM leads WHERE id = {};\n",
                pgbench::ANY,
                pgbench::lead_id(),
                all_columns(),
                pgbench::uuid("h")
            );
            let variables = vec![("leads", data.leads.to_string())];
            Limit::Postgres(Pgbench::new(
                cluster,
                name,
                vec![script],
                variables,
                in_flight,
            ))
        }
    }
}

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

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data).await?;
        check_whole(&bed).await?;
        let work = Arc::new(Get {
            leads: bed.data.leads,
        });
        let limit = limit(&bed.data, setting.in_flight);
        let row = bed.rate("Get", setting.in_flight, &work, &limit, Some(0.9));
        rows.push(row.await?);
        let row = bed.one_at_a_time("Get, one caller", &work, &limit, 1.5);
        rows.push(row.await?);
    }
    Ok(rows)
}

/// A lead has every text it was loaded with.
async fn check_whole(bed: &Bed<'_>) -> Result<()> {
    let mut caller = bed.service.callers[0].clone();
    let number = bed.data.leads / 3;
    let id = lead_id(number).to_string();
    let request = caller.request(proto::GetLeadRequest { id });
    let lead = caller.leads.get(request).await?.into_inner().lead;
    let lead = lead.context("no lead")?;
    let loaded = details(number, bed.data.leads);
    let custom = lead.custom_fields.into_iter().collect();
    ensure!(
        lead.company == loaded.company
            && lead.phone == loaded.phone
            && lead.email == loaded.email
            && loaded.custom_fields == custom,
        "the service gives another lead than was loaded"
    );
    Ok(())
}
