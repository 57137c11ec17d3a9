//! The previous version serves under load. On PostgreSQL this version starts next to it and migrates the database,
//! both serve the same callers, and the previous version is restarted on the new schema before it is stopped. On
//! SQLite only one server can use the file: the previous version is stopped, this one migrates and serves, the
//! previous one serves on the new schema as after a rollback, then this one again. The calls continue throughout. No
//! acknowledged change may be lost or made twice, calls may fail only while servers start or stop, and this version
//! returns the stored response to a request id of the previous version, byte for byte.
//!
//! Both versions create orders with EXTERNAL actions and change them by hand. Once every server has this version, callers
//! also use what the previous one does not know: workers claim and report the actions that either version left open, each
//! of which must be found once, and leads are joined to clients, and conversions of either version are reverted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::load::{Acknowledged, Load};
use crate::harness::client::version;
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture};
use crate::harness::database::{Database, Kind};
use crate::harness::previous;
use crate::harness::program::Serving;
use crate::harness::report::Findings;

const CALLERS: usize = 16;
/// How many changes of each period are retried at the end.
const REPLAYS: usize = 300;
const EXIT: Duration = Duration::from_secs(30);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let (commit, program) = previous::program()?;
    let previous = context.of(program);
    let fixture = previous.fixture()?;
    let time = Duration::from_secs(context.size(3, 60));
    let load = Arc::new(Load::default());
    let old = previous.replicas(&fixture, 2, &[]).await?;
    open(&load, &fixture, &old).await?;
    let running = load.start(CALLERS, &mut context.random(1));
    tokio::time::sleep(time).await;
    load.servers_changing(true);
    let by_old = load.seen().changes.len();
    let start_new = async || {
        let new = context.replicas(&fixture, 2, &[]).await?;
        open(&load, &fixture, &new).await?;
        anyhow::Ok(new)
    };
    let serve = async || {
        load.servers_changing(false);
        tokio::time::sleep(time).await;
        load.servers_changing(true);
    };
    let on_new_schema;
    let new = match context.kind {
        Kind::Sqlite => {
            end(&load, old, findings).await?;
            let first = start_new().await?;
            serve().await;
            end(&load, first, findings).await?;
            on_new_schema = load.seen().changes.len();
            let rolled_back = previous.replicas(&fixture, 1, &[]).await?;
            open(&load, &fixture, &rolled_back).await?;
            serve().await;
            end(&load, rolled_back, findings).await?;
            start_new().await?
        }
        Kind::Postgres => {
            let new = start_new().await?;
            serve().await;
            on_new_schema = load.seen().changes.len();
            let restarted = previous.replicas(&fixture, 1, &[]).await?;
            open(&load, &fixture, &restarted).await?;
            end(&load, old, findings).await?;
            serve().await;
            end(&load, restarted, findings).await?;
            new
        }
    };
    load.servers_changing(false);
    load.every_server_is_new();
    let until_new = load.seen().changes.len();
    tokio::time::sleep(time).await;
    load.stop();
    running.join_all().await;
    findings.fact("previous version", commit.get(..12).unwrap_or(&commit));
    findings.fact("changes by the previous version", by_old);
    findings.fact("changes by both or in between", until_new - by_old);
    let restarted = until_new - on_new_schema;
    findings.expect(restarted > 0, || {
        "the previous version served no change on the new schema".to_owned()
    });
    findings.fact(
        "changes while the previous version served on the new schema",
        restarted,
    );
    let by_new = load.seen().changes.len() - until_new;
    findings.fact("changes by this version", by_new);
    load.finish_work(&mut context.random(2)).await;
    check(&load, &fixture, findings).await?;
    replay(&load, by_old, &fixture, &new, findings).await
}

/// Lets callers use these servers too.
async fn open(load: &Load, fixture: &Fixture, servers: &[Serving]) -> Result<()> {
    for server in servers {
        load.open(server.id(), fixture.caller(server).await?);
    }
    Ok(())
}

/// Stops servers one after the other. Callers are not informed before.
async fn end(load: &Load, servers: Vec<Serving>, findings: &mut Findings) -> Result<()> {
    for mut server in servers {
        server.terminate()?;
        let status = server.ended(EXIT).await?;
        findings.expect(status.is_some_and(|status| status.success()), || {
            format!("a server was stopped and ended with {status:?}")
        });
        load.close(server.id());
    }
    Ok(())
}

/// Compares the acknowledged state with the database.
async fn check(load: &Load, fixture: &Fixture, findings: &mut Findings) -> Result<()> {
    let present = leads(&fixture.database).await?;
    consistency::check(&fixture.database, findings).await?;
    consistency::check_orders(&fixture.database, findings).await?;
    let seen = load.seen();
    seen.broken.iter().for_each(|why| findings.broke(why));
    for (id, lead) in &seen.leads {
        let wanted = (version(lead), lead.phone.clone());
        let found = present.get(id);
        findings.expect(found == Some(&wanted), || {
            format!("lead {id} was acknowledged as {wanted:?} and is {found:?}")
        });
    }
    findings.expect(present.len() == seen.leads.len(), || {
        format!(
            "{} leads were created, and {} are present",
            seen.leads.len(),
            present.len()
        )
    });
    let forgotten = seen.open.difference(&seen.reported).count();
    let surplus = seen.reported.difference(&seen.open).count();
    findings.expect(forgotten == 0 && surplus == 0, || {
        format!(
            "{forgotten} actions were not found by workers, and {surplus} that were not left open"
        )
    });
    findings.expect(seen.reverted > 0 && seen.joined > 0, || {
        "no conversion was reverted, or no lead joined".to_owned()
    });
    findings.fact("actions that workers have reported", seen.reported.len());
    findings.fact("leads joined to clients, and separated", seen.joined);
    findings.fact("conversions reverted", seen.reverted);
    for (reason, count) in &seen.retries {
        let reason = if reason.is_empty() {
            "no reason"
        } else {
            reason
        };
        findings.fact(
            &format!("retries with {reason} while servers started or stopped"),
            count,
        );
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

/// Retries changes of the previous version, and later ones, on this version.
async fn replay(
    load: &Load,
    by_old: usize,
    fixture: &Fixture,
    servers: &[Serving],
    findings: &mut Findings,
) -> Result<()> {
    let changes = load.seen().changes.clone();
    let (old, later) = changes.split_at(by_old);
    let mut repeated = 0;
    for (number, change) in sample(old).chain(sample(later)).enumerate() {
        let caller = fixture.caller(&servers[number % servers.len()]).await?;
        let response = caller.call(change.rpc, change.body.clone()).await;
        repeated += 1;
        findings.expect(response.as_ref().ok() == Some(&change.response), || {
            format!(
                "a retry of {} got another response: {:?}",
                change.rpc,
                response.err()
            )
        });
    }
    findings.fact("retried at the end", repeated);
    Ok(())
}

/// A sample of the changes, spread over the whole period.
fn sample(changes: &[Acknowledged]) -> impl Iterator<Item = &Acknowledged> {
    changes.iter().step_by(changes.len() / REPLAYS + 1)
}
