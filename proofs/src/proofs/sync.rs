//! One caller makes changes one after the other while strace records system calls. Between a request and the
//! sending of its response, some process or thread must have written the log of the database and then synced it.
//! Shown to fail by `answer-before-commit`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::harness::context::Context;
use crate::harness::database::Kind;
use crate::harness::report::Findings;
use crate::harness::strace::{Call, Tracing};

const WRITES: [&str; 3] = ["write", "pwrite64", "pwritev"];
const SYNCS: [&str; 2] = ["fsync", "fdatasync"];
const SENDS: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
/// A pause between two changes, so that system calls of one are not attributed to the other.
const PAUSE: Duration = Duration::from_millis(120);

/// When a change was requested and when its response arrived.
struct Acknowledged {
    requested: f64,
    acknowledged: f64,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let mut lead = caller.create("Bell", "").await?;
    let mut processes = vec![server.id()];
    let log = match context.kind {
        Kind::Sqlite => "leads.db-wal>",
        Kind::Postgres => {
            processes.extend(fixture.database.cluster()?.0.processes()?);
            "/pg_wal/"
        }
    };
    let calls: Vec<&str> = [&WRITES[..], &SYNCS, &SENDS].concat();
    let tracing = Tracing::begin(&processes, &[&format!("trace={}", calls.join(","))]).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "strace prints the time of the machine"
    )]
    let now = || anyhow::Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
    let mut acknowledged = Vec::new();
    for change in 0..context.size(20, 2_000) {
        let requested = now()?;
        match change % 4 {
            0 => lead = caller.create(&format!("Bell {change}"), "").await?,
            1 => lead = caller.update(&lead.id, &format!("{change}"), "").await?,
            2 => lead = caller.deactivate(&lead.id).await?,
            _ => lead = caller.reactivate(&lead.id).await?,
        }
        acknowledged.push(Acknowledged {
            requested,
            acknowledged: now()?,
        });
        tokio::time::sleep(PAUSE).await;
    }
    let calls = tracing.end()?;
    ensure!(!calls.is_empty(), "strace recorded nothing");
    let port = server.address.rsplit_once(':').context("no port")?.1;
    let own = format!("127.0.0.1:{port}->");
    let (mut synced, mut slowest) = (0, 0.0_f64);
    for (number, change) in acknowledged.iter().enumerate() {
        let sent = last_send(&calls, &own, change);
        let sent = sent.with_context(|| format!("no response to change {number} was recorded"))?;
        match covering_sync(&calls, log, change.requested, sent) {
            Some(sync) => {
                synced += 1;
                slowest = slowest.max(sync.ended - sync.started);
            }
            None => findings.broke(format!(
                "change {number} was acknowledged before it was synced"
            )),
        }
    }
    findings.fact("changes", acknowledged.len());
    findings.fact("acknowledged after a sync", synced);
    findings.fact("slowest sync", format!("{:.1} ms", slowest * 1e3));
    findings.finish()
}

/// When the server started to send the last part of a response.
fn last_send(calls: &[Call], own: &str, change: &Acknowledged) -> Option<f64> {
    let sends = calls.iter().filter(|call| {
        SENDS.contains(&call.name.as_str())
            && call.arguments.contains(own)
            && (change.requested..change.acknowledged).contains(&call.started)
    });
    sends.map(|call| call.started).max_by(f64::total_cmp)
}

/// The sync after the write to the database's log.
fn covering_sync<'a>(calls: &'a [Call], log: &str, requested: f64, sent: f64) -> Option<&'a Call> {
    let inside = |call: &&Call| {
        call.arguments.contains(log)
            && call.result >= 0
            && call.started >= requested
            && call.ended <= sent
    };
    let write = calls
        .iter()
        .filter(inside)
        .find(|call| WRITES.contains(&call.name.as_str()))?;
    calls
        .iter()
        .filter(inside)
        .find(|call| SYNCS.contains(&call.name.as_str()) && call.started >= write.ended)
}
