//! The effect of an attack on others: the latency of Gets on another connection, the server's memory, and whether
//! the server still works afterwards.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::Caller;
use super::program::Serving;
use super::report::Findings;

/// How many times its usual value the p99 of the Gets may reach during an attack.
const TIMES: u32 = 3;
/// A p99 below this always passes, because other work on the machine can cause it.
const NEGLIGIBLE: Duration = Duration::from_millis(15);
/// How much the server's memory may grow, in MiB.
const MEMORY: f64 = 64.0;
const PAUSE: Duration = Duration::from_millis(4);
const GETS: usize = 300;
/// An upper limit, for attacks that last long.
const MAX_GETS: usize = 20_000;

/// A client that gets one lead repeatedly and measures the latency.
pub struct Bystander<'a> {
    server: &'a Serving,
    caller: Caller,
    lead: String,
}

/// The 99th percentiles of the Gets before and during an attack.
struct Times {
    usual: Duration,
    slowest: Duration,
}

impl<'a> Bystander<'a> {
    pub async fn new(server: &'a Serving, caller: Caller) -> Result<Self> {
        let lead = caller.create("Bystander", "").await?.id;
        Ok(Self {
            server,
            caller,
            lead,
        })
    }

    /// Runs an attack. Meanwhile the p99 of another client's Gets may reach [`TIMES`] times its usual value, and
    /// the server's memory may grow by `memory` MiB, by default [`MEMORY`].
    pub async fn during<T>(
        &self,
        name: &str,
        memory: Option<f64>,
        findings: &mut Findings,
        attack: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let memory = memory.unwrap_or(MEMORY);
        let (times, outcome) = self.observe(name, memory, findings, attack).await?;
        let allowed = (times.usual * TIMES).max(NEGLIGIBLE);
        findings.expect(times.slowest <= allowed, || {
            format!(
                "{name}: p99 of other calls {:.1} ms, allowed {:.1}",
                millis(times.slowest),
                millis(allowed)
            )
        });
        Ok(outcome)
    }

    /// Like [`Self::during`], for work that may slow other calls: only the memory is limited.
    pub async fn memory_during<T>(
        &self,
        name: &str,
        memory: f64,
        findings: &mut Findings,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (_, outcome) = self.observe(name, memory, findings, work).await?;
        Ok(outcome)
    }

    async fn observe<T>(
        &self,
        name: &str,
        memory: f64,
        findings: &mut Findings,
        attack: impl Future<Output = Result<T>>,
    ) -> Result<(Times, T)> {
        let (usual, ()) = self.slowest(std::future::ready(())).await?;
        // Resets the peak that the kernel reports.
        fs::write(format!("/proc/{}/clear_refs", self.server.id()), "5")?;
        let before = self.server.memory()?;
        let (slowest, outcome) = self.slowest(attack).await?;
        let outcome = outcome.with_context(|| format!("{name} could not be completed"))?;
        let grown = (self.peak()? - before).max(0.0);
        findings.fact(
            name,
            format!(
                "p99 {:.1} ms (before {:.1}), memory +{grown:.0} MiB",
                millis(slowest),
                millis(usual)
            ),
        );
        findings.expect(grown <= memory, || {
            format!("{name}: {grown:.0} MiB more memory, allowed {memory:.0}")
        });
        Ok((Times { usual, slowest }, outcome))
    }

    /// The 99th percentile of Gets until `work` completes.
    async fn slowest<T>(&self, work: impl Future<Output = T>) -> Result<(Duration, T)> {
        let mut work = std::pin::pin!(work);
        let mut done = None;
        let mut times = Vec::new();
        while times.len() < MAX_GETS && (done.is_none() || times.len() < GETS) {
            let get = async {
                let started = Instant::now();
                let got = self.caller.get(&self.lead).await;
                tokio::time::sleep(PAUSE).await;
                (got, started.elapsed().saturating_sub(PAUSE))
            };
            let mut get = std::pin::pin!(get);
            let (got, time) = if done.is_some() {
                get.await
            } else {
                tokio::select! {
                    biased;
                    outcome = &mut work => {
                        done = Some(outcome);
                        get.await
                    }
                    got = &mut get => got,
                }
            };
            got.context("a Get of another connection failed")?;
            times.push(time);
        }
        let outcome = match done {
            Some(outcome) => outcome,
            None => work.await,
        };
        times.sort_unstable();
        let p99 = times
            .get(times.len() * 99 / 100)
            .copied()
            .context("no Get")?;
        Ok((p99, outcome))
    }

    fn peak(&self) -> Result<f64> {
        self.server.memory_of("VmHWM:")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Records a panic in the server's log, and a server that does not respond.
pub async fn check_alive(server: &Serving, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let log = server.log()?;
    findings.expect(!log.contains("panicked"), || "the server panicked".into());
    let response = caller.create("Afterwards", "").await;
    findings.expect(response.is_ok(), || {
        format!("the server does not respond: {response:?}")
    });
    Ok(())
}
