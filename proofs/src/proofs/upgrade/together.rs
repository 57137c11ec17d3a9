//! Two replicas start on an empty database at the same moment, and the one that runs the migrations is killed. The
//! other must serve, and the schema must be complete. One SQLite file has one server only: there, two processes run
//! `leadsmith migrate up`, and the one that is not killed must succeed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::harness::context::Context;
use crate::harness::database::{Connection, Database, Kind};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

/// At most this many differences are printed.
const PRINTED: usize = 5;
/// How long migrations may take, with the wait for those of the other process.
const MIGRATION_TIME: Duration = Duration::from_secs(60);
/// How long to look for the holder of the lock.
const LOOK_TIME: Duration = Duration::from_secs(5);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let mut random = context.random(0);
    let reference = context.database()?;
    drop(context.program.serve(&reference.url(), &[]).await?);
    let wanted = schema(&reference).await?;
    let rounds = context.size(6, 200);
    let mut kills = 0;
    for round in 0..rounds {
        let database = context.database()?;
        let urls = urls(&database)?;
        let watch = match context.kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(database.connect().await?),
        };
        let mut servers = Vec::new();
        for url in &urls {
            servers.push(match context.kind {
                Kind::Sqlite => context.program.launch_command(url, &["migrate", "up"])?,
                Kind::Postgres => context.program.launch(url, &[])?,
            });
        }
        // In every third round no replica is killed.
        if round % 3 < 2
            && let Some(holder) = holder(watch.as_ref(), &mut servers).await?
        {
            // At a random moment of the migration.
            tokio::time::sleep(Duration::from_micros(random.u64(..20_000))).await;
            servers.remove(holder).kill()?;
            kills += 1;
        }
        for server in &mut servers {
            if let Err(error) = is_successful(context.kind, server).await {
                findings.broke(format!("a replica does not serve: {error:#}"));
            }
        }
        if context.kind == Kind::Sqlite {
            drop(context.program.serve(&database.url(), &[]).await?);
        }
        if let Some(watch) = watch {
            watch.close().await?;
        }
        let found = schema(&database).await?;
        findings.expect(found == wanted, || {
            format!("the schema differs in {:?}", differences(&found, &wanted))
        });
    }
    findings.fact("pairs of replicas", rounds);
    findings.fact("killed while it held the lock", kills);
    findings.fact("columns, indexes and migrations compared", wanted.len());
    // Without a kill nothing was tested, unless a promise was already broken.
    ensure!(
        kills > 0 || findings.is_broken(),
        "no replica was seen to hold the lock"
    );
    Ok(())
}

/// Waits until a replica serves, or until its migrations have succeeded.
async fn is_successful(kind: Kind, replica: &mut Serving) -> Result<()> {
    if kind == Kind::Postgres {
        return replica.ready().await;
    }
    let status = replica.ended(MIGRATION_TIME).await?;
    ensure!(
        status.is_some_and(|status| status.success()),
        "it ended with {status:?}: {}",
        replica.log()?
    );
    Ok(())
}

/// Two PostgreSQL users, so that the holder of the lock can be identified.
const USERS: [&str; 2] = ["replica_a", "replica_b"];

fn urls(database: &Database) -> Result<[String; 2]> {
    if database.kind() == Kind::Sqlite {
        return Ok([database.url(), database.url()]);
    }
    let (cluster, name) = database.cluster()?;
    for user in USERS {
        // From the second round on it exists.
        let _ = cluster.admin(&format!("CREATE ROLE {user} SUPERUSER LOGIN"));
    }
    Ok(USERS.map(|user| cluster.url_as(user, name)))
}

/// Which server holds the lock; none if both already serve or have ended.
async fn holder(watch: Option<&Connection>, servers: &mut [Serving]) -> Result<Option<usize>> {
    let started = Instant::now();
    while started.elapsed() < LOOK_TIME {
        let found = match watch {
            Some(watch) => {
                let users = watch.texts(HOLDS).await?;
                USERS
                    .iter()
                    .position(|user| users.iter().any(|holds| holds == user))
            }
            None => {
                let locks = fs::read_to_string("/proc/locks")?;
                servers
                    .iter()
                    .position(|server| locks.lines().any(|line| is_held(line, server.id())))
            }
        };
        if found.is_some() {
            return Ok(found);
        }
        for server in servers.iter_mut() {
            if server.log()?.contains("serving address=") {
                return Ok(None);
            }
            if server.ended(Duration::from_micros(1)).await?.is_some() {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// A server that serves holds another lock, in shared mode.
const HOLDS: &str = "SELECT a.usename::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                     WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted";

/// Whether a line of /proc/locks describes a lock on a whole file by this process.
fn is_held(line: &str, id: u32) -> bool {
    let mut words = line.split_whitespace();
    words.nth(1) == Some("FLOCK") && words.nth(2) == Some(id.to_string().as_str())
}

/// The whole schema, one line per object.
async fn schema(database: &Database) -> Result<Vec<String>> {
    let db = database.connect().await?;
    let queries: &[&str] = match database.kind() {
        Kind::Sqlite => &[
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master ORDER BY 1",
        ],
        Kind::Postgres => &[
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable) \
             FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        ],
    };
    let mut lines = db
        .texts("SELECT version FROM seaql_migrations ORDER BY 1")
        .await?;
    for query in queries {
        lines.extend(db.texts(query).await?);
    }
    db.close().await?;
    Ok(lines)
}

fn differences(found: &[String], wanted: &[String]) -> Vec<String> {
    let missing = wanted.iter().filter(|line| !found.contains(line));
    let surplus = found.iter().filter(|line| !wanted.contains(line));
    missing.chain(surplus).take(PRINTED).cloned().collect()
}
