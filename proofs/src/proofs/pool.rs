//! 5 connections, 500 callers, a locked table: everybody is told within a second that there is no getting
//! at it, health answers all the while, and nothing piles up. Shown to fail by `patient-pool`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::client::reason;
use crate::harness::context::Context;
use crate::harness::report::Findings;

const CALLERS: usize = 500;
const CONNECTIONS: usize = 10;
/// A second to wait for a connection and the table together, and what 500 answers take.
const REFUSED: Duration = Duration::from_millis(1_250);
const HEALTH: Duration = Duration::from_millis(500);
/// How much memory may grow from the second wave to the last, in MiB.
const GROWTH: f64 = 32.0;
const FLAGS: &[&str] = &["--postgres-connections", "5", "--statement-time", "1"];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    let server = context.serve(&desk, FLAGS).await?;
    let callers = desk.callers(&server, CONNECTIONS).await?;
    let mut leads = Vec::new();
    for (index, caller) in callers.iter().enumerate().take(CONNECTIONS) {
        leads.push(caller.create(&format!("Locked {index}"), "").await?.id);
    }
    let lock = desk.database.connect().await?;
    lock.execute("BEGIN").await?;
    lock.execute("LOCK TABLE leads IN ACCESS EXCLUSIVE MODE")
        .await?;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let (mut slowest, mut slowest_health) = (Duration::ZERO, Duration::ZERO);
    let mut memory = Vec::new();
    for _ in 0..context.size(3, 60) {
        let mut calls = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % CONNECTIONS].clone();
            let lead = leads[index % leads.len()].clone();
            calls.spawn(async move {
                let begun = Instant::now();
                let done = match index / CONNECTIONS % 2 {
                    0 => caller.update(&lead, &index.to_string(), "").await,
                    _ => caller.get(&lead).await,
                };
                (begun.elapsed(), done)
            });
        }
        let health = tokio::spawn(health(callers[0].channel.clone()));
        for (time, done) in calls.join_all().await {
            slowest = slowest.max(time);
            let said = done.as_ref().err().map_or("OK".to_owned(), reason);
            *told.entry(said).or_default() += 1;
        }
        slowest_health = slowest_health.max(health.await??);
        memory.push(server.memory()?);
        if slowest >= REFUSED {
            break;
        }
    }
    lock.execute("ROLLBACK").await?;
    lock.close().await?;
    let begun = Instant::now();
    callers[0].update(&leads[0], "after", "").await?;
    findings.fact("slowest refusal", format!("{} ms", slowest.as_millis()));
    findings.expect(slowest < REFUSED, || format!("a refusal took {slowest:?}"));
    findings.fact(
        "slowest health",
        format!("{} ms", slowest_health.as_millis()),
    );
    findings.expect(slowest_health < HEALTH, || {
        format!("the health took {slowest_health:?} to answer")
    });
    findings.fact("memory after each wave, MiB", format!("{memory:.0?}"));
    if let [_, second, .., last] = memory[..] {
        findings.expect(last - second < GROWTH, || {
            format!("the memory grew from {second:.0} to {last:.0} MiB")
        });
    }
    findings.fact(
        "first change afterwards",
        format!("{} ms", begun.elapsed().as_millis()),
    );
    for (reason, count) in told {
        let documented = [
            "DATABASE_UNAVAILABLE",
            "WRITE_CONFLICT",
            "SERVER_OVERLOADED",
        ];
        findings.expect(documented.contains(&reason.as_str()), || {
            format!("{count} calls were answered {reason:?}")
        });
        findings.fact(&format!("told {reason}"), count);
    }
    findings.finish()
}

/// The longest that the health took to answer, asked 20 times a second for a second.
async fn health(channel: tonic::transport::Channel) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        let mut client = HealthClient::new(channel.clone());
        client.check(HealthCheckRequest::default()).await?;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(slowest)
}
