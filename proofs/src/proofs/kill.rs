//! 32 callers write; the server is killed at a random moment and started again; and again. What was
//! answered OK must be there, whole. Shown to fail by `answer-before-commit`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::client::{Caller, reason, version};
use crate::harness::context::{Context, Desk};
use crate::harness::report::Findings;
use crate::harness::whole;

const WRITERS: usize = 32;
/// A writer that nobody kills ends by itself.
const CHANGES: usize = 100_000;
/// How soon after its start a server has to answer.
const SERVING_AGAIN: Duration = Duration::from_secs(2);

/// What callers were told is done: for each lead the newest version and the phone it has.
type Told = Arc<Mutex<HashMap<Uuid, (i64, String)>>>;

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let told = Told::default();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let mut slowest = Duration::ZERO;
    let cycles = context.size(5, 200);
    for cycle in 0..=cycles {
        let begun = Instant::now();
        let mut server = context.serve(&desk, &[]).await?;
        let callers = desk.callers(&server, 4).await?;
        callers[0].create(&format!("First {cycle}"), "").await?;
        slowest = slowest.max(begun.elapsed());
        compare(&desk, &told, &mut findings).await?;
        whole::look(&desk.database, &mut findings).await?;
        if cycle == cycles || findings.is_broken() {
            break;
        }
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let caller = callers[writer % callers.len()].clone();
            let name = format!("{cycle} {writer}");
            writers.spawn(write(caller, name, told.clone(), refused.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(50..1_000))).await;
        server.kill()?;
        writers.join_all().await;
    }
    for reason in lock(&refused).drain(..) {
        findings.broke(reason);
    }
    findings.fact("kills", cycles);
    findings.fact("leads acknowledged", lock(&told).len());
    let changes: i64 = lock(&told).values().map(|(version, _)| version).sum();
    findings.fact("changes acknowledged", changes);
    findings.fact("slowest start", format!("{} ms", slowest.as_millis()));
    findings.expect(slowest < SERVING_AGAIN, || {
        format!("a start took {} ms", slowest.as_millis())
    });
    findings.finish()
}

/// Creates leads and changes them until the server is gone. A refusal by the server itself is noted:
/// nothing here gives it a reason.
async fn write(caller: Caller, name: String, told: Told, refused: Arc<Mutex<Vec<String>>>) {
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
                lock(&told).insert(id, (version(&done), done.phone));
                lead = done.id;
            }
            Err(status) => {
                let reason = reason(&status);
                if !["", "DATABASE_UNAVAILABLE"].contains(&reason.as_str()) {
                    lock(&refused).push(format!("a call was refused: {reason}"));
                }
                return;
            }
        }
    }
}

/// Compares what callers were told with what is there.
async fn compare(desk: &Desk, told: &Told, findings: &mut Findings) -> Result<()> {
    let db = desk.database.connect().await?;
    let mut there: HashMap<Uuid, (i64, String)> = HashMap::new();
    for row in db.rows("SELECT id, version, phone FROM leads").await? {
        let lead = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        there.insert(row.try_get_by_index(0)?, lead);
    }
    db.close().await?;
    for (id, (version, phone)) in lock(told).iter() {
        match there.get(id) {
            None => findings.broke(format!("the acknowledged lead {id} is gone")),
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
