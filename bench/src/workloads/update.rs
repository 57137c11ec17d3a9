//! Update of one field of a lead with a request id: of searched fields, so that the search index changes with
//! them; of a field that lists filter by, which has its own index; and of one that has neither.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use prost_types::FieldMask;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::request_id;
use super::stored::{self, Stored};
use crate::data::{self, lead_id, open_number, person, phone};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::samples::Samples;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed, Workloads};

/// The area code of the new phones.
const AREA: u64 = 40;
/// The limit of the ratio of an update of a searched field to one of another field.
pub const SEARCHED: f64 = 2.0;

/// A field that is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Phone,
    Company,
    LastName,
    Source,
    Fax,
}

impl Field {
    /// The searched fields.
    pub const SEARCHED: [Self; 3] = [Self::Phone, Self::Company, Self::LastName];

    pub fn path(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Company => "company",
            Self::LastName => "last_name",
            Self::Source => "source",
            Self::Fax => "fax",
        }
    }

    /// A new value that differs from the old one like a typical correction: in a few characters of a phone or a
    /// source, or in all of a name.
    fn value(self, random: &mut fastrand::Rng, leads: u64) -> String {
        let number = random.u64(leads..leads * 100);
        match self {
            Self::Phone | Self::Fax => phone(AREA, random.u64(..)),
            Self::Company => person(number, leads * 1_000).company,
            Self::LastName => format!("{}-{number}", person(number, leads).last_name),
            Self::Source => format!("campaign {}", random.u32(..)),
        }
    }

    fn of_mut(self, lead: &mut proto::Lead) -> &mut String {
        match self {
            Self::Phone => &mut lead.phone,
            Self::Company => &mut lead.company,
            Self::LastName => &mut lead.last_name,
            Self::Source => &mut lead.source,
            Self::Fax => &mut lead.fax,
        }
    }
}

/// Update of a field of a random OPEN lead.
pub struct Update {
    pub leads: u64,
    pub field: Field,
}

impl Workload for Update {
    type Body = proto::UpdateLeadRequest;
    type Reply = proto::UpdateLeadResponse;
    type Expected = (String, String);

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Expected)> {
        let number = open_number(random.u64(0..data::open(self.leads)));
        let id = lead_id(number).to_string();
        let value = self.field.value(random, self.leads);
        let mut lead = proto::Lead {
            id: id.clone(),
            ..proto::Lead::default()
        };
        self.field.of_mut(&mut lead).clone_from(&value);
        let body = proto::UpdateLeadRequest {
            lead: Some(lead),
            update_mask: Some(FieldMask {
                paths: vec![self.field.path().to_owned()],
            }),
            request_id: request_id(random).to_string(),
            ..proto::UpdateLeadRequest::default()
        };
        Ok((body, (id, value)))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.update(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            update: reply,
            ..Replies::default()
        }
    }

    fn check(&self, (id, value): &Self::Expected, reply: &Self::Reply) -> Result<()> {
        let mut lead = reply.lead.clone().context("no lead")?;
        ensure!(lead.id == *id, "another lead");
        ensure!(
            self.field.of_mut(&mut lead) == value,
            "{} is not the new one",
            self.field.path()
        );
        ensure!(lead.etag != "\"1\"", "the etag is the old one");
        ensure!(lead.state() == proto::LeadState::Open, "another state");
        Ok(())
    }
}

/// The work of PostgreSQL, for any field.
pub fn script(leads: u64, stored: &Stored) -> Script {
    let statement = format!(
        "{}{}{}\\set digits random(1000000, 9999999)
         WITH changed AS (
           UPDATE leads SET phone = '+49 {AREA} ' || :digits::text, version = version + 1,
                            update_time = clock_timestamp()
            WHERE id = {} RETURNING id, version, update_time)
         {}",
        pgbench::OPEN,
        pgbench::lead_id(),
        stored.ids(),
        pgbench::uuid("h"),
        stored.inserts()
    );
    let mut variables = stored.variables();
    variables.push(("leads", leads.to_string()));
    Script {
        statements: vec![statement],
        variables,
        writes: true,
    }
}

/// The work of SQLite, for any field.
pub struct UpdateTask {
    pub leads: u64,
    pub stored: Stored,
}

impl Task for UpdateTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE leads SET phone = ?, version = version + 1, update_time = ? WHERE id = ?
             RETURNING version"
                .to_owned(),
        ];
        statements.extend(Stored::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let number = open_number(random.u64(0..data::open(self.leads)));
        let (id, phone) = (lead_id(number), phone(AREA, random.u64(..)));
        let values = params![phone, stored::now(), id.as_bytes()];
        let version = statements[0].query_row(values, |row| row.get(0))?;
        self.stored.write(&mut statements[1..], random, id, version)
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Changes).await?;
    let storage = Tables::Writes.ready(setting, database).await?;
    let (leads, in_flight) = (setting.leads, setting.in_flight);
    let update = async |field| bed.workloads(async |_| Ok(Update { leads, field })).await;
    let other = update(Field::Fax).await?;
    let response = bed.reply(&other).await?;
    let changes = [("phone", "+49 30 0000001", "+49 40 0000001")];
    let stored = Stored::new("Update", "lead.updated", &changes).with_response(&response);
    let task = Arc::new(UpdateTask {
        leads,
        stored: stored.clone(),
    });
    let limit = Limit::new(&storage, in_flight, || task, || script(leads, &stored));
    let least = match database {
        Database::Sqlite => 0.5,
        Database::Postgres => 0.6,
    };
    for field in [&Field::SEARCHED[..], &[Field::Source, Field::Fax]].concat() {
        let workloads = update(field).await?;
        let name = format!("Update, {}", field.path());
        let row = bed.rate(&name, in_flight, &workloads, &limit, Some(least));
        rows.push(row.await?);
        rows.push(bed.one_caller(&name, &workloads, &limit, 1.5).await?);
    }
    for field in Field::SEARCHED {
        let workloads = update(field).await?;
        rows.push(beside(&bed, field, 1, &workloads, &other).await?);
        rows.push(beside(&bed, field, in_flight, &workloads, &other).await?);
    }
    bed.end().await?;
    storage.remove().await?;
    Ok(rows)
}

/// The p50 of an update of a searched field compared with that of another field, in the same rounds.
async fn beside(
    bed: &Testbed<'_>,
    field: Field,
    in_flight: usize,
    workloads: &Workloads<Update>,
    other: &Workloads<Update>,
) -> Result<Row> {
    let mut samples = Samples::default();
    for _ in 0..bed.setting.rounds {
        let another = bed.serve(other, in_flight).await?;
        let searched = bed.serve(workloads, in_flight).await?;
        samples.add_time(&searched, another.quantile(0.5));
    }
    let name = format!("Update, {} beside fax", field.path());
    Ok(bed.times(&name, in_flight, &samples, SEARCHED, " × fax"))
}
