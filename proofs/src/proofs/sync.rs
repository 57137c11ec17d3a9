//! One caller makes changes, one after the other, under the eyes of strace: between a question and the
//! sending of its answer the log of the database must have been written and then synced, by whichever
//! process and thread. Shown to fail by `answer-before-commit`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leadsmith::clock::Clock;

use crate::harness::context::Context;
use crate::harness::database::Kind;
use crate::harness::report::Findings;
use crate::harness::strace::{Call, Tracing};

const WRITES: [&str; 3] = ["write", "pwrite64", "pwritev"];
const SYNCS: [&str; 2] = ["fsync", "fdatasync"];
const SENDS: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
/// Between two changes, so that what belongs to one is not taken for the other's.
const PAUSE: Duration = Duration::from_millis(120);

/// When a change was asked for and when its answer had come.
struct Answered {
    asked: f64,
    answered: f64,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let mut lead = caller.create("Bell", "").await?;
    let mut processes = vec![server.id()];
    let log = match context.kind {
        Kind::Sqlite => "leads.db-wal>",
        Kind::Postgres => {
            processes.extend(desk.database.cluster()?.0.processes()?);
            "/pg_wal/"
        }
    };
    let calls: Vec<&str> = [&WRITES[..], &SYNCS, &SENDS].concat();
    let tracing = Tracing::begin(&processes, &[&format!("trace={}", calls.join(","))]).await?;
    let clock = Clock::default();
    let now = || {
        anyhow::Ok(
            std::time::Duration::from_micros(u64::try_from(clock.now().timestamp_micros())?)
                .as_secs_f64(),
        )
    };
    let mut answered = Vec::new();
    for change in 0..context.size(20, 2_000) {
        let asked = now()?;
        match change % 4 {
            0 => lead = caller.create(&format!("Bell {change}"), "").await?,
            1 => lead = caller.update(&lead.id, &format!("{change}"), "").await?,
            2 => lead = caller.deactivate(&lead.id).await?,
            _ => lead = caller.reactivate(&lead.id).await?,
        }
        answered.push(Answered {
            asked,
            answered: now()?,
        });
        tokio::time::sleep(PAUSE).await;
    }
    let calls = tracing.end()?;
    ensure!(!calls.is_empty(), "strace saw nothing");
    let port = server.address.rsplit_once(':').context("no port")?.1;
    let own = format!("127.0.0.1:{port}->");
    let (mut covered, mut slowest) = (0, 0.0_f64);
    for (number, change) in answered.iter().enumerate() {
        let sent = last_send(&calls, &own, change);
        let sent = sent.with_context(|| format!("no answer to change {number} was seen"))?;
        match covering_sync(&calls, log, change.asked, sent) {
            Some(sync) => {
                covered += 1;
                slowest = slowest.max(sync.ended - sync.begun);
            }
            None => findings.broke(format!("change {number} was answered before it was synced")),
        }
    }
    findings.fact("changes", answered.len());
    findings.fact("answered after a sync", covered);
    findings.fact("slowest sync", format!("{:.1} ms", slowest * 1e3));
    findings.finish()
}

/// When the server began to send the last of an answer.
fn last_send(calls: &[Call], own: &str, change: &Answered) -> Option<f64> {
    let sends = calls.iter().filter(|call| {
        SENDS.contains(&call.name.as_str())
            && call.arguments.contains(own)
            && (change.asked..change.answered).contains(&call.begun)
    });
    sends.map(|call| call.begun).max_by(f64::total_cmp)
}

/// The sync that came after what was written to the database's log.
fn covering_sync<'a>(calls: &'a [Call], log: &str, asked: f64, sent: f64) -> Option<&'a Call> {
    let inside = |call: &&Call| {
        call.arguments.contains(log)
            && call.result >= 0
            && call.begun >= asked
            && call.ended <= sent
    };
    let write = calls
        .iter()
        .filter(inside)
        .find(|call| WRITES.contains(&call.name.as_str()))?;
    calls
        .iter()
        .filter(inside)
        .find(|call| SYNCS.contains(&call.name.as_str()) && call.begun >= write.ended)
}
