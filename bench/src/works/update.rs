//! Update of a lead's phone under a request id. The phone is one of the texts a lead is found by, so
//! the search index changes with it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use prost_types::FieldMask;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::kept::{self, Blobs, Kept};
use super::request_id;
use crate::data::{DataSet, details, lead_id, open_number, phone};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::{self, Pgbench};
use crate::limits::sqlite::{Loop, Task};
use crate::load::{self, Caller, Work};
use crate::measure::Bed;
use crate::place::{Database, Place};
use crate::report::Row;
use crate::setting::Setting;

/// The area of the new phones.
const AREA: u64 = 40;

/// Update of a random OPEN lead.
pub struct Update {
    pub open: u64,
}

impl Work for Update {
    type Body = proto::UpdateLeadRequest;
    type Answer = proto::UpdateLeadResponse;
    type Asked = (String, String);

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, Self::Asked)> {
        let id = lead_id(open_number(random.u64(0..self.open))).to_string();
        let phone = phone(AREA, random.u64(..));
        let lead = proto::Lead {
            id: id.clone(),
            phone: phone.clone(),
            ..proto::Lead::default()
        };
        let body = proto::UpdateLeadRequest {
            lead: Some(lead),
            update_mask: Some(FieldMask {
                paths: vec!["phone".to_owned()],
            }),
            request_id: request_id(random).to_string(),
            ..proto::UpdateLeadRequest::default()
        };
        Ok((body, (id, phone)))
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

    fn check(&self, (id, phone): &Self::Asked, answer: &Self::Answer) -> Result<()> {
        let lead = answer.lead.as_ref().context("no lead")?;
        ensure!(lead.id == *id, "another lead");
        ensure!(lead.phone == *phone, "the phone is not the new one");
        ensure!(lead.etag != "\"1\"", "the etag is the old one");
        ensure!(lead.state() == proto::LeadState::Open, "another state");
        Ok(())
    }
}

/// What the database does for it.
pub fn limit(data: &DataSet, kept: Kept, in_flight: usize) -> Result<Limit> {
    Ok(match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(UpdateTask {
                leads: data.leads,
                blobs: kept.blobs()?,
                kept,
            }),
        }),
        Place::Postgres(cluster, name) => {
            let variables = kept.variables(data);
            Limit::Postgres(Pgbench::new(
                cluster,
                name,
                vec![script()],
                variables,
                in_flight,
            ))
        }
    })
}

/// The new number changes the last seven trigrams, or so, of the text the lead is found by.
fn script() -> String {
    let trigrams: Vec<String> = (0..7).map(|index| format!(":t{index}::int")).collect();
    let random: String = (0..7)
        .map(|index| format!("\\set t{index} random(1, 1000)\n"))
        .collect();
    format!(
        "{}{}{}{random}\\set digits random(1000000, 9999999)
         WITH changed AS (
           UPDATE leads SET phone = '+49 {AREA} ' || :digits::text, version = version + 1,
                            update_time = clock_timestamp()
            WHERE id = {} RETURNING id, seq, version, update_time),
         found AS (
           UPDATE lead_search
              SET text = left(text, -7) || :digits::text,
                  trigrams = trigrams[1 : cardinality(trigrams) - 7] || ARRAY[{}]
             FROM changed WHERE lead_search.seq = changed.seq)
         {}",
        pgbench::OPEN,
        pgbench::lead_id(),
        kept::ids(),
        pgbench::uuid("h"),
        trigrams.join(", "),
        kept::inserts(true)
    )
}

struct UpdateTask {
    leads: u64,
    kept: Kept,
    blobs: Blobs,
}

impl Task for UpdateTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE leads SET phone = ?, version = version + 1, update_time = ? WHERE id = ?
             RETURNING seq, version"
                .to_owned(),
            "DELETE FROM lead_search WHERE rowid = ?".to_owned(),
            "INSERT INTO lead_search (rowid, text) VALUES (?, ?)".to_owned(),
        ];
        statements.extend(kept::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let number = open_number(random.u64(0..self.leads / 10 * 9));
        let (id, phone) = (lead_id(number), phone(AREA, random.u64(..)));
        let mut details = details(number, self.leads);
        details.phone.clone_from(&phone);
        let values = params![phone, kept::now(), id.as_bytes()];
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (seq, version): (i64, i64) = statements[0].query_row(values, row)?;
        statements[1].execute([seq])?;
        statements[2].execute(params![seq, details.search_text()])?;
        let blobs = Some(&self.blobs);
        self.kept
            .write(&mut statements[3..], random, id, version, blobs)
    }
}

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data.copy().await?).await?;
        let work = Arc::new(Update {
            open: bed.data.open(),
        });
        let mut caller = bed.service.callers[0].clone();
        load::call(&*work, &mut caller, &mut fastrand::Rng::new()).await?;
        let limit = limit(&bed.data, Kept::of(&bed.data).await?, setting.in_flight)?;
        let least = match database {
            Database::Sqlite => 0.5,
            Database::Postgres => 0.6,
        };
        let row = bed.rate("Update", setting.in_flight, &work, &limit, Some(least));
        rows.push(row.await?);
        let row = bed.one_at_a_time("Update, one caller", &work, &limit, 1.5);
        rows.push(row.await?);
        bed.end().await?;
    }
    Ok(rows)
}
