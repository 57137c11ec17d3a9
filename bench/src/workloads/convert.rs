//! Direct Convert. A lead converts once, so each call uses the next lead of a shuffled sequence, and the load
//! fails when all are used up. The database alone uses random leads of its own copy. It may use a lead twice,
//! which writes the same data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use leadsmith_proto as proto;
use rusqlite::{Statement, params};
use tonic::{Request, Response, Status};

use super::request_id;
use super::stored::{self, Stored};
use crate::data::{self, lead_id, open_number, shuffled};
use crate::echo::Replies;
use crate::limits::pgbench::{self, Script};
use crate::limits::sqlite::Task;
use crate::limits::{Limit, Tables};
use crate::load::{Caller, Workload};
use crate::row::Row;
use crate::setting::Setting;
use crate::storage::Database;
use crate::testbed::{Access, Testbed};

/// A sequence of positions, each of which is used once.
pub struct Sequence {
    next: AtomicU64,
    count: u64,
}

impl Sequence {
    pub fn new(count: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            count,
        }
    }

    /// The next position, from 0.
    pub fn next(&self) -> Result<u64> {
        let position = self.next.fetch_add(1, Ordering::Relaxed);
        ensure!(
            position < self.count,
            "all {} leads are converted: measure for fewer --seconds or with more --leads",
            self.count
        );
        Ok(position)
    }
}

/// Convert of the next lead.
struct Convert {
    sequence: Sequence,
    open: u64,
}

impl Convert {
    fn new(leads: u64) -> Self {
        let open = data::open(leads);
        Self {
            sequence: Sequence::new(open),
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

impl Workload for Convert {
    type Body = proto::ConvertLeadRequest;
    type Reply = proto::ConvertLeadResponse;
    type Expected = u64;

    fn next_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(shuffled(self.sequence.next()?, self.open), random))
    }

    fn next_echo_call(&self, random: &mut fastrand::Rng) -> Result<(Self::Body, u64)> {
        Ok(body(open_number(random.u64(..self.open)), random))
    }

    async fn send(
        caller: &mut Caller,
        request: Request<Self::Body>,
    ) -> Result<Response<Self::Reply>, Status> {
        caller.leads.convert(request).await
    }

    fn echo_replies(reply: Vec<u8>) -> Replies {
        Replies {
            convert: reply,
            ..Replies::default()
        }
    }

    fn check(&self, number: &u64, reply: &Self::Reply) -> Result<()> {
        let lead = reply.lead.as_ref().context("no lead")?;
        check_converted(*number, lead, reply.client.as_ref())
    }
}

/// Checks that a lead was converted to its client.
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

/// The data stored with a conversion, apart from its response.
pub fn stored(rpc: &'static str) -> Stored {
    Stored::new(rpc, "lead.converted", &[("state", "OPEN", "CONVERTED")])
}

/// The work of PostgreSQL.
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

/// The work of SQLite.
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
    let storage = Tables::Writes.ready(setting, database).await?;
    let leads = setting.leads;
    let workloads = bed.workloads(async |_| Ok(Convert::new(leads))).await?;
    let stored = stored("Convert").with_response(&bed.reply(&workloads).await?);
    let task = Arc::new(ConvertTask {
        open: data::open(leads),
        stored: stored.clone(),
    });
    let limit = Limit::new(
        &storage,
        setting.in_flight,
        || task,
        || script(leads, &stored),
    );
    let row = bed.rate("Convert", setting.in_flight, &workloads, &limit, Some(0.5));
    rows.push(row.await?);
    bed.end().await?;
    storage.remove().await?;
    rows.extend(super::run_action::measure(setting, database).await?);
    Ok(rows)
}
