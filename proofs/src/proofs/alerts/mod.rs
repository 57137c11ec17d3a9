//! A real Prometheus scrapes two loaded servers with the alert rules of `deploy/`, whose times are shortened to
//! seconds. One fault after the other is injected. Its alert must fire, and no alert may fire any more once the fault is
//! corrected. Every query of the dashboard must return data, and `promtool check metrics` must accept the metrics under
//! load. Shown to fail by `outage-unmeasured`.

mod faults;
mod load;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::harness::cluster::{Cluster, succeeded};
use crate::harness::context::{Context, Fixture};
use crate::harness::database::Database;
use crate::harness::program::{Serving, free_port};
use crate::harness::prometheus::{self, Prometheus};
use crate::harness::report::Findings;
use load::Load;

/// How long an alert may take to fire or to clear, with the shortened rules.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// An alert that does not fire here: it needs servers of two versions. `promtool test rules` shows it.
const NOT_TRIED: &str = "LeadsmithSeveralVersions";

/// The servers, and what watches them.
struct Stage<'a> {
    context: &'a Context<'a>,
    cluster: Arc<Cluster>,
    fixture: Fixture,
    prometheus: Prometheus,
    /// The addresses of the administrative listeners.
    admin: [String; 2],
    fired: BTreeSet<String>,
    slowest: Duration,
    findings: Findings,
}

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    // Its own server, because the proof stops it.
    let cluster = Arc::new(Cluster::start()?);
    cluster.admin("CREATE DATABASE alerts")?;
    let database = Database::Postgres(Arc::clone(&cluster), "alerts".to_owned());
    let fixture = context.fixture_in(database)?;
    // What this server writes confirms the clock of the next one, which deletes expired data then.
    let first = context.serve(&fixture, &[]).await?;
    fixture.caller(&first).await?.create("First", "").await?;
    drop(first);
    let admin = [0, 1].map(|_| free_port().map(|port| format!("127.0.0.1:{port}")));
    let [first, second] = admin;
    let admin = [first?, second?];
    let mut stage = Stage {
        prometheus: Prometheus::start(admin.to_vec()).await?,
        context,
        cluster,
        fixture,
        admin,
        fired: BTreeSet::new(),
        slowest: Duration::ZERO,
        findings: Findings::default(),
    };
    let certificate = faults::Certificate::new()?;
    let server = stage.serve(0, &["--max-connections", "60"]).await?;
    let mut with_tls = stage.serve(1, &certificate.flags()).await?;
    let load = Load::start(&stage.fixture, &server).await?;
    stage.clear("the start").await?;

    stage.read_everything().await?;
    // The most important ones first.
    stage.outage().await?;
    if !stage.findings.is_broken() {
        stage.standby().await?;
        stage.internal_errors().await?;
        stage.retention().await?;
        stage.slow_database().await?;
        stage.guesses(&server).await?;
        stage.sign_ins(&server).await?;
        stage.connections(&server).await?;
        stage.certificate(&certificate).await?;
        stage.target_down(&mut with_tls, &certificate).await?;
        stage.no_targets().await?;
        let mut missing = prometheus::alerts()?;
        missing.retain(|alert| alert != NOT_TRIED && !stage.fired.contains(alert));
        stage.findings.expect(missing.is_empty(), || {
            format!("there is no fault for the alerts {missing:?}")
        });
    }
    let calls = load.stop();
    let mut findings = stage.findings;
    findings.fact("calls under load", calls);
    findings.fact("alerts that fired and cleared", stage.fired.len());
    let slowest = format!("{:.1} s", stage.slowest.as_secs_f64());
    findings.fact("slowest to fire, with shortened times", slowest);
    findings.finish()
}

impl Stage<'_> {
    /// Starts the first or the second server.
    async fn serve(&self, number: usize, flags: &[&str]) -> Result<Serving> {
        let listen = ["--admin-listen", &self.admin[number]];
        let often = ["--retention-interval", "1"];
        let flags = [&listen[..], &often[..], flags].concat();
        self.context.serve(&self.fixture, &flags).await
    }

    /// Waits until these alerts fire.
    async fn fires(&mut self, alerts: &[&str]) -> Result<()> {
        let begin = Instant::now();
        let mut waiting: BTreeSet<&str> = alerts.iter().copied().collect();
        while !waiting.is_empty() && begin.elapsed() < PATIENCE {
            tokio::time::sleep(POLL_INTERVAL).await;
            let firing = self.prometheus.firing()?;
            waiting.retain(|alert| !firing.contains(*alert));
            self.fired.extend(firing);
        }
        self.slowest = self.slowest.max(begin.elapsed());
        self.findings.expect(waiting.is_empty(), || {
            format!("after {PATIENCE:?} of the fault these do not fire: {waiting:?}")
        });
        Ok(())
    }

    /// Waits until no alert fires any more.
    async fn clear(&mut self, fault: &str) -> Result<()> {
        let begin = Instant::now();
        let mut firing = self.prometheus.firing()?;
        while !firing.is_empty() && begin.elapsed() < PATIENCE {
            tokio::time::sleep(POLL_INTERVAL).await;
            firing = self.prometheus.firing()?;
        }
        self.findings.expect(firing.is_empty(), || {
            format!("{PATIENCE:?} after {fault} these still fire: {firing:?}")
        });
        Ok(())
    }

    /// The metrics under load, and every query of the dashboard.
    async fn read_everything(&mut self) -> Result<()> {
        let metrics = prometheus::get(&self.admin[0], "/metrics").await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("metrics");
        std::fs::write(&file, &metrics)?;
        let checked = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::fs::File::open(&file)?)
            .output()
            .context("promtool does not start: install the package prometheus")?;
        if let Err(error) = succeeded("promtool check metrics", &checked) {
            self.findings.broke(format!("{error:#}"));
        }
        let queries = prometheus::dashboard()?;
        let mut waiting: Vec<&(String, String)> = queries.iter().collect();
        let begin = Instant::now();
        while !waiting.is_empty() && begin.elapsed() < PATIENCE {
            tokio::time::sleep(POLL_INTERVAL).await;
            let mut without = Vec::new();
            for query in waiting {
                let lines = self.prometheus.query(&query.1)?;
                // The name of a time series may contain anything, so only the value counts.
                let is_number = |line: &String| !line.contains("=> NaN @");
                if !lines.iter().any(is_number) {
                    without.push(query);
                }
            }
            waiting = without;
        }
        for (title, query) in waiting {
            self.findings
                .broke(format!("no data for the panel {title:?}: {query}"));
        }
        self.findings
            .fact("queries of the dashboard", queries.len());
        Ok(())
    }
}
