//! 32 concurrent writers. The server is repeatedly killed at a random moment and restarted. Every acknowledged
//! change must be present and complete. Shown to fail by `answer-before-commit`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::client::{Caller, reason, version};
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture};
use crate::harness::report::Findings;

const WRITERS: usize = 32;
/// An upper limit, so that a writer ends if the server is not killed.
const CHANGES: usize = 100_000;
/// How soon after its start a server must respond.
const SERVING_AGAIN: Duration = Duration::from_secs(2);

/// The acknowledged changes: for each lead the newest version and its phone.
type Acknowledged = Arc<Mutex<HashMap<Uuid, (i64, String)>>>;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let acknowledged = Acknowledged::default();
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let mut slowest = Duration::ZERO;
    let cycles = context.size(5, 200);
    for cycle in 0..=cycles {
        let started = Instant::now();
        let mut server = context.serve(&fixture, &[]).await?;
        let callers = fixture.callers(&server, 4).await?;
        callers[0].create(&format!("First {cycle}"), "").await?;
        slowest = slowest.max(started.elapsed());
        compare(&fixture, &acknowledged, &mut findings).await?;
        consistency::check(&fixture.database, &mut findings).await?;
        if cycle == cycles || findings.is_broken() {
            break;
        }
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let caller = callers[writer % callers.len()].clone();
            let name = format!("{cycle} {writer}");
            writers.spawn(write(caller, name, acknowledged.clone(), rejected.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(50..1_000))).await;
        server.kill()?;
        writers.join_all().await;
    }
    for reason in lock(&rejected).drain(..) {
        findings.broke(reason);
    }
    findings.fact("kills", cycles);
    findings.fact("leads acknowledged", lock(&acknowledged).len());
    let changes: i64 = lock(&acknowledged)
        .values()
        .map(|(version, _)| version)
        .sum();
    findings.fact("changes acknowledged", changes);
    findings.fact("slowest start", format!("{} ms", slowest.as_millis()));
    findings.expect(slowest < SERVING_AGAIN, || {
        format!("a start took {} ms", slowest.as_millis())
    });
    findings.finish()
}

/// Creates and updates leads until the server is gone. An error from the service itself is recorded, because
/// nothing here should cause one.
async fn write(
    caller: Caller,
    name: String,
    acknowledged: Acknowledged,
    rejected: Arc<Mutex<Vec<String>>>,
) {
    let mut lead = String::new();
    for change in 0..CHANGES {
        let text = format!("{name} {change}");
        let done = match change % 4 {
            0 => caller.create(&text, "").await,
            _ => caller.update(&lead, &text, "").await,
        };
        match done {
            Ok(done) => {
                let Ok(id) = done.id.parse() else { return };
                lock(&acknowledged).insert(id, (version(&done), done.phone));
                lead = done.id;
            }
            Err(status) => {
                let reason = reason(&status);
                if !["", "DATABASE_UNAVAILABLE"].contains(&reason.as_str()) {
                    lock(&rejected).push(format!("a call failed with {reason}"));
                }
                return;
            }
        }
    }
}

/// Compares the acknowledged changes with the database.
async fn compare(
    fixture: &Fixture,
    acknowledged: &Acknowledged,
    findings: &mut Findings,
) -> Result<()> {
    let db = fixture.database.connect().await?;
    let mut present: HashMap<Uuid, (i64, String)> = HashMap::new();
    for row in db.rows("SELECT id, version, phone FROM leads").await? {
        let lead = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        present.insert(row.try_get_by_index(0)?, lead);
    }
    db.close().await?;
    for (id, (version, phone)) in lock(acknowledged).iter() {
        match present.get(id) {
            None => findings.broke(format!("the acknowledged lead {id} is missing")),
            Some((stored, _)) if stored < version => findings.broke(format!(
                "lead {id} was acknowledged at version {version} and is at {stored}"
            )),
            Some((stored, found)) if stored == version && found != phone => {
                findings.broke(format!("lead {id} has the phone {found:?}, not {phone:?}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|held| held.into_inner())
}
