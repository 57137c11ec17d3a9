//! Update of one field of a lead under a request id: of fields that leads are searched by, so that the
//! search index changes with them; of one that lists filter by, which has an index of its own; and of
//! one that has neither.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use prost_types::FieldMask;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::request_id;
use super::stored::{self, Stored};
use crate::data::{self, lead_id, open_number, person, phone};
use crate::echo::Answers;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Work};
use crate::place::Database;
use crate::report::Row;
use crate::samples::Samples;
use crate::setting::Setting;
use crate::testbed::{Access, Testbed, Works};

/// The area of the new phones.
const AREA: u64 = 40;
/// How many times as long an update of a searched field may take as one of another field.
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
    /// Those that leads are searched by.
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

    /// A new value, which differs from the old one as a correction would: a few characters of a phone
    /// or a source, all of a name.
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

impl Work for Update {
    type Body = proto::UpdateLeadRequest;
    type Answer = proto::UpdateLeadResponse;
    type Asked = (String, String);

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Asked)> {
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
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.update(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            update: answer,
            ..Answers::default()
        }
    }

    fn check(&self, (id, value): &Self::Asked, answer: &Self::Answer) -> Result<()> {
        let mut lead = answer.lead.clone().context("no lead")?;
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

/// What PostgreSQL does for it, whichever the field.
fn script(leads: u64, stored: &Stored) -> Script {
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

/// What SQLite does for it, whichever the field.
struct UpdateTask {
    leads: u64,
    stored: Stored,
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
    let place = Tables::Writes.ready(setting, database).await?;
    let (leads, in_flight) = (setting.leads, setting.in_flight);
    let update = async |field| bed.works(async |_| Ok(Update { leads, field })).await;
    let other = update(Field::Fax).await?;
    let response = bed.answer(&other).await?;
    let changes = [("phone", "+49 30 0000001", "+49 40 0000001")];
    let stored = Stored::new("Update", "lead.updated", &changes).with_response(&response);
    let task = Arc::new(UpdateTask {
        leads,
        stored: stored.clone(),
    });
    let limit = Limit::new(&place, in_flight, || task, || script(leads, &stored));
    let least = match database {
        Database::Sqlite => 0.5,
        Database::Postgres => 0.6,
    };
    for field in [&Field::SEARCHED[..], &[Field::Source, Field::Fax]].concat() {
        let works = update(field).await?;
        let name = format!("Update, {}", field.path());
        let row = bed.rate(&name, in_flight, &works, &limit, Some(least));
        rows.push(row.await?);
        rows.push(bed.one_caller(&name, &works, &limit, 1.5).await?);
    }
    for field in Field::SEARCHED {
        let works = update(field).await?;
        rows.push(beside(&bed, field, 1, &works, &other).await?);
        rows.push(beside(&bed, field, in_flight, &works, &other).await?);
    }
    bed.end().await?;
    place.remove().await?;
    Ok(rows)
}

/// The p50 of an update of a searched field beside that of another field, in the same rounds.
async fn beside(
    bed: &Testbed<'_>,
    field: Field,
    in_flight: usize,
    works: &Works<Update>,
    other: &Works<Update>,
) -> Result<Row> {
    let mut samples = Samples::default();
    for _ in 0..bed.setting.rounds {
        let another = bed.serve(other, in_flight).await?;
        let searched = bed.serve(works, in_flight).await?;
        samples.add_time(&searched, another.quantile(0.5));
    }
    let name = format!("Update, {} beside fax", field.path());
    Ok(bed.times(&name, in_flight, &samples, SEARCHED, " × fax"))
}
