//! Convert by hand. A lead converts once: each call takes the next of a shuffled order, and the load
//! fails when all are used up. The database alone takes random ones of its own copy, and may meet a
//! lead twice: it writes the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use leadsmith::wire::proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::request_id;
use super::stored::{self, Stored};
use crate::data::{self, lead_id, open_number, shuffled};
use crate::echo::Answers;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Work};
use crate::place::Database;
use crate::report::Row;
use crate::setting::Setting;
use crate::testbed::{Access, Testbed};

/// Turns that are each taken once.
pub struct Turns {
    next: AtomicU64,
    count: u64,
}

impl Turns {
    pub fn new(count: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            count,
        }
    }

    /// The next turn, from 0.
    pub fn next(&self) -> Result<u64> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        ensure!(
            turn < self.count,
            "all {} leads are converted: measure for fewer --seconds or with more --leads",
            self.count
        );
        Ok(turn)
    }
}

/// Convert of the next lead.
struct Convert {
    turns: Turns,
    open: u64,
}

impl Convert {
    fn new(leads: u64) -> Self {
        let open = data::open(leads);
        Self {
            turns: Turns::new(open),
            open,
        }
    }
}

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
        Ok(body(shuffled(self.turns.next()?, self.open), random))
    }

    fn ask_echo(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(open_number(random.u64(..self.open)), random))
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

/// What is stored with a conversion, apart from its response.
pub fn stored(rpc: &'static str) -> Stored {
    Stored::new(rpc, "lead.converted", &[("state", "OPEN", "CONVERTED")])
}

/// What PostgreSQL does for it.
fn script(leads: u64, stored: &Stored) -> Script {
    let statement = format!(
        "{}{}{}WITH changed AS (
           UPDATE leads SET state = 'CONVERTED', version = version + 1,
                  conversion_time = clock_timestamp(), conversion_actor = :actor::text,
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

/// What SQLite does for it.
struct ConvertTask {
    open: u64,
    stored: Stored,
}

impl Task for ConvertTask {
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![
            "UPDATE leads SET state = 'CONVERTED', version = version + 1, conversion_time = ?1,
                    conversion_actor = ?2, update_time = ?1 WHERE id = ?3 RETURNING version"
                .to_owned(),
        ];
        statements.extend(Stored::statements());
        statements
    }

    fn writes(&self) -> bool {
        true
    }

    fn run(&self, statements: &mut [Statement<'_>], random: &mut fastrand::Rng) -> Result<()> {
        let id = lead_id(open_number(random.u64(..self.open)));
        let values = params![stored::now(), stored::ACTOR, id.as_bytes()];
        let version = statements[0].query_row(values, |row| row.get(0))?;
        self.stored.write(&mut statements[1..], random, id, version)
    }
}

pub async fn measure(setting: &Setting, database: Database) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bed = Testbed::start(setting, database, Access::Changes).await?;
    let place = Tables::Writes.ready(setting, database).await?;
    let leads = setting.leads;
    let works = bed.works(async |_| Ok(Convert::new(leads))).await?;
    let stored = stored("Convert").with_response(&bed.answer(&works).await?);
    let task = Arc::new(ConvertTask {
        open: data::open(leads),
        stored: stored.clone(),
    });
    let limit = Limit::new(
        &place,
        setting.in_flight,
        || task,
        || script(leads, &stored),
    );
    let row = bed.rate("Convert", setting.in_flight, &works, &limit, Some(0.5));
    rows.push(row.await?);
    bed.end().await?;
    place.remove().await?;
    rows.extend(super::run_action::measure(setting, database).await?);
    Ok(rows)
}
