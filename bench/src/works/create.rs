//! Create of a lead that nobody has seen: with a request id, and as a backend that imports a list does
//! it, without.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::leads::model::Details;
use leadsmith::wire::proto;
use rusqlite::{Statement, params, params_from_iter};
use tonic::{Request, Response, Status};

use super::kept::{self, Blobs, Kept};
use super::request_id;
use crate::data::{COLUMNS, Cell, DataSet, details, row};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::{self, Pgbench};
use crate::limits::sqlite::{Loop, Task};
use crate::load::{self, Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::Row;
use crate::setting::Setting;

/// Create of a lead.
pub struct Create {
    pub leads: u64,
    pub request_id: bool,
}

/// What a new lead is called: like one of a larger data set, so that the texts that few share stay
/// with those few, and with an email of its own.
fn new_details(random: &mut fastrand::Rng, leads: u64) -> Details {
    Details {
        email: format!("new.{}@import.example", random.u64(..)),
        ..details(random.u64(leads..leads * 100), leads * 1_000)
    }
}

impl Work for Create {
    type Body = proto::CreateLeadRequest;
    type Answer = proto::CreateLeadResponse;
    type Asked = String;

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, String)> {
        let details = new_details(random, self.leads);
        let email = details.email.clone();
        let address = proto::Address {
            street: details.address.street,
            city: details.address.city,
            region: details.address.region,
            postal_code: details.address.postal_code,
            country_code: details.address.country_code,
        };
        let lead = proto::Lead {
            first_name: details.first_name,
            last_name: details.last_name,
            company: details.company,
            email: details.email,
            phone: details.phone,
            address: Some(address),
            language: details.language,
            source: details.source,
            custom_fields: details.custom_fields,
            ..proto::Lead::default()
        };
        let mut body = proto::CreateLeadRequest {
            lead: Some(lead),
            ..proto::CreateLeadRequest::default()
        };
        if self.request_id {
            body.request_id = request_id(random).to_string();
        }
        Ok((body, email))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.create(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            create: answer,
            ..Answers::default()
        }
    }

    fn check(&self, email: &String, answer: &Self::Answer) -> Result<()> {
        let lead = answer.lead.as_ref().context("no lead")?;
        ensure!(lead.id.len() == 36, "no id");
        ensure!(lead.email == *email, "another lead");
        ensure!(lead.etag == "\"1\"", "another version");
        ensure!(lead.state() == proto::LeadState::Open, "another state");
        Ok(())
    }
}

/// What the database does for it.
fn limit(data: &DataSet, kept: Kept, in_flight: usize, request_id: bool) -> Result<Limit> {
    Ok(match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(CreateTask {
                leads: data.leads,
                blobs: request_id.then(|| kept.blobs()).transpose()?,
                kept,
            }),
        }),
        Place::Postgres(cluster, name) => {
            let variables = kept.variables(data);
            let scripts = vec![script(request_id)];
            Limit::Postgres(Pgbench::new(cluster, name, scripts, variables, in_flight))
        }
    })
}

/// The texts come from a random lead, so that the new rows fall everywhere into the indexes.
fn script(request_id: bool) -> String {
    const COPIED: &str = "first_name, last_name, company, phone, fax, vat_id, street, city, region, \
                          postal_code, country_code, language, owner_id, source, custom_fields, \
                          last_name_key, company_key";
    let email = "'new.' || :lead2::text || '@import.example'";
    format!(
        "{}{}{}WITH changed AS (
           INSERT INTO leads (id, version, state, email, email_key, create_time, update_time, {COPIED})
           SELECT {}, 1, 'OPEN', {email}, {email}, clock_timestamp(), clock_timestamp(), {COPIED}
             FROM leads WHERE seq = :n::bigint AND NOT EXISTS (
               SELECT 1 FROM leads AS other WHERE other.email_key = {email} AND other.email_key <> '')
           RETURNING id, seq, version, update_time),
         found AS (
           INSERT INTO lead_search (seq, text, trigrams)
           SELECT changed.seq, text, trigrams
             FROM changed, lead_search WHERE lead_search.seq = :n::bigint)
         {}",
        pgbench::ANY,
        pgbench::new_id("lead"),
        kept::ids(),
        pgbench::uuid("lead"),
        kept::inserts(request_id)
    )
}

struct CreateTask {
    leads: u64,
    kept: Kept,
    blobs: Option<Blobs>,
}

impl Task for CreateTask {
    fn statements(&self) -> Vec<String> {
        let places = ["?"; 30].join(", ");
        let mut statements = vec![
            "SELECT id, state FROM leads WHERE email_key = ? AND email_key <> ''
              ORDER BY create_time LIMIT 1"
                .to_owned(),
            format!("INSERT INTO leads ({COLUMNS}) VALUES ({places}) RETURNING seq"),
            "INSERT INTO lead_search (rowid, text) VALUES (?, ?)".to_owned(),
        ];
        statements.extend(kept::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let details = new_details(random, self.leads);
        let email = details.email_key();
        ensure!(!statements[0].exists([email])?, "the email is not new");
        let id = kept::new_id(random);
        // An OPEN one, whose times and ids are set anew.
        let mut cells = row(1, &details)?;
        cells[0] = Cell::Null;
        cells[1] = Cell::Id(id);
        cells[28] = Cell::Text(kept::now());
        cells[29] = Cell::Text(kept::now());
        let seq: i64 = statements[1].query_row(params_from_iter(cells), |row| row.get(0))?;
        statements[2].execute(params![seq, details.search_text()])?;
        let blobs = self.blobs.as_ref();
        self.kept.write(&mut statements[3..], random, id, 1, blobs)
    }
}

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    measure_with(setting, "Create", setting.in_flight, true, Some(0.5)).await
}

pub async fn measure_import(setting: &Setting) -> Result<Vec<Row>> {
    measure_with(setting, "Import", 128, false, None).await
}

async fn measure_with(
    setting: &Setting,
    name: &str,
    in_flight: usize,
    request_id: bool,
    least: Option<f64>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data.copy().await?).await?;
        let leads = bed.data.leads;
        let mut caller = bed.service.callers[0].clone();
        // What is kept beside a change is told by one with a request id.
        let first = Create {
            leads,
            request_id: true,
        };
        load::call(&first, &mut caller, &mut fastrand::Rng::new()).await?;
        let kept = Kept::of(&bed.data).await?;
        let limit = limit(&bed.data, kept, in_flight, request_id)?;
        let work = Arc::new(Create { leads, request_id });
        rows.push(bed.rate(name, in_flight, &work, &limit, least).await?);
        bed.end().await?;
    }
    Ok(rows)
}
