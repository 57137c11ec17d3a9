//! What happens to the servers and the database meanwhile: transactions that are held open, restarts, and failovers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::marks;
use super::shared::Shared;
use crate::harness::client::Caller;
use crate::harness::context::{Context, Fixture};
use crate::harness::patroni::{Loss, Patroni};
use crate::harness::program::{Serving, free_port};
use crate::harness::report::Findings;

/// How long a transaction with an event is held open.
pub const HELD: Duration = Duration::from_secs(10);
/// How long the lock of a lead is held.
const LOCKED: Duration = Duration::from_secs(2);
/// How soon the events of others must come meanwhile.
const MEANWHILE: Duration = Duration::from_secs(8);
/// The pause before each restart.
const BETWEEN: Duration = Duration::from_millis(2_500);
/// How long a server may take to stop: its drain, and a reserve.
const STOPPED: Duration = Duration::from_secs(30);

/// Settings with which streams fall behind and events are deleted within seconds.
const FLAGS: &[&str] = &[
    "--watch-buffer",
    "1048576",
    "--keep-events",
    "1",
    "--retention-interval",
    "0.5",
];

/// The servers, each with an address of its own that it keeps.
pub struct Servers<'a> {
    context: &'a Context<'a>,
    fixture: &'a Fixture,
    running: Vec<(String, Serving)>,
}

impl<'a> Servers<'a> {
    pub async fn start(
        context: &'a Context<'a>,
        fixture: &'a Fixture,
        count: usize,
    ) -> Result<Self> {
        let mut servers = Self {
            context,
            fixture,
            running: Vec::new(),
        };
        for _ in 0..count {
            let address = format!("127.0.0.1:{}", free_port()?);
            let server = servers.serve(&address).await?;
            servers.running.push((address, server));
        }
        Ok(servers)
    }

    async fn serve(&self, address: &str) -> Result<Serving> {
        let flags = [&["--listen", address], FLAGS].concat();
        self.context.serve(self.fixture, &flags).await
    }

    pub fn addresses(&self) -> Vec<String> {
        let running = self.running.iter();
        running.map(|(address, _)| address.clone()).collect()
    }

    /// A caller for each server.
    pub async fn callers(&self) -> Result<Vec<Caller>> {
        let mut callers = Vec::new();
        for (_, server) in &self.running {
            callers.push(self.fixture.caller(server).await?.without_deadline());
        }
        Ok(callers)
    }

    /// Restarts the servers in turn: one is stopped, the next ones are killed.
    pub async fn restart(
        &mut self,
        times: usize,
        shared: &Shared,
        findings: &mut Findings,
    ) -> Result<()> {
        for number in 0..times {
            tokio::time::sleep(BETWEEN).await;
            let place = number % self.running.len();
            let (address, server) = &mut self.running[place];
            match number % 3 {
                0 => {
                    server.terminate()?;
                    let ended = server.ended(STOPPED).await?;
                    findings.expect(ended.is_some(), || {
                        format!("a server with streams did not stop within {STOPPED:?}")
                    });
                }
                _ => server.kill()?,
            }
            let address = address.clone();
            let again = self.serve(&address).await?;
            self.running[place].1 = again;
            shared.count("restarts");
        }
        Ok(())
    }
}

/// Holds a transaction open that has written an event, so that later events are committed before it. They must come
/// meanwhile.
pub async fn hold_event(shared: Arc<Shared>, urls: Vec<String>, caller: Caller) -> Result<()> {
    let held = caller.create("Held", "").await?.id;
    let db = marks::connect(&urls).await?;
    db.execute("BEGIN").await?;
    db.execute(&format!(
        "INSERT INTO history (id, lead_id, subject, subject_id, version, time, actor, rpc, changes, request_id) \
         SELECT gen_random_uuid(), lead_id, subject, subject_id, 2, time, actor, 'proofs hold', '[]', request_id \
         FROM history WHERE subject_id = '{held}'"
    ))
    .await?;
    db.execute(&format!(
        "INSERT INTO events (id, lead_id, type, subject_id, version, time, actor, record) \
         SELECT gen_random_uuid(), lead_id, 'lead.held', subject_id, 2, time, actor, '{{\"erased\": true}}' \
         FROM events WHERE subject_id = '{held}'"
    ))
    .await?;
    let update = format!("UPDATE leads SET version = 2 WHERE id = '{held}'");
    db.execute(&update).await?;
    let begun = Instant::now();
    let mut meanwhile = Uuid::nil();
    while shared.seen(meanwhile) == 0 && begun.elapsed() < MEANWHILE {
        if meanwhile.is_nil()
            && let Ok(lead) = caller.create("Meanwhile", "").await
        {
            meanwhile = lead.id.parse()?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if shared.seen(meanwhile) == 0 {
        let problem = "events of others did not come while a transaction was held open";
        shared.problem(problem.to_owned());
    }
    tokio::time::sleep(HELD.saturating_sub(begun.elapsed())).await;
    db.execute("COMMIT").await?;
    shared.count("transactions that were held open for 10 s");
    db.close().await
}

/// Locks a lead, so that a change of it waits, whose transaction has begun before those of others.
pub async fn hold_lock(shared: Arc<Shared>, urls: Vec<String>, lead: String) -> Result<()> {
    let db = marks::connect(&urls).await?;
    db.execute("BEGIN").await?;
    let lock = format!("SELECT id FROM leads WHERE id = '{lead}' FOR UPDATE");
    db.execute(&lock).await?;
    tokio::time::sleep(LOCKED).await;
    db.execute("ROLLBACK").await?;
    shared.count("changes that had to wait for a lock for 2 s");
    db.close().await
}

/// Makes the leader of the cluster fail, and waits for the failover and until the lost member has returned.
pub async fn fail_over(patroni: &mut Patroni, how: Loss) -> Result<()> {
    let leader = patroni.leader().context("there is no leader")?;
    patroni.lose(leader, how)?;
    patroni.wait_for_failover(leader).await?;
    tokio::time::sleep(BETWEEN).await;
    patroni.recover(leader, how)?;
    patroni.wait_ready().await
}
