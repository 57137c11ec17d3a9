//! The dashboard over all leads, and as many open opportunities: the time of one caller, for 30 days and for a year. It is
//! compared with a second, because nobody waits for it but a person.

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use tonic::{Request, Response, Status};

use crate::data::open;
use crate::echo::Replies;
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::samples::Samples;
use crate::setting::Setting;
use crate::storage::{Database, Storage};
use crate::testbed::{Access, Testbed, data_sets};

/// What its time is compared with, in microseconds.
const SECOND: f64 = 1e6;
/// The periods: their names, first and last days.
const PERIODS: [(&str, &str, &str); 2] = [
    ("Dashboard, 30 days", "2024-01-01", "2024-01-30"),
    ("Dashboard, 366 days", "2024-01-01", "2024-12-31"),
];

/// Get of a period.
struct Get {
    leads: u64,
    first_day: &'static str,
    last_day: &'static str,
}

impl Workload for Get {
    type Body = proto::GetDashboardRequest;
    type Reply = proto::GetDashboardResponse;
    type Expected = ();

    fn next_call(&self, _: &mut fastrand::Rng) -> Result<(Self::Body, ())> {
        let body = proto::GetDashboardRequest {
            time_zone: "Europe/Berlin".to_owned(),
            first_day: self.first_day.to_owned(),
            last_day: self.last_day.to_owned(),
            owner_id: String::new(),
        };
        Ok((body, ()))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.dashboards.get(request).await
    }

    fn echo_replies(_: Vec<u8>) -> Replies {
        // It is not compared with an echo.
        Replies::default()
    }

    fn check(&self, (): &(), reply: &Self::Reply) -> Result<()> {
        let dashboard = reply.dashboard.as_ref().context("no dashboard")?;
        let leads: i64 = dashboard
            .leads_by_state
            .iter()
            .map(|state| state.leads)
            .sum();
        ensure!(
            u64::try_from(leads) == Ok(self.leads),
            "other leads: {leads}"
        );
        let stages = dashboard.open_opportunities.iter();
        let opportunities: i64 = stages.map(|stage| stage.opportunities).sum();
        ensure!(
            u64::try_from(opportunities) == Ok(self.leads),
            "other opportunities: {opportunities}"
        );
        ensure!(
            dashboard
                .leads_by_state
                .first()
                .map(|state| state.leads.unsigned_abs())
                == Some(open(self.leads)),
            "another number of open leads"
        );
        Ok(())
    }
}

/// An opportunity with the id of each lead, in 4 stages and 3 currencies.
fn preparation(storage: &Storage) -> String {
    let json = match storage {
        Storage::Sqlite(_) => "json_object",
        Storage::Postgres(..) => "jsonb_build_object",
    };
    format!(
        "INSERT INTO opportunities (id, lead_id, version, name, stage, state, amount, probability, win_probability, \
         owner_id, next_step, description, create_time, update_time) \
         SELECT id, id, 1, 'Hosting', CASE seq % 4 WHEN 0 THEN 'CONTACT' WHEN 1 THEN 'MEETING' WHEN 2 THEN 'NEGOTIATION' \
         ELSE 'BUYING' END, 'OPEN', {json}('currency_code', CASE seq % 3 WHEN 0 THEN 'EUR' WHEN 1 THEN 'USD' ELSE 'JPY' END, \
         'units', seq % 100000, 'nanos', 500000000), 0, CAST(seq % 101 AS integer), owner_id, 'Call back', '', create_time, \
         update_time FROM leads ORDER BY seq"
    )
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let (programs, leads) = (setting.programs(), setting.leads);
    let data = data_sets(setting, programs, database, leads, Access::Changes).await?;
    for data in &data {
        data.storage.execute(&preparation(&data.storage)).await?;
        data.storage.analyze().await?;
    }
    let bed = Testbed::on(setting, data).await?;
    let mut rows = Vec::new();
    for (name, first_day, last_day) in PERIODS {
        let get = async |_: &_| {
            Ok(Get {
                leads,
                first_day,
                last_day,
            })
        };
        let workloads = bed.workloads(get).await?;
        let mut samples = Samples::default();
        for round in 0..setting.rounds {
            let turns = bed.in_turn(round, &workloads, 1, setting.time).await?;
            samples.add_times(&turns, SECOND);
        }
        rows.push(bed.times(name, 1, &samples, 1.0, " × 1 s"));
    }
    bed.end().await?;
    Ok(rows)
}
