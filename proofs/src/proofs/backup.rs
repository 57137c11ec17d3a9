//! Backups are made while writers write, restored elsewhere and served. Each must be a beginning of what was
//! written, whole: with everything that was answered before it was begun, nothing missing in the middle, and
//! nothing that nobody sent. A backup that is killed leaves no file of its name, or the one that was there;
//! a file that is torn is not restored, and what it was to replace stays as it was.
//!
//! On SQLite by `leadsmith backup` and `leadsmith restore`, shown to fail by `torn-backup`. On
//! PostgreSQL by pg_dump and pg_restore, in which the service takes no part: what it can get wrong is to need
//! two transactions for one change, and so that half is shown to fail by `history-apart`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::harness::client::Caller;
use crate::harness::cluster;
use crate::harness::context::{Context, Desk};
use crate::harness::database::{Database, Kind};
use crate::harness::report::Findings;
use crate::harness::whole;
use crate::harness::writers::{Writers, compare};

const CONNECTIONS: usize = 4;
const WRITERS: usize = 16;
/// How long writers write before each backup.
const WRITING: Duration = Duration::from_millis(500);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, &[]).await?;
    let writers = Writers::start(&desk.callers(&server, CONNECTIONS).await?, WRITERS);
    let folder = tempfile::tempdir()?;
    let (mut files, mut slowest, mut held) = (Vec::new(), Duration::ZERO, 0);
    let rounds = context.size(4, 100);
    for round in 0..rounds {
        tokio::time::sleep(WRITING).await;
        let file = folder.path().join(format!("{round}.backup"));
        let before = writers.answered();
        let begun = Instant::now();
        back_up(context, &desk.database, &file)?;
        slowest = slowest.max(begun.elapsed());
        let after = writers.sent();
        let copy = match restore(context, &file) {
            Ok(copy) => copy,
            Err(error) => {
                findings.broke(format!("a backup cannot be restored: {error:#}"));
                break;
            }
        };
        held = compare(&copy, &before, &after, &mut findings).await?;
        whole::look(&copy, &mut findings).await?;
        serve(context, &desk, &copy, &mut findings).await?;
        files.push(file);
    }
    if context.kind == Kind::Sqlite && !findings.is_broken() {
        let backups = Backups {
            context,
            desk: &desk,
            folder: &folder,
            files: &files,
        };
        backups.killed(slowest, &mut findings).await?;
        backups.refused(&mut findings).await?;
    }
    writers.stop(&mut findings).await;
    whole::look(&desk.database, &mut findings).await?;
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

/// A new database with what a backup holds.
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
    file.to_str().context("a file's name is no text")
}

/// Whether a server goes on with a copy: who could call can, and changes come about.
async fn serve(
    context: &Context<'_>,
    desk: &Desk,
    copy: &Database,
    findings: &mut Findings,
) -> Result<()> {
    let server = context.program.serve(&copy.url(), &[]).await?;
    let caller = Caller::connect(&server.address, &desk.key(0)).await?;
    let answer = caller.create("Afterwards", "").await;
    findings.expect(answer.is_ok(), || {
        format!("a server on a restored backup answers {answer:?}")
    });
    whole::look(copy, findings).await
}

/// Backups of SQLite that are whole, and what is done to them.
struct Backups<'a> {
    context: &'a Context<'a>,
    desk: &'a Desk,
    folder: &'a TempDir,
    files: &'a [PathBuf],
}

impl Backups<'_> {
    /// Kills a backup at a random moment, again and again; every other time of one that is to replace
    /// another.
    async fn killed(&self, usual: Duration, findings: &mut Findings) -> Result<()> {
        let mut random = self.context.random(1);
        let kills = self.context.size(12, 300);
        let earlier = fs::read(&self.files[0])?;
        let mut halfway = 0;
        for kill in 0..kills {
            let folder = tempfile::tempdir_in(self.folder)?;
            let file = folder.path().join("killed.backup");
            let replaces = kill % 2 == 1;
            if replaces {
                fs::write(&file, &earlier)?;
            }
            let url = self.desk.database.url();
            let mut backup = self
                .context
                .program
                .begin(&url, &["backup", "--force", text(&file)?])?;
            let moment = random.u64(..u64::try_from(usual.as_micros())?.max(1));
            tokio::time::sleep(Duration::from_micros(moment)).await;
            backup.kill()?;
            backup.wait()?;
            // What it was writing lies about under another name.
            halfway += usize::from(contents(folder.path())?.len() > usize::from(replaces));
            match file.exists() {
                false => findings.expect(!replaces, || {
                    "a killed backup took the one before away".into()
                }),
                true if replaces && fs::read(&file)? == earlier => {}
                // It had come to its end.
                true => {
                    let whole = restore(self.context, &file);
                    findings.expect(whole.is_ok(), || {
                        "a killed backup left a file that is none".into()
                    });
                }
            }
        }
        findings.fact("backups killed", kills);
        findings.fact("killed halfway", halfway);
        ensure!(
            halfway > 0 || findings.is_broken(),
            "no backup was killed halfway"
        );
        Ok(())
    }

    /// Tries to restore what is no backup any more: where nothing is, and over a database; and a whole one
    /// over the database that is served.
    async fn refused(&self, findings: &mut Findings) -> Result<()> {
        let torn = self.torn()?;
        for (what, bytes) in &torn {
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
                    format!(
                        "{what} was not restored, but something was done to what it was to replace"
                    )
                });
            }
        }
        let served = self.force(&self.desk.database, &self.files[0]);
        findings.expect(served.is_err(), || {
            "a backup was restored over a database that is served".into()
        });
        findings.fact("torn backups refused", torn.len());
        Ok(())
    }

    fn force(&self, target: &Database, file: &Path) -> Result<String> {
        self.context
            .program
            .command(&target.url(), &["restore", "--force", text(file)?])
    }

    /// What can become of a backup on its way.
    fn torn(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
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

/// The files of a folder and what is in them.
fn contents(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let files = fs::read_dir(folder)?;
    files
        .map(|file| {
            let file = file?;
            Ok((file.file_name(), fs::read(file.path())?))
        })
        .collect()
}
