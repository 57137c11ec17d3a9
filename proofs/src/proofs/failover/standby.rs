//! A change that the primary has committed but its standby does not have: its connection is terminated while it
//! waits for the standby, and from then on other transactions see the change. It must not be acknowledged before
//! the standby has it, neither to the first call nor to a retry, because a failover at this moment would lose it.

use std::time::Duration;

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::harness::context::Context;
use crate::harness::report::Findings;

/// How long to check that no response arrives.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// How long to wait for an expected response.
const TIMEOUT: Duration = Duration::from_secs(20);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let fixture = context.fixture()?;
    let (cluster, name) = fixture.database.cluster()?;
    let server = context.serve(&fixture, &[]).await?;
    let caller = fixture.caller(&server).await?;
    caller.create("Before", "").await?;
    // A synchronous standby that is not connected.
    let standby = |names: &str| {
        cluster.admin(&format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{names}'"
        ))?;
        cluster.admin("SELECT pg_reload_conf()")
    };
    standby("away")?;
    let made = async {
        let id = Uuid::from_u128(context.random(200).u128(..)).to_string();
        let (first, again) = (caller.clone(), caller.clone());
        let request = id.clone();
        let first = tokio::spawn(async move { first.create("Waits", &request).await });
        end_waiting(cluster, name).await?;
        tokio::time::sleep(QUIET_TIME).await;
        findings.expect(!first.is_finished(), || {
            "a change was acknowledged that the standby does not have".into()
        });
        let again = tokio::spawn(async move { again.create("Waits", &id).await });
        tokio::time::sleep(QUIET_TIME).await;
        let acknowledged =
            again.is_finished() && again.await.is_ok_and(|response| response.is_ok());
        findings.expect(!acknowledged, || {
            "a retry was acknowledged although the standby does not have the change".into()
        });
        anyhow::Ok(first)
    }
    .await;
    standby("")?;
    let first = tokio::time::timeout(TIMEOUT, made?).await??;
    findings.expect(first.is_ok(), || format!("the change failed: {first:?}"));
    let made = fixture
        .database
        .count("SELECT count(*) FROM leads WHERE last_name = 'Waits'")
        .await?;
    findings.expect(made == 1, || format!("the change was made {made} times"));
    findings.fact("changes that waited for a standby", made);
    Ok(())
}

/// Terminates the connection that waits for the standby.
async fn end_waiting(cluster: &crate::harness::cluster::Cluster, name: &str) -> Result<()> {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{name}' AND wait_event = 'SyncRep'"
    );
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if cluster.admin(&sql)?.trim() != "0" {
            return Ok(());
        }
    }
    ensure!(false, "no change waits for the standby");
    Ok(())
}
