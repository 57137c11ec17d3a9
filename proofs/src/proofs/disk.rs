//! The disk is full, fails to sync, or is slow. Every acknowledged change must be present after a restart. Reads
//! must continue to work. The service must recover by itself when the disk works again. Shown to fail by
//! `spoilt-connection`.
//!
//! The full disk is a tmpfs of 16 MiB, which only root can mount. strace makes the syncs fail. PostgreSQL handles
//! its own disk errors; how the service handles the end of PostgreSQL is tested by `failover`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use crate::harness::client::{Caller, reason};
use crate::harness::cluster::run as run_command;
use crate::harness::consistency;
use crate::harness::context::Context;
use crate::harness::database::Database;
use crate::harness::report::Findings;
use crate::harness::strace::Tracing;

/// How soon changes must be accepted again after the disk works.
const RECOVERY: Duration = Duration::from_secs(5);

/// A small tmpfs. Only root can mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        Ok(run_command(mount.arg(folder.path()))
            .is_ok()
            .then_some(Self(folder)))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount also succeeds while files in it are open.
        let _ = run_command(Command::new("umount").arg("--lazy").arg(self.0.path()));
    }
}

/// The results of the calls.
#[derive(Default)]
struct Results {
    /// The ids of leads whose creation was acknowledged.
    created: Vec<String>,
    rejected: BTreeMap<String, usize>,
}

impl Results {
    async fn create(&mut self, caller: &Caller) -> bool {
        // A long name fills a small disk quickly.
        let name = format!("{} {}", self.created.len(), "x".repeat(150));
        match caller.create(&name, "").await {
            Ok(lead) => {
                self.created.push(lead.id);
                true
            }
            Err(status) => {
                *self.rejected.entry(reason(&status)).or_default() += 1;
                false
            }
        }
    }
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    match SmallDisk::mount()? {
        Some(small_disk) => full(context, &small_disk, &mut findings).await?,
        None => findings.fact("full disk", "not tested: only root may mount a tmpfs"),
    }
    let times = context.size(5, 200);
    let eio = "inject=fsync,fdatasync:error=EIO";
    faulty(context, "sync fails", eio, times, &mut findings).await?;
    let slow = "inject=fsync,fdatasync:delay_exit=500000";
    faulty(context, "sync takes 500 ms", slow, times, &mut findings).await?;
    findings.finish()
}

/// Creates leads until the disk is full, and again after space was freed.
async fn full(
    context: &Context<'_>,
    small_disk: &SmallDisk,
    findings: &mut Findings,
) -> Result<()> {
    let fixture =
        context.fixture_in(Database::Sqlite(tempfile::tempdir_in(small_disk.0.path())?))?;
    let mut server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let mut results = Results::default();
    results.create(&caller).await;
    let ballast = small_disk.0.path().join("ballast");
    for _ in 0..context.size(2, 20) {
        fill(&ballast)?;
        let before: usize = results.rejected.values().sum();
        for _ in 0..20_000 {
            if !results.create(&caller).await
                && results.rejected.values().sum::<usize>() > before + 20
            {
                break;
            }
        }
        check_reads(&caller, &results, "full disk", findings).await;
        fs::remove_file(&ballast)?;
        check_recovery(&caller, &mut results, "full disk", findings).await;
    }
    record("full disk", &results, findings);
    server.kill()?;
    compare(&fixture.database, &results, "full disk", findings).await
}

/// Fills the disk up to the last MiB.
fn fill(ballast: &Path) -> Result<()> {
    let stats = rustix::fs::statvfs(ballast.parent().unwrap_or(ballast))?;
    let free = stats.f_bavail * stats.f_frsize;
    fs::write(
        ballast,
        vec![0; usize::try_from(free.saturating_sub(1 << 20))?],
    )?;
    Ok(())
}

/// Creates leads while strace makes the syncs fail or delays them.
async fn faulty(
    context: &Context<'_>,
    name: &str,
    fault: &str,
    times: usize,
    findings: &mut Findings,
) -> Result<()> {
    let fixture = context.fixture()?;
    let mut server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let mut results = Results::default();
    results.create(&caller).await;
    let fails = fault.contains("error");
    for round in 0..2 {
        let tracing = Tracing::begin(&[server.id()], &["trace=fsync,fdatasync", fault]).await?;
        for _ in 0..times {
            let created = results.create(&caller).await;
            findings.expect(!(created && fails), || {
                format!("{name}: a change was acknowledged that was not synced")
            });
            findings.expect(created || fails, || {
                format!("{name}: a change was rejected")
            });
        }
        check_reads(&caller, &results, name, findings).await;
        if round == 1 {
            // The fault of the second round lasts until the server is killed.
            server.kill()?;
        }
        drop(tracing);
        if round == 0 {
            check_recovery(&caller, &mut results, name, findings).await;
        }
    }
    record(name, &results, findings);
    compare(&fixture.database, &results, name, findings).await
}

fn record(name: &str, results: &Results, findings: &mut Findings) {
    let rejected = &results.rejected;
    findings.fact(
        name,
        format!("{} created, rejected: {rejected:?}", results.created.len()),
    );
    for reason in rejected.keys() {
        findings.expect(reason == "DATABASE_UNAVAILABLE", || {
            format!("{name}: a change was rejected with {reason}")
        });
    }
}

/// Acknowledged leads can still be read, quickly.
async fn check_reads(caller: &Caller, results: &Results, name: &str, findings: &mut Findings) {
    for id in results.created.iter().rev().take(10) {
        let started = Instant::now();
        let got = caller.get(id).await;
        findings.expect(
            got.is_ok() && started.elapsed() < Duration::from_millis(250),
            || {
                format!(
                    "{name}: a Get took {} ms: {got:?}",
                    started.elapsed().as_millis()
                )
            },
        );
    }
}

/// Checks that changes are accepted again.
async fn check_recovery(
    caller: &Caller,
    results: &mut Results,
    name: &str,
    findings: &mut Findings,
) {
    let started = Instant::now();
    while started.elapsed() < RECOVERY {
        if results.create(caller).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    findings.broke(format!(
        "{name}: no change is accepted although the disk works again"
    ));
}

/// After the end of the server: acknowledged leads are present and consistent.
async fn compare(
    database: &Database,
    results: &Results,
    name: &str,
    findings: &mut Findings,
) -> Result<()> {
    let db = database.connect().await?;
    let mut present = Vec::new();
    for row in db.rows("SELECT id FROM leads").await? {
        present.push(row.try_get_by_index::<uuid::Uuid>(0)?.to_string());
    }
    db.close().await?;
    let missing = results
        .created
        .iter()
        .filter(|id| !present.contains(id))
        .count();
    findings.expect(missing == 0, || {
        format!("{name}: {missing} acknowledged leads are missing")
    });
    consistency::check(database, findings).await
}
