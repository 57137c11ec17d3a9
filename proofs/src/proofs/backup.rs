//! Backups are made during writes, restored elsewhere and served. Each must contain a complete prefix of the
//! changes: all that were acknowledged before the backup started, no gaps, and nothing that was never sent. A token to
//! resume a stream of events that is newer than the backup is refused in it. A
//! killed backup leaves no file under its name, or the file that was there before. A damaged file is not restored,
//! and the database that it should have replaced is unchanged.
//!
//! On SQLite with `leadsmith backup` and `leadsmith restore`, shown to fail by `torn-backup`. On PostgreSQL with
//! pg_dump and pg_restore. The service takes no part in these, but it could use two transactions for one change.
//! That half is shown to fail by `history-apart`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use leadsmith_proto::WatchStart;
use leadsmith_proto::watch_events_request::Begin;
use tempfile::TempDir;
use tonic::Status;

use crate::harness::client::{Caller, reason};
use crate::harness::cluster;
use crate::harness::consistency;
use crate::harness::context::{Context, Fixture};
use crate::harness::database::{Database, Kind};
use crate::harness::report::Findings;
use crate::harness::writers::{Writers, compare};

const CONNECTIONS: usize = 4;
const WRITERS: usize = 16;
/// How long the writers write before each backup.
const WRITING: Duration = Duration::from_millis(500);
/// How soon after a backup something must be changed.
const LATER: Duration = Duration::from_secs(10);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    let writers = Writers::start(&fixture.callers(&server, CONNECTIONS).await?, WRITERS);
    let folder = tempfile::tempdir()?;
    let (mut files, mut slowest, mut held) = (Vec::new(), Duration::ZERO, 0);
    let rounds = context.size(4, 100);
    for round in 0..rounds {
        tokio::time::sleep(WRITING).await;
        let file = folder.path().join(format!("{round}.backup"));
        let before = writers.acknowledged();
        let token_before = caller.watch(Begin::Start(WatchStart::Now.into())).await?;
        let started = Instant::now();
        back_up(context, &fixture.database, &file)?;
        slowest = slowest.max(started.elapsed());
        let after = writers.sent();
        // The next changes are not in the backup.
        let begun = Instant::now();
        while writers
            .acknowledged()
            .iter()
            .zip(&after)
            .all(|(now, sent)| now <= sent)
        {
            ensure!(
                begun.elapsed() < LATER,
                "nothing was changed after a backup"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let token_after = caller.watch(Begin::Start(WatchStart::Now.into())).await?;
        let copy = match restore(context, &file) {
            Ok(copy) => copy,
            Err(error) => {
                findings.broke(format!("a backup cannot be restored: {error:#}"));
                break;
            }
        };
        held = compare(&copy, &before, &after, &mut findings).await?;
        consistency::check(&copy, &mut findings).await?;
        let tokens = [&token_before, &token_after];
        serve(context, &fixture, &copy, tokens, &mut findings).await?;
        files.push(file);
    }
    if context.kind == Kind::Sqlite && !findings.is_broken() {
        let backups = Backups {
            context,
            fixture: &fixture,
            folder: &folder,
            files: &files,
        };
        backups.killed(slowest, &mut findings).await?;
        backups.rejected(&mut findings).await?;
    }
    writers.stop(&mut findings).await;
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("backups restored and served", rounds);
    findings.fact("changes in the last", held);
    findings.fact("slowest backup", format!("{} ms", slowest.as_millis()));
    findings.finish()
}

fn back_up(context: &Context<'_>, database: &Database, file: &Path) -> Result<()> {
    match context.kind {
        Kind::Sqlite => context
            .program
            .command(&database.url(), &["backup", text(file)?])?,
        Kind::Postgres => {
            let (cluster, name) = database.cluster()?;
            let mut dump = cluster.tool("pg_dump", name);
            cluster::run(
                dump.arg("--format=custom")
                    .arg("--file")
                    .arg(file)
                    .arg(name),
            )?
        }
    };
    Ok(())
}

/// A new database restored from a backup.
fn restore(context: &Context<'_>, file: &Path) -> Result<Database> {
    let database = context.database()?;
    match context.kind {
        Kind::Sqlite => context
            .program
            .command(&database.url(), &["restore", text(file)?])?,
        Kind::Postgres => {
            let (cluster, name) = database.cluster()?;
            let mut restore = cluster.tool("pg_restore", name);
            restore.args(["--no-owner", "--exit-on-error", "--dbname", name]);
            cluster::run(restore.arg(file))?
        }
    };
    Ok(database)
}

fn text(file: &Path) -> Result<&str> {
    file.to_str().context("a file name is not UTF-8")
}

/// Whether a server works on the restored copy: the same key is valid, and changes succeed. Resume tokens from before and
/// after the backup must not be misread. A SQLite backup is the same log up to its moment; a dump makes another log.
async fn serve(
    context: &Context<'_>,
    fixture: &Fixture,
    copy: &Database,
    [before, after]: [&String; 2],
    findings: &mut Findings,
) -> Result<()> {
    let server = context.program.serve(&copy.url(), &[]).await?;
    let caller = Caller::connect(&server.address, &fixture.key(0)).await?;
    let response = caller.create("Afterwards", "").await;
    findings.expect(response.is_ok(), || {
        format!("on a restored backup a change failed: {response:?}")
    });
    let resumed = caller.watch(Begin::ResumeToken(before.clone())).await;
    match context.kind {
        Kind::Sqlite => findings.expect(resumed.is_ok(), || {
            format!("a resume token from before a backup is not valid in it: {resumed:?}")
        }),
        Kind::Postgres => expect_expired("before", &resumed, findings),
    }
    let resumed = caller.watch(Begin::ResumeToken(after.clone())).await;
    expect_expired("after", &resumed, findings);
    consistency::check(copy, findings).await
}

fn expect_expired(when: &str, resumed: &Result<String, Status>, findings: &mut Findings) {
    let reason = resumed.as_ref().err().map(reason);
    findings.expect(reason.as_deref() == Some("RESUME_TOKEN_EXPIRED"), || {
        format!("a resume token from {when} a backup was not refused in it: {resumed:?}")
    });
}

/// Complete SQLite backups, and tests on them.
struct Backups<'a> {
    context: &'a Context<'a>,
    fixture: &'a Fixture,
    folder: &'a TempDir,
    files: &'a [PathBuf],
}

