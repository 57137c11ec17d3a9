//! Convert by hand. A lead converts once: each call takes the next of a shuffled order, and the load
//! fails when half of them are used up. The other half is the database's alone, which may meet a lead
//! twice: it writes the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::kept::{self, Blobs, Kept};
use super::request_id;
use crate::data::{DataSet, lead_id, shuffled};
use crate::echo::Answers;
use crate::limits::Limit;
use crate::limits::pgbench::{self, Pgbench};
use crate::limits::sqlite::{Loop, Task};
use crate::load::{self, Caller, Work};
use crate::measure::Bed;
use crate::place::Place;
use crate::report::Row;
use crate::setting::Setting;

/// Leads in a shuffled order, each once.
pub struct Turns {
    next: AtomicU64,
    /// How many there are; the first half is to take.
    pub count: u64,
    /// How many OPEN leads the data set has.
    pub open: u64,
}

impl Turns {
    pub fn new(count: u64, open: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            count,
            open,
        }
    }

    /// The number of the next lead.
    pub fn next(&self) -> Result<u64> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        ensure!(
            turn < self.count / 2,
            "all {} leads are converted: measure for fewer --seconds or with more --leads",
            self.count / 2
        );
        Ok(shuffled(turn, self.open))
    }

    /// The number of any lead that is not among them.
    pub fn other(&self, random: &mut fastrand::Rng) -> u64 {
        shuffled(random.u64(self.count / 2..self.count), self.open)
    }
}

/// Convert of the next lead.
struct Convert(Turns);

fn body(number: u64, random: &mut fastrand::Rng) -> (proto::ConvertLeadRequest, u64) {
    let body = proto::ConvertLeadRequest {
        id: lead_id(number).to_string(),
        request_id: request_id(random).to_string(),
        ..proto::ConvertLeadRequest::default()
    };
    (body, number)
}

impl Work for Convert {
    type Body = proto::ConvertLeadRequest;
    type Answer = proto::ConvertLeadResponse;
    type Asked = u64;

    fn ask(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(self.0.next()?, random))
    }

    fn ask_echo(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(self.0.other(random), random))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Answer>, Status> {
        caller.leads.convert(request).await
    }

    fn echoed(answer: Vec<u8>) -> Answers {
        Answers {
            convert: answer,
            ..Answers::default()
        }
    }

    fn check(&self, number: &u64, answer: &Self::Answer) -> Result<()> {
        let lead = answer.lead.as_ref().context("no lead")?;
        check_converted(*number, lead, answer.client.as_ref())
    }
}

/// Whether a lead was converted to its client.
pub fn check_converted(
    number: u64,
    lead: &proto::Lead,
    client: Option<&proto::Client>,
) -> Result<()> {
    let client = client.context("no client")?;
    let id = lead_id(number).to_string();
    ensure!(lead.id == id && client.id == id, "another lead");
    ensure!(lead.state() == proto::LeadState::Converted, "not CONVERTED");
    ensure!(lead.etag == "\"2\"", "another version");
    ensure!(lead.conversion.is_some(), "no conversion");
    Ok(())
}

/// What the database does for it.
fn limit(data: &DataSet, kept: Kept, in_flight: usize) -> Result<Limit> {
    Ok(match &data.place {
        Place::Sqlite(file) => Limit::Sqlite(Loop {
            file: file.clone(),
            task: Arc::new(ConvertTask {
                turns: Turns::new(data.open(), data.open()),
                blobs: kept.blobs()?,
                kept,
            }),
        }),
        Place::Postgres(cluster, name) => {
            let mut variables = kept.variables(data);
            variables.push(("open", data.open().to_string()));
            variables.push(("turns", data.open().to_string()));
            let script = format!(
                "{}{}{}WITH changed AS (
                   UPDATE leads SET state = 'CONVERTED', version = version + 1,
                          conversion_time = clock_timestamp(), conversion_actor = :actor::jsonb,
                          update_time = clock_timestamp()
                    WHERE id = {} RETURNING id, version, update_time)
                 {}",
                pgbench::shuffled(),
                pgbench::lead_id(),
                kept::ids(),
                pgbench::uuid("h"),
                kept::inserts(true)
            );
            Limit::Postgres(Pgbench::new(
                cluster,
                name,
                vec![script],
                variables,
                in_flight,
            ))
        }
    })
}

struct ConvertTask {
    turns: Turns,
    kept: Kept,
    blobs: Blobs,
}

impl Task for ConvertTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE leads SET state = 'CONVERTED', version = version + 1, conversion_time = ?1,
                    conversion_actor = ?2, update_time = ?1 WHERE id = ?3 RETURNING version"
                .to_owned(),
        ];
        statements.extend(kept::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let id = lead_id(self.turns.other(random));
        let values = params![kept::now(), self.kept.actor, id.as_bytes()];
        let version = statements[0].query_row(values, |row| row.get(0))?;
        let blobs = Some(&self.blobs);
        self.kept
            .write(&mut statements[1..], random, id, version, blobs)
    }
}

pub async fn measure(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for database in setting.databases() {
        let data = DataSet::ready(setting, database, setting.leads).await?;
        let bed = Bed::start(setting, data.copy().await?).await?;
        let work = Arc::new(Convert(Turns::new(bed.data.open(), bed.data.open())));
        let mut caller = bed.service.callers[0].clone();
        load::call(&*work, &mut caller, &mut fastrand::Rng::new()).await?;
        let kept = Kept::of(&bed.data).await?;
        let limit = limit(&bed.data, kept, setting.in_flight)?;
        let row = bed.rate("Convert", setting.in_flight, &work, &limit, Some(0.5));
        rows.push(row.await?);
        bed.end().await?;
    }
    rows.extend(super::run_action::measure(setting).await?);
    Ok(rows)
}
