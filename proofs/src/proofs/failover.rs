//! PostgreSQL is restarted every few seconds while callers write, each repeating a call that failed under
//! the same request id. Nothing answered OK is lost, nothing is done twice. Shown to fail by
//! [`Bug::OutageIsFault`].
//!
//! [`Bug::OutageIsFault`]: leadsmith::seeded::Bug::OutageIsFault

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::harness::client::Caller;
use crate::harness::context::Context;
use crate::harness::report::Findings;
use crate::harness::whole;

const WRITERS: usize = 16;
const BETWEEN: Duration = Duration::from_secs(5);
const SERVING_AGAIN: Duration = Duration::from_secs(5);
/// How long a call is repeated at most.
const GIVE_UP: Duration = Duration::from_secs(60);
const ALLOWED: &[Code] = &[Code::Unavailable, Code::Aborted, Code::DeadlineExceeded];

/// What the writers share.
#[derive(Clone, Default)]
struct Shared {
    enough: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<String>>>,
    codes: Arc<Mutex<BTreeMap<String, usize>>>,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let (cluster, _) = desk.database.cluster()?;
    let server = context.serve(&desk, &[]).await?;
    let callers = desk.callers(&server, 4).await?;
    let shared = Shared::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let caller = callers[writer % callers.len()].clone();
        let random = context.random(writer as u64 + 1);
        writers.spawn(write(caller, writer, random, shared.clone()));
    }
    let restarts = context.size(3, 100);
    let mut slowest = Duration::ZERO;
    for _ in 0..restarts {
        tokio::time::sleep(BETWEEN.mul_f64(random.f64() / 2.0 + 0.5)).await;
        cluster.end(["fast", "immediate"][random.usize(..2)])?;
        cluster.begin()?;
        let begun = Instant::now();
        while callers[0].create("Probe", "").await.is_err() && begun.elapsed() < GIVE_UP {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest = slowest.max(begun.elapsed());
    }
    shared.enough.store(true, Ordering::Relaxed);
    for unfinished in writers.join_all().await.into_iter().flatten() {
        findings.broke(unfinished);
    }
    let db = desk.database.connect().await?;
    let mut there: HashMap<String, usize> = HashMap::new();
    for name in db
        .texts("SELECT last_name FROM leads WHERE last_name <> 'Probe'")
        .await?
    {
        *there.entry(name).or_default() += 1;
    }
    db.close().await?;
    for (name, count) in &there {
        findings.expect(*count == 1, || {
            format!("the lead {name:?} was made {count} times")
        });
    }
    let done = std::mem::take(&mut *lock(&shared.done));
    for name in &done {
        findings.expect(there.contains_key(name), || {
            format!("the acknowledged lead {name:?} is gone")
        });
    }
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("restarts", restarts);
    findings.fact("leads acknowledged", done.len());
    findings.fact(
        "slowest to serve again",
        format!("{} ms", slowest.as_millis()),
    );
    findings.expect(slowest < SERVING_AGAIN, || {
        format!("it took {slowest:?} to serve again")
    });
    for (code, count) in std::mem::take(&mut *lock(&shared.codes)) {
        let allowed = ALLOWED.iter().any(|allowed| format!("{allowed:?}") == code);
        findings.expect(allowed, || format!("{count} calls were answered {code}"));
        findings.fact(&format!("answered {code}"), count);
    }
    findings.finish()
}

/// Creates leads until told that it is enough. Tells of one that could not be had by repeating.
async fn write(
    caller: Caller,
    writer: usize,
    mut random: fastrand::Rng,
    shared: Shared,
) -> Option<String> {
    for number in 0..1_000_000 {
        if shared.enough.load(Ordering::Relaxed) {
            return None;
        }
        let name = format!("{writer} {number}");
        let id = Uuid::from_u128(random.u128(..)).to_string();
        let begun = Instant::now();
        while let Err(status) = caller.create(&name, &id).await {
            let code = format!("{:?}", status.code());
            *lock(&shared.codes).entry(code).or_default() += 1;
            if begun.elapsed() > GIVE_UP {
                return Some(format!("{name:?} could not be made in a minute: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        lock(&shared.done).push(name);
    }
    None
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}
