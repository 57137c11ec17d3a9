//! Half of the callers hang up after 1 to 20 ms, while the database is 30 ms away. Afterwards every
//! connection is as good as new. Shown to fail by `change-in-handler`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use leadsmith::wire::proto;
use tokio::task::JoinSet;

use crate::harness::client::Caller;
use crate::harness::context::{Context, OPERATOR};
use crate::harness::proxy::Proxy;
use crate::harness::report::Findings;
use crate::harness::whole;

/// Each way.
const DELAY: Duration = Duration::from_millis(15);
const TOGETHER: usize = 100;
const CONNECTIONS: usize = 8;
/// How soon afterwards everything is as before.
const WHOLE_AGAIN: Duration = Duration::from_secs(5);
/// What a statement in a transaction that has failed already is told, and a BEGIN in another.
const CODES: &[&str] = &["25P02", "25001"];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut random = context.random(0);
    let desk = context.desk()?;
    let (cluster, name) = desk.database.cluster()?;
    let logged = cluster.log()?.len();
    let proxy = Proxy::start(cluster.socket(), DELAY).await?;
    let url = cluster.url_by(proxy.port, name);
    let server = context.program.serve(&url, &[]).await?;
    let callers = desk.callers(&server, CONNECTIONS).await?;
    let waves = context.size(10, 500);
    let mut hung_up = 0;
    for wave in 0..waves {
        let mut calls = JoinSet::new();
        for index in 0..TOGETHER {
            let caller = callers[index % CONNECTIONS].clone();
            let patience = match index % 2 {
                0 => Duration::from_millis(random.u64(1..=20)),
                _ => Duration::from_secs(20),
            };
            let dice = random.u32(..4);
            let name = format!("{wave} {index}");
            calls.spawn(async move {
                tokio::time::timeout(patience, act(&caller, dice, &name))
                    .await
                    .is_err()
            });
        }
        let gone = calls.join_all().await;
        hung_up += gone.into_iter().filter(|gone| *gone).count();
    }
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for index in 0..TOGETHER {
        let caller = callers[index % CONNECTIONS].clone();
        calls.spawn(async move { caller.create(&format!("After {index}"), "").await });
    }
    let failed: Vec<_> = calls
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    let after = begun.elapsed();
    findings.expect(failed.is_empty(), || {
        format!(
            "{} calls failed afterwards: {:?}",
            failed.len(),
            failed.first()
        )
    });
    findings.expect(after < WHOLE_AGAIN, || {
        format!("{TOGETHER} calls took {after:?} afterwards")
    });
    let idle = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let idle = desk.database.count(idle).await?;
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
            format!("{lines} lines of the logs tell of {code}")
        });
    }
    whole::look(&desk.database, &mut findings).await?;
    findings.fact("calls", waves * TOGETHER);
    findings.fact("hung up", hung_up);
    findings.fact("100 calls afterwards", format!("{} ms", after.as_millis()));
    findings.finish()
}

/// One of the calls, by the dice; its answer is of no interest here. A wrong password is counted in a
/// transaction of its own.
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
