//! What an attack costs everybody else: how long a Get of another connection takes, how much memory
//! the server takes, and whether it is well afterwards.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::Caller;
use super::program::Serving;
use super::report::Findings;

/// How much longer the slowest of 100 Gets may take than it did just before.
const TIMES: u32 = 3;
/// What nobody notices, on a machine that does other things besides.
const UNNOTICED: Duration = Duration::from_millis(15);
/// How much more memory the server may take, in MiB.
const MEMORY: f64 = 64.0;
const PAUSE: Duration = Duration::from_millis(4);
const GETS: usize = 300;
/// However long an attack lasts.
const MOST: usize = 20_000;

/// Somebody who looks one lead up again and again, and what it costs.
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

    /// Carries an attack out. Meanwhile another caller's Gets may take [`TIMES`] as long as usual, and the
    /// server `memory` MiB more, or [`MEMORY`].
    pub async fn during<T>(
        &self,
        name: &str,
        memory: Option<f64>,
        findings: &mut Findings,
        attack: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let memory = memory.unwrap_or(MEMORY);
        let (times, outcome) = self.observe(name, memory, findings, attack).await?;
        let allowed = (times.usual * TIMES).max(UNNOTICED);
        findings.expect(times.slowest <= allowed, || {
            format!(
                "{name}: p99 of others {:.1} ms, allowed {:.1}",
                millis(times.slowest),
                millis(allowed)
            )
        });
        Ok(outcome)
    }

    /// As [`Self::during`], for work that may slow others down: only the memory is limited.
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
        let outcome = outcome.with_context(|| format!("{name} cannot be tried"))?;
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

    /// The 99th percentile of Gets while something goes on.
    async fn slowest<T>(&self, work: impl Future<Output = T>) -> Result<(Duration, T)> {
        let mut work = std::pin::pin!(work);
        let mut done = None;
        let mut times = Vec::new();
        while times.len() < MOST && (done.is_none() || times.len() < GETS) {
            let get = async {
                let begun = Instant::now();
                let got = self.caller.get(&self.lead).await;
                tokio::time::sleep(PAUSE).await;
                (got, begun.elapsed().saturating_sub(PAUSE))
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

/// Notes a panic in the server's log, and a server that does not answer.
pub async fn is_well(server: &Serving, caller: &Caller, findings: &mut Findings) -> Result<()> {
    let log = server.log()?;
    findings.expect(!log.contains("panicked"), || "the server panicked".into());
    let answer = caller.create("Afterwards", "").await;
    findings.expect(answer.is_ok(), || {
        format!("the server does not answer: {answer:?}")
    });
    Ok(())
}
