//! 5 connections, 500 callers, and a locked table: every call fails within about a second because the database is
//! busy, health checks respond throughout, and memory does not grow. Shown to fail by `patient-pool`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::client::reason;
use crate::harness::context::Context;
use crate::harness::report::{Findings, outcome_label};

const CALLERS: usize = 500;
const CONNECTIONS: usize = 10;
/// One second to wait for a connection and the lock together, and the time for 500 responses.
const ERROR_TIME: Duration = Duration::from_millis(1_250);
const HEALTH_TIME: Duration = Duration::from_millis(500);
/// How much memory may grow from the second wave to the last, in MiB.
const GROWTH: f64 = 32.0;
const FLAGS: &[&str] = &["--postgres-connections", "5", "--statement-time", "1"];

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    let server = context.serve(&fixture, FLAGS).await?;
    let callers = fixture.callers(&server, CONNECTIONS).await?;
    let mut leads = Vec::new();
    for (index, caller) in callers.iter().enumerate().take(CONNECTIONS) {
        leads.push(caller.create(&format!("Locked {index}"), "").await?.id);
    }
    let lock = fixture.database.connect().await?;
    lock.execute("BEGIN").await?;
    lock.execute("LOCK TABLE leads IN ACCESS EXCLUSIVE MODE")
        .await?;
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let (mut slowest, mut slowest_health) = (Duration::ZERO, Duration::ZERO);
    let mut memory = Vec::new();
    for _ in 0..context.size(3, 60) {
        let mut calls = JoinSet::new();
        for index in 0..CALLERS {
            let caller = callers[index % CONNECTIONS].clone();
            let lead = leads[index % leads.len()].clone();
            calls.spawn(async move {
                let started = Instant::now();
                let done = match index / CONNECTIONS % 2 {
                    0 => caller.update(&lead, &index.to_string(), "").await,
                    _ => caller.get(&lead).await,
                };
                (started.elapsed(), done)
            });
        }
        let health = tokio::spawn(health(callers[0].channel.clone()));
        for (time, done) in calls.join_all().await {
            slowest = slowest.max(time);
            let call_outcome = done.as_ref().err().map_or("OK".to_owned(), reason);
            *outcomes.entry(call_outcome).or_default() += 1;
        }
        slowest_health = slowest_health.max(health.await??);
        memory.push(server.memory()?);
        if slowest >= ERROR_TIME {
            break;
        }
    }
    lock.execute("ROLLBACK").await?;
    lock.close().await?;
    let started = Instant::now();
    callers[0].update(&leads[0], "after", "").await?;
    findings.fact("slowest error", format!("{} ms", slowest.as_millis()));
    findings.expect(slowest < ERROR_TIME, || {
        format!("an error took {slowest:?}")
    });
    findings.fact(
        "slowest health check",
        format!("{} ms", slowest_health.as_millis()),
    );
    findings.expect(slowest_health < HEALTH_TIME, || {
        format!("a health check took {slowest_health:?}")
    });
    findings.fact("memory after each wave, MiB", format!("{memory:.0?}"));
    if let [_, second, .., last] = memory[..] {
        findings.expect(last - second < GROWTH, || {
            format!("the memory grew from {second:.0} to {last:.0} MiB")
        });
    }
    findings.fact(
        "first change afterwards",
        format!("{} ms", started.elapsed().as_millis()),
    );
    for (reason, count) in outcomes {
        let documented = [
            "DATABASE_UNAVAILABLE",
            "WRITE_CONFLICT",
            "SERVER_OVERLOADED",
        ];
        findings.expect(documented.contains(&reason.as_str()), || {
            format!("{count} calls had the outcome {reason:?}")
        });
        findings.fact(&outcome_label(&reason), count);
    }
    findings.finish()
}

/// The slowest of the health checks, made 20 times a second for a second.
async fn health(channel: tonic::transport::Channel) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let started = Instant::now();
        let mut client = HealthClient::new(channel.clone());
        client.check(HealthCheckRequest::default()).await?;
        slowest = slowest.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(slowest)
}