impl Backups<'_> {
    /// Kills backups at random moments. Every second one would replace an earlier backup.
    async fn killed(&self, usual: Duration, findings: &mut Findings) -> Result<()> {
        let mut random = self.context.random(1);
        let kills = self.context.size(12, 300);
        let earlier = fs::read(&self.files[0])?;
        let mut while_writing = 0;
        for kill in 0..kills {
            let folder = tempfile::tempdir_in(self.folder)?;
            let file = folder.path().join("killed.backup");
            let replaces = kill % 2 == 1;
            if replaces {
                fs::write(&file, &earlier)?;
            }
            let url = self.fixture.database.url();
            let mut backup = self
                .context
                .program
                .begin(&url, &["backup", "--force", text(&file)?])?;
            let moment = random.u64(..u64::try_from(usual.as_micros())?.max(1));
            tokio::time::sleep(Duration::from_micros(moment)).await;
            backup.kill()?;
            backup.wait()?;
            // The incomplete file remains, under another name.
            while_writing += usize::from(contents(folder.path())?.len() > usize::from(replaces));
            match file.exists() {
                false => findings.expect(!replaces, || {
                    "a killed backup removed the earlier one".into()
                }),
                true if replaces && fs::read(&file)? == earlier => {}
                // The backup had completed before the kill.
                true => {
                    let whole = restore(self.context, &file);
                    findings.expect(whole.is_ok(), || {
                        "a killed backup left an incomplete file".into()
                    });
                }
            }
        }
        findings.fact("backups killed", kills);
        findings.fact("killed while writing", while_writing);
        ensure!(
            while_writing > 0 || findings.is_broken(),
            "no backup was killed while writing"
        );
        Ok(())
    }

    /// Tries to restore damaged files, without and with an existing database; and a complete backup over the
    /// database that is being served. All must fail.
    async fn rejected(&self, findings: &mut Findings) -> Result<()> {
        let damaged = self.damaged()?;
        for (what, bytes) in &damaged {
            let folder = tempfile::tempdir_in(self.folder)?;
            let file = folder.path().join("torn.backup");
            fs::write(&file, bytes)?;
            for target in [
                self.context.database()?,
                restore(self.context, &self.files[0])?,
            ] {
                let Database::Sqlite(place) = &target else {
                    continue;
                };
                let before = contents(place.path())?;
                let restored = self.force(&target, &file);
                findings.expect(restored.is_err(), || format!("{what} was restored"));
                findings.expect(contents(place.path())? == before, || {
                    format!("{what} was not restored, but the existing database was changed")
                });
            }
        }
        let served = self.force(&self.fixture.database, &self.files[0]);
        findings.expect(served.is_err(), || {
            "a backup was restored over a database that is being served".into()
        });
        findings.fact("incomplete backups rejected", damaged.len());
        Ok(())
    }

    fn force(&self, target: &Database, file: &Path) -> Result<String> {
        self.context
            .program
            .command(&target.url(), &["restore", "--force", text(file)?])
    }

    /// Damaged forms of a backup.
    fn damaged(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        const PAGE: usize = 4096;
        let earlier = fs::read(&self.files[0])?;
        let whole = fs::read(self.files.last().context("no backup")?)?;
        let middle = whole.len() / PAGE / 2 * PAGE;
        let mut zeros = whole.clone();
        let page = self.context.random(2).usize(1..whole.len() / PAGE) * PAGE;
        zeros[page..page + PAGE].fill(0);
        let mut mixed = whole[..middle].to_vec();
        mixed.extend(earlier.iter().skip(middle));
        let cut = whole.len() - PAGE;
        Ok(vec![
            ("half a backup", whole[..middle].to_vec()),
            ("a backup without its last page", whole[..cut].to_vec()),
            ("a backup with a page of zeros", zeros),
            ("half of one backup and half of another", mixed),
            ("the second half of a backup", whole[middle..].to_vec()),
            ("an empty file", Vec::new()),
        ])
    }
}

/// The files in a folder with their contents.
fn contents(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let files = fs::read_dir(folder)?;
    files
        .map(|file| {
            let file = file?;
            Ok((file.file_name(), fs::read(file.path())?))
        })
        .collect()
}
