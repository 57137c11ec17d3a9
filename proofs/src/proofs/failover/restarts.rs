//! PostgreSQL is restarted every few seconds, either as an administrator does or as after a crash.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::writers::Writers;
use crate::harness::context::Context;
use crate::harness::report::Findings;

const BETWEEN: Duration = Duration::from_secs(5);
const SERVING_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait for the service to work again.
const GIVE_UP: Duration = Duration::from_secs(60);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let mut random = context.random(0);
    let fixture = context.fixture()?;
    let (cluster, _) = fixture.database.cluster()?;
    let servers = context.replicas(&fixture, 2, &[]).await?;
    let callers = [
        fixture.caller(&servers[0]).await?,
        fixture.caller(&servers[1]).await?,
    ];
    let writers = Writers::start(context, &callers);
    let restarts = context.size(3, 100);
    let mut slowest = Duration::ZERO;
    for restart in 0..restarts {
        tokio::time::sleep(BETWEEN.mul_f64(random.f64() / 2.0 + 0.5)).await;
        cluster.end(["fast", "immediate"][random.usize(..2)])?;
        cluster.begin()?;
        let started = Instant::now();
        let probe = format!("Probe {restart}");
        while callers[0].create(&probe, "").await.is_err() && started.elapsed() < GIVE_UP {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest = slowest.max(started.elapsed());
    }
    writers.stop(&fixture.database, findings).await?;
    findings.fact("restarts", restarts);
    findings.fact(
        "slowest to serve again",
        format!("{} ms", slowest.as_millis()),
    );
    findings.expect(slowest < SERVING_AGAIN, || {
        format!("it took {slowest:?} to serve again")
    });
    Ok(())
}
