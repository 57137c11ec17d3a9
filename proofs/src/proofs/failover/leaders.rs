//! Three members under Patroni with synchronous replication lose their leader: its machine fails, its machine
//! freezes, or its PostgreSQL is killed. Another member is promoted, and the lost one returns.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::writers::Writers;
use crate::harness::context::Context;
use crate::harness::database::Database;
use crate::harness::patroni::{Loss, Patroni, TTL};
use crate::harness::report::Findings;

const SERVING_AGAIN: Duration = TTL.saturating_add(Duration::from_secs(10));
/// How long the writers write between two losses.
const BETWEEN: Duration = Duration::from_secs(2);
const DATABASE: &str = "leadsmith";

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let mut random = context.random(100);
    let mut patroni = Patroni::start().await?;
    patroni.admin(&format!("CREATE DATABASE {DATABASE}"))?;
    let fixture = context.fixture_in(Database::Elsewhere(patroni.url(DATABASE)))?;
    let servers = context.replicas(&fixture, 2, &[]).await?;
    let callers = [
        fixture.caller(&servers[0]).await?,
        fixture.caller(&servers[1]).await?,
    ];
    let writers = Writers::start(context, &callers);
    let kinds = [Loss::Machine, Loss::Freeze, Loss::Server];
    let mut slowest: BTreeMap<Loss, Vec<Duration>> = BTreeMap::new();
    // All kinds of loss in rotation. The seed chooses the first.
    let first = random.usize(..kinds.len());
    for number in 0..context.size(kinds.len(), 20) {
        let how = kinds[(first + number) % kinds.len()];
        tokio::time::sleep(BETWEEN).await;
        let silence = lose(&mut patroni, &writers, how).await?;
        slowest.entry(how).or_default().push(silence);
        findings.expect(silence < SERVING_AGAIN, || {
            format!("it took {silence:?} to serve again after the loss of a leader ({how:?})")
        });
    }
    let database = Database::Elsewhere(patroni.url_of_leader(DATABASE)?);
    writers.stop(&database, findings).await?;
    for (how, silences) in slowest {
        let longest = silences.iter().max().context("no loss")?;
        findings.fact(
            &format!("leaders lost ({how:?})"),
            format!(
                "{}, {:.1} s without a change at most",
                silences.len(),
                longest.as_secs_f64()
            ),
        );
    }
    Ok(())
}

/// Makes the leader fail, waits for the failover, and restores the failed member. Returns the longest time without
/// an acknowledged change.
async fn lose(patroni: &mut Patroni, writers: &Writers, how: Loss) -> Result<Duration> {
    let leader = patroni.leader().context("there is no leader")?;
    writers.longest_silence();
    patroni.lose(leader, how)?;
    patroni.wait_for_failover(leader).await?;
    tokio::time::sleep(BETWEEN).await;
    let silence = writers.longest_silence();
    patroni.recover(leader, how)?;
    patroni.wait_ready().await?;
    Ok(silence)
}
