//! A change that the primary has committed and its standby does not have: its connection is ended while
//! it waits for the standby, and PostgreSQL shows it from then on. It must not be answered OK before the
//! standby has it, neither to who made it nor to who repeats it, since a failover now would lose it.

use std::time::Duration;

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::harness::context::Context;
use crate::harness::report::Findings;

/// How long an answer that must not come is waited for.
const LOOK: Duration = Duration::from_secs(2);
/// How long one that must come is.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(context: &Context<'_>, findings: &mut Findings) -> Result<()> {
    let desk = context.desk()?;
    let (cluster, name) = desk.database.cluster()?;
    let server = context.serve(&desk, &[]).await?;
    let caller = desk.caller(&server).await?;
    caller.create("Before", "").await?;
    // A standby that is away.
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
        tokio::time::sleep(LOOK).await;
        findings.expect(!first.is_finished(), || {
            "a change was answered that the standby does not have".into()
        });
        let again = tokio::spawn(async move { again.create("Waits", &id).await });
        tokio::time::sleep(LOOK).await;
        let answered = again.is_finished() && again.await.is_ok_and(|answer| answer.is_ok());
        findings.expect(!answered, || {
            "a repeat was answered by a change that the standby does not have".into()
        });
        anyhow::Ok(first)
    }
    .await;
    standby("")?;
    let first = tokio::time::timeout(PATIENCE, made?).await??;
    findings.expect(first.is_ok(), || format!("the change failed: {first:?}"));
    let made = desk
        .database
        .count("SELECT count(*) FROM leads WHERE last_name = 'Waits'")
        .await?;
    findings.expect(made == 1, || format!("the change was made {made} times"));
    findings.fact("changes that waited for a standby", made);
    Ok(())
}

/// Ends the connection that waits for the standby.
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
