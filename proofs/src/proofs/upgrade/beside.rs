//! The version before serves, under load. On PostgreSQL this version starts beside it and migrates, both
//! serve the same callers, then the older one is told to stop. On SQLite one server has the file: the older
//! one is told to stop, and this one takes over. Callers go on all the while. Nothing that was answered is
//! lost or done twice, nobody is refused but while servers come and go, and a request id of the older
//! version's gets its answer from this one, byte for byte.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::load::{Answered, Load};
use crate::harness::before;
use crate::harness::client::version;
use crate::harness::context::{Context, Desk};
use crate::harness::database::{Database, Kind};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use crate::harness::whole;

const CALLERS: usize = 16;
/// How many changes of each part of the time are repeated in the end.
const REPLAYS: usize = 300;
const EXIT: Duration = Duration::from_secs(30);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let (commit, program) = before::program()?;
    let past = context.of(program);
    let desk = past.desk()?;
    let replicas = match context.kind {
        Kind::Sqlite => 1,
        Kind::Postgres => 2,
    };
    let time = Duration::from_secs(context.size(3, 60));
    let load = Arc::new(Load::default());
    let old = past.replicas(&desk, replicas, &[]).await?;
    open(&load, &desk, &old).await?;
    let running = load.start(CALLERS, &mut context.random(1));
    tokio::time::sleep(time).await;
    load.restless(true);
    let by_old = load.seen().changes.len();
    let new = match context.kind {
        Kind::Sqlite => {
            end(&load, old, findings).await?;
            let new = context.replicas(&desk, replicas, &[]).await?;
            open(&load, &desk, &new).await?;
            new
        }
        Kind::Postgres => {
            let new = context.replicas(&desk, replicas, &[]).await?;
            open(&load, &desk, &new).await?;
            load.restless(false);
            tokio::time::sleep(time).await;
            load.restless(true);
            end(&load, old, findings).await?;
            new
        }
    };
    load.restless(false);
    let meanwhile = load.seen().changes.len();
    tokio::time::sleep(time).await;
    load.stop();
    running.join_all().await;
    findings.fact("version before", commit.get(..12).unwrap_or(&commit));
    findings.fact("changes by it alone", by_old);
    findings.fact("changes by both or in between", meanwhile - by_old);
    let by_new = load.seen().changes.len() - meanwhile;
    findings.fact("changes by this version alone", by_new);
    judge(&load, &desk, findings).await?;
    replay(&load, by_old, &desk, &new, findings).await
}

/// Lets callers call these servers too.
async fn open(load: &Load, desk: &Desk, servers: &[Serving]) -> Result<()> {
    for server in servers {
        load.open(server.id(), desk.caller(server).await?);
    }
    Ok(())
}

/// Stops servers, one after the other. Callers notice by themselves.
async fn end(load: &Load, servers: Vec<Serving>, findings: &mut Findings) -> Result<()> {
    for mut server in servers {
        server.terminate()?;
        let status = server.ended(EXIT).await?;
        findings.expect(status.is_some_and(|status| status.success()), || {
            format!("the version before was told to stop and ended with {status:?}")
        });
        load.close(server.id());
    }
    Ok(())
}

/// Compares what callers saw with what is there.
async fn judge(load: &Load, desk: &Desk, findings: &mut Findings) -> Result<()> {
    let there = leads(&desk.database).await?;
    whole::look(&desk.database, findings).await?;
    let seen = load.seen();
    seen.broken.iter().for_each(|why| findings.broke(why));
    for (id, lead) in &seen.leads {
        let wanted = (version(lead), lead.phone.clone());
        let found = there.get(id);
        findings.expect(found == Some(&wanted), || {
            format!("lead {id} was answered as {wanted:?} and is {found:?}")
        });
    }
    findings.expect(there.len() == seen.leads.len(), || {
        format!(
            "{} leads were created, and {} are there",
            seen.leads.len(),
            there.len()
        )
    });
    for (reason, count) in &seen.told {
        let reason = if reason.is_empty() { "nothing" } else { reason };
        findings.fact(&format!("told {reason} while servers came and went"), count);
    }
    Ok(())
}

/// Version and phone of each lead.
async fn leads(database: &Database) -> Result<HashMap<Uuid, (i64, String)>> {
    let db = database.connect().await?;
    let rows = db.rows("SELECT id, version, phone FROM leads").await?;
    db.close().await?;
    let lead = |row: &sea_orm::QueryResult| {
        let id = row.try_get_by_index(0)?;
        Ok((id, (row.try_get_by_index(1)?, row.try_get_by_index(2)?)))
    };
    rows.iter().map(lead).collect()
}

/// Repeats changes that the version before answered, and those that came after, on this version.
async fn replay(
    load: &Load,
    by_old: usize,
    desk: &Desk,
    servers: &[Serving],
    findings: &mut Findings,
) -> Result<()> {
    let changes = load.seen().changes.clone();
    let (old, later) = changes.split_at(by_old);
    let mut repeated = 0;
    for (number, change) in some(old).chain(some(later)).enumerate() {
        let caller = desk.caller(&servers[number % servers.len()]).await?;
        let answer = caller.call(change.rpc, change.body.clone()).await;
        repeated += 1;
        findings.expect(answer.as_ref().ok() == Some(&change.answer), || {
            format!(
                "a repeat of {} got another answer: {:?}",
                change.rpc,
                answer.err()
            )
        });
    }
    findings.fact("changes repeated in the end", repeated);
    Ok(())
}

/// So many of them, from all of the time.
fn some(changes: &[Answered]) -> impl Iterator<Item = &Answered> {
    changes.iter().step_by(changes.len() / REPLAYS + 1)
}
