//! Half of the clients disconnect after 1 to 20 ms, while a round trip to the database takes 30 ms. Afterwards
//! every database connection must work normally. Shown to fail by `change-in-handler`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use leadsmith_proto as proto;
use tokio::task::JoinSet;

use crate::harness::client::Caller;
use crate::harness::consistency;
use crate::harness::context::{Context, OPERATOR};
use crate::harness::proxy::Proxy;
use crate::harness::report::Findings;

/// In each direction.
const DELAY: Duration = Duration::from_millis(15);
const CONCURRENT: usize = 100;
const CONNECTIONS: usize = 8;
/// How soon everything must work normally again.
const RECOVERY: Duration = Duration::from_secs(5);
/// The SQLSTATEs of a statement in a failed transaction, and of BEGIN inside a transaction.
const CODES: &[&str] = &["25P02", "25001"];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let (cluster, name) = fixture.database.cluster()?;
    let logged = cluster.log()?.len();
    let proxy = Proxy::start(cluster.socket(), DELAY).await?;
    let url = cluster.url_by(proxy.port, name);
    let server = context.program.serve(&url, &[]).await?;
    let callers = fixture.callers(&server, CONNECTIONS).await?;
    let waves = context.size(10, 500);
    let mut disconnected = 0;
    for wave in 0..waves {
        let mut calls = JoinSet::new();
        for index in 0..CONCURRENT {
            let caller = callers[index % CONNECTIONS].clone();
            let time_limit = match index % 2 {
                0 => Duration::from_millis(random.u64(1..=20)),
                _ => Duration::from_secs(20),
            };
            let dice = random.u32(..4);
            let name = format!("{wave} {index}");
            calls.spawn(async move {
                tokio::time::timeout(time_limit, act(&caller, dice, &name))
                    .await
                    .is_err()
            });
        }
        let cancelled = calls.join_all().await;
        disconnected += cancelled.into_iter().filter(|cancelled| *cancelled).count();
    }
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for index in 0..CONCURRENT {
        let caller = callers[index % CONNECTIONS].clone();
        calls.spawn(async move { caller.create(&format!("After {index}"), "").await });
    }
    let failed: Vec<_> = calls
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    let after = started.elapsed();
    findings.expect(failed.is_empty(), || {
        format!(
            "{} calls failed afterwards: {:?}",
            failed.len(),
            failed.first()
        )
    });
    findings.expect(after < RECOVERY, || {
        format!("{CONCURRENT} calls took {after:?} afterwards")
    });
    let idle = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let idle = fixture.database.count(idle).await?;
    findings.expect(idle == 0, || {
        format!("{idle} sessions are idle in a transaction")
    });
    let log = cluster.log()?;
    let log = log
        .get(logged..)
        .context("the log became shorter")?
        .to_owned()
        + &server.log()?;
    for code in CODES {
        let lines = log.lines().filter(|line| line.contains(code)).count();
        findings.expect(lines == 0, || {
            format!("{lines} lines of the logs contain {code}")
        });
    }
    consistency::check(&fixture.database, &mut findings).await?;
    findings.fact("calls", waves * CONCURRENT);
    findings.fact("disconnected", disconnected);
    findings.fact("100 calls afterwards", format!("{} ms", after.as_millis()));
    findings.finish()
}

/// Makes a random call and ignores the response. A failed sign-in is counted in its own transaction.
async fn act(caller: &Caller, dice: u32, name: &str) {
    match dice {
        0 => {
            let request = proto::SignInRequest {
                username: OPERATOR.to_owned(),
                password: "not the password".to_owned(),
                ..Default::default()
            };
            let _ = caller.auth().sign_in(request).await;
        }
        1 => {
            let _ = caller.get("01890000-0000-7000-8000-000000000000").await;
        }
        _ => {
            let _ = caller.create(name, "").await;
        }
    }
}
