//! Two replicas start on one empty database at the same moment, and the one that migrates it is killed
//! meanwhile. The other serves, and the schema is there once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::harness::context::Context;
use crate::harness::database::{Connection, Database, Kind};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

/// So many differences are told.
const TOLD: usize = 5;
/// How long the lock is looked for.
const LOOK: Duration = Duration::from_secs(5);

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
            servers.push(context.program.launch(url, &[])?);
        }
        // In every third round both live.
        if round % 3 < 2
            && let Some(holder) = holder(watch.as_ref(), &mut servers).await?
        {
            // At no special moment of the migration.
            tokio::time::sleep(Duration::from_micros(random.u64(..20_000))).await;
            servers.remove(holder).kill()?;
            kills += 1;
        }
        for server in &mut servers {
            if let Err(error) = server.ready().await {
                findings.broke(format!("a replica does not serve: {error:#}"));
            }
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
    // Then nothing was tried, unless it broke for another reason.
    ensure!(
        kills > 0 || findings.is_broken(),
        "no replica was seen to hold the lock"
    );
    Ok(())
}

/// Two users of PostgreSQL, so that it can be told who holds the lock.
const USERS: [&str; 2] = ["replica_a", "replica_b"];

fn urls(database: &Database) -> Result<[String; 2]> {
    if database.kind() == Kind::Sqlite {
        return Ok([database.url(), database.url()]);
    }
    let (cluster, name) = database.cluster()?;
    for user in USERS {
        // It is there from the second round on.
        let _ = cluster.admin(&format!("CREATE ROLE {user} SUPERUSER LOGIN"));
    }
    Ok(USERS.map(|user| cluster.url_as(user, name)))
}

/// Which of the servers holds the lock; none when both serve already or have ended.
async fn holder(watch: Option<&Connection>, servers: &mut [Serving]) -> Result<Option<usize>> {
    let begun = Instant::now();
    while begun.elapsed() < LOOK {
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

const HOLDS: &str = "SELECT a.usename::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                     WHERE l.locktype = 'advisory' AND l.granted";

/// Whether a line of /proc/locks tells of a whole file that this process has locked.
fn is_held(line: &str, id: u32) -> bool {
    let mut words = line.split_whitespace();
    words.nth(1) == Some("FLOCK") && words.nth(2) == Some(id.to_string().as_str())
}

/// Everything in the schema, a line each.
async fn schema(database: &Database) -> Result<Vec<String>> {
    let db = database.connect().await?;
    let questions: &[&str] = match database.kind() {
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
    for question in questions {
        lines.extend(db.texts(question).await?);
    }
    db.close().await?;
    Ok(lines)
}

fn differences(found: &[String], wanted: &[String]) -> Vec<String> {
    let missing = wanted.iter().filter(|line| !found.contains(line));
    let surplus = found.iter().filter(|line| !wanted.contains(line));
    missing.chain(surplus).take(TOLD).cloned().collect()
}
