//! Create of a new lead, with a request id and without one, as in an import of a list.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use rusqlite::{Statement, params_from_iter};
use tonic::{Request, Response, Status};

use super::request_id;
use super::stored::{self, Stored};
use crate::data::{COLUMNS, Cell, Person, fold, person, row};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed};

/// Create of a lead.
pub struct Create {
    pub leads: u64,
    pub request_id: bool,
}

/// The texts of a new lead: those of a lead in a larger data set, so that rare texts stay rare, and with a unique
/// email.
fn new_person(random: &mut fastrand::Rng, leads: u64) -> Person {
    Person {
        email: format!("new.{}@import.example", random.u64(..)),
        ..person(random.u64(leads..leads * 100), leads * 1_000)
    }
}

impl Workload for Create {
    type Body = proto::CreateLeadRequest;
    type Reply = proto::CreateLeadResponse;
    type Expected = String;

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, String)> {
        let person = new_person(random, self.leads);
        let email = person.email.clone();
        let address = proto::Address {
            street: person.street,
            city: person.city,
            postal_code: person.postal_code,
            country_code: person.country_code,
            ..proto::Address::default()
        };
        let lead = proto::Lead {
            first_name: person.first_name,
            last_name: person.last_name,
            company: person.company,
            email: person.email,
            phone: person.phone,
            address: Some(address),
            language: person.language,
            source: person.source,
            custom_fields: person.custom_fields.into_iter().collect(),
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
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.create(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            create: reply,
            ..Replies::default()
        }
    }

    fn check(&self, email: &String, reply: &Self::Reply) -> Result<()> {
        let lead = reply.lead.as_ref().context("no lead")?;
        ensure!(lead.id.len() == 36, "no id");
        ensure!(lead.email == *email, "another lead");
        ensure!(lead.etag == "\"1\"", "another version");
        ensure!(lead.state() == proto::LeadState::Open, "another state");
        Ok(())
    }
}

/// The data stored with it, apart from its response: the history row and the event contain every text.
fn stored(leads: u64) -> Stored {
    let person = person(leads / 2, leads);
    let changes = [
        ("first_name", "", person.first_name.as_str()),
        ("last_name", "", &person.last_name),
        ("company", "", &person.company),
        ("email", "", &person.email),
        ("phone", "", &person.phone),
        ("address.street", "", &person.street),
        ("address.city", "", &person.city),
        ("address.postal_code", "", &person.postal_code),
        ("address.country_code", "", &person.country_code),
        ("language", "", &person.language),
        ("source", "", &person.source),
    ];
    Stored::new("Create", "lead.created", &changes)
}

/// The work of PostgreSQL. Only the email differs, because only it has an index.
fn script(leads: u64, stored: &Stored) -> Script {
    let person = person(leads / 2, leads);
    let email = "'new.' || :lead2::text || '@import.example'";
    let statement = format!(
        "{}{}WITH changed AS (
           INSERT INTO leads (id, version, state, email, email_key, create_time, update_time,
                              first_name, last_name, company, phone, fax, vat_id, street, city,
                              region, postal_code, country_code, language, owner_id, source,
                              custom_fields, last_name_key, company_key)
           SELECT {}, 1, 'OPEN', {email}, {email}, clock_timestamp(), clock_timestamp(),
                  '{}', '{}', '{}', '{}', '', '', '{}', '{}', '', '{}', '{}', '{}', '', '{}',
                  '{{\"employees\": \"1200\", \"tier\": \"silver\"}}', '{}', '{}'
            WHERE NOT EXISTS (SELECT 1 FROM leads WHERE email_key = {email})
           RETURNING id, version, update_time)
         {}",
        pgbench::new_id("lead"),
        stored.ids(),
        pgbench::uuid("lead"),
        person.first_name,
        person.last_name,
        person.company,
        person.phone,
        person.street,
        person.city,
        person.postal_code,
        person.country_code,
        person.language,
        person.source,
        fold(&person.last_name),
        fold(&person.company),
        stored.inserts()
    );
    Script {
        statements: vec![statement],
        variables: stored.variables(),
        writes: true,
    }
}

/// The work of SQLite.
struct CreateTask {
    leads: u64,
    stored: Stored,
}

impl Task for CreateTask {
    fn statements(&self) -> Vec<String> {
        let places = ["?"; 30].join(", ");
        let mut statements = vec![
            "SELECT id FROM leads WHERE email_key = ?".to_owned(),
            format!("INSERT INTO leads ({COLUMNS}) VALUES ({places})"),
        ];
        statements.extend(Stored::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let person = new_person(random, self.leads);
        ensure!(
            !statements[0].exists([&person.email])?,
            "the email is not new"
        );
        let id = stored::new_id(random);
        // The row of an OPEN lead, with new ids and times.
        let mut cells = row(1, &person)?;
        cells[0] = Cell::Null;
        cells[1] = Cell::Id(id);
        cells[28] = Cell::Text(stored::now());
        cells[29] = Cell::Text(stored::now());
        statements[1].execute(params_from_iter(cells))?;
        self.stored.write(&mut statements[2..], random, id, 1)
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    measure_with(
        setting,
        database,
        "Create",
        setting.in_flight,
        true,
        Some(0.5),
    )
    .await
}

pub async fn measure_import(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    measure_with(setting, database, "Import", 128, false, None).await
}

async fn measure_with(
    setting: &Setting,
    database: Database,
    name: &str,
    in_flight: usize,
    request_id: bool,
    least: Option<f64>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Changes).await?;
    let storage = Tables::Writes.ready(setting, database).await?;
    let leads = setting.leads;
    let workloads = bed.workloads(async |_| Ok(Create { leads, request_id }));
    let workloads = workloads.await?;
    let mut stored = stored(leads);
    if request_id {
        stored = stored.with_response(&bed.reply(&workloads).await?);
    }
    let task = Arc::new(CreateTask {
        leads,
        stored: stored.clone(),
    });
    let limit = Limit::new(&storage, in_flight, || task, || script(leads, &stored));
    rows.push(bed.rate(name, in_flight, &workloads, &limit, least).await?);
    bed.end().await?;
    storage.remove().await?;
    Ok(rows)
}
