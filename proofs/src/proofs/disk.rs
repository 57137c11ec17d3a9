//! The disk is full, fails to sync, or is slow. Nothing may be answered OK that is not there after a
//! restart, looking things up goes on, and when the disk is well again so is the service, by itself.
//! Shown to fail by `spoilt-connection`.
//!
//! The full disk is a file system in memory of 16 MiB, for which one has to be root; strace has the syncs
//! fail. PostgreSQL's disk is PostgreSQL's matter, and how the service takes its end is `failover`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use crate::harness::client::{Caller, reason};
use crate::harness::cluster::run as run_command;
use crate::harness::context::Context;
use crate::harness::database::Database;
use crate::harness::report::Findings;
use crate::harness::strace::Tracing;
use crate::harness::whole;

/// How soon after the disk is well changes must be taken again.
const RECOVERY: Duration = Duration::from_secs(5);

/// A small file system in memory, or none where only root may mount one.
struct Small(TempDir);

impl Small {
    fn mount() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        Ok(run_command(mount.arg(folder.path()))
            .is_ok()
            .then_some(Self(folder)))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever still has a file open in it keeps only that.
        let _ = run_command(Command::new("umount").arg("--lazy").arg(self.0.path()));
    }
}

/// What callers were told.
#[derive(Default)]
struct Told {
    /// The ids of leads whose creation was answered OK.
    created: Vec<String>,
    refused: BTreeMap<String, usize>,
}

impl Told {
    async fn create(&mut self, caller: &Caller) -> bool {
        // Long, so that a small disk is full soon.
        let name = format!("{} {}", self.created.len(), "x".repeat(150));
        match caller.create(&name, "").await {
            Ok(lead) => {
                self.created.push(lead.id);
                true
            }
            Err(status) => {
                *self.refused.entry(reason(&status)).or_default() += 1;
                false
            }
        }
    }
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    match Small::mount()? {
        Some(small) => full(context, &small, &mut findings).await?,
        None => findings.fact("full disk", "not tried: only root may mount one"),
    }
    let times = context.size(5, 200);
    let eio = "inject=fsync,fdatasync:error=EIO";
    sick(context, "sync fails", eio, times, &mut findings).await?;
    let slow = "inject=fsync,fdatasync:delay_exit=500000";
    sick(context, "sync takes 500 ms", slow, times, &mut findings).await?;
    findings.finish()
}

/// Leads are created until there is no room, and again when there is.
async fn full(context: &Context<'_>, small: &Small, findings: &mut Findings) -> Result<()> {
    let desk = context.desk_in(Database::Sqlite(tempfile::tempdir_in(small.0.path())?))?;
    let mut server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let mut told = Told::default();
    told.create(&caller).await;
    let ballast = small.0.path().join("ballast");
    for _ in 0..context.size(2, 20) {
        fill(&ballast)?;
        let before: usize = told.refused.values().sum();
        for _ in 0..20_000 {
            if !told.create(&caller).await && told.refused.values().sum::<usize>() > before + 20 {
                break;
            }
        }
        look_up(&caller, &told, "full disk", findings).await;
        fs::remove_file(&ballast)?;
        recovers(&caller, &mut told, "full disk", findings).await;
    }
    note("full disk", &told, findings);
    server.kill()?;
    compare(&desk.database, &told, "full disk", findings).await
}

/// Takes all the room but a MiB.
fn fill(ballast: &Path) -> Result<()> {
    let room = rustix::fs::statvfs(ballast.parent().unwrap_or(ballast))?;
    let free = room.f_bavail * room.f_frsize;
    fs::write(
        ballast,
        vec![0; usize::try_from(free.saturating_sub(1 << 20))?],
    )?;
    Ok(())
}

/// Leads are created while strace does something to the syncs.
async fn sick(
    context: &Context<'_>,
    name: &str,
    fault: &str,
    times: usize,
    findings: &mut Findings,
) -> Result<()> {
    let desk = context.desk()?;
    let mut server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    let mut told = Told::default();
    told.create(&caller).await;
    let fails = fault.contains("error");
    for round in 0..2 {
        let tracing = Tracing::begin(&[server.id()], &["trace=fsync,fdatasync", fault]).await?;
        for _ in 0..times {
            let created = told.create(&caller).await;
            findings.expect(!(created && fails), || {
                format!("{name}: a change was answered OK that was not synced")
            });
            findings.expect(created || fails, || format!("{name}: a change was refused"));
        }
        look_up(&caller, &told, name, findings).await;
        if round == 1 {
            // The last fault lasts to the end.
            server.kill()?;
        }
        drop(tracing);
        if round == 0 {
            recovers(&caller, &mut told, name, findings).await;
        }
    }
    note(name, &told, findings);
    compare(&desk.database, &told, name, findings).await
}

fn note(name: &str, told: &Told, findings: &mut Findings) {
    let refused = &told.refused;
    findings.fact(
        name,
        format!("{} created, refused: {refused:?}", told.created.len()),
    );
    for reason in refused.keys() {
        findings.expect(reason == "DATABASE_UNAVAILABLE", || {
            format!("{name}: a change was refused for {reason}")
        });
    }
}

/// What was answered before can be looked up, at once.
async fn look_up(caller: &Caller, told: &Told, name: &str, findings: &mut Findings) {
    for id in told.created.iter().rev().take(10) {
        let begun = Instant::now();
        let got = caller.get(id).await;
        findings.expect(
            got.is_ok() && begun.elapsed() < Duration::from_millis(250),
            || {
                format!(
                    "{name}: a Get took {} ms: {got:?}",
                    begun.elapsed().as_millis()
                )
            },
        );
    }
}

/// Changes are taken again.
async fn recovers(caller: &Caller, told: &mut Told, name: &str, findings: &mut Findings) {
    let begun = Instant::now();
    while begun.elapsed() < RECOVERY {
        if told.create(caller).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    findings.broke(format!(
        "{name}: no change is taken though the disk is well"
    ));
}

/// After the server's end: what was answered OK is there, and whole.
async fn compare(
    database: &Database,
    told: &Told,
    name: &str,
    findings: &mut Findings,
) -> Result<()> {
    let db = database.connect().await?;
    let mut there = Vec::new();
    for row in db.rows("SELECT id FROM leads").await? {
        there.push(row.try_get_by_index::<uuid::Uuid>(0)?.to_string());
    }
    db.close().await?;
    let missing = told.created.iter().filter(|id| !there.contains(id)).count();
    findings.expect(missing == 0, || {
        format!("{name}: {missing} acknowledged leads are gone")
    });
    whole::look(database, findings).await
}
