//! Prometheus, with the alert rules and the dashboard of `deploy/`. It scrapes every second, and the rules wait for
//! seconds where the real ones wait for minutes and hours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::builds::ROOT;
use super::cluster::{run, signal};
use super::program::free_port;

const RULES: &str = "deploy/prometheus/leadsmith.rules.yml";
const DASHBOARD: &str = "deploy/grafana/leadsmith.json";
/// How long it may take to start.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Parts of the rules, and what replaces them. The times of `for` are replaced too.
const SHORTER: [(&str, &str); 5] = [
    ("[5m]", "[10s]"),
    ("[10m]", "[10s]"),
    ("offset 10m", "offset 10s"),
    ("> 2 * 3600", "> 15"),
    // A machine with many cores lets no password wait for a second.
    ("[10s]))) > 1\n", "[10s]))) > 0.05\n"),
];
const FOR: &str = "for: ";
const SHORTER_FOR: &str = "for: 2s";
/// What Grafana's variables stand for.
const VARIABLES: [(&str, &str); 3] = [
    ("$__rate_interval", "10s"),
    ("$job", "leadsmith"),
    ("$instance", ".+"),
];

/// The running server.
pub struct Prometheus {
    child: Child,
    folder: TempDir,
    url: String,
    targets: Vec<String>,
}

impl Prometheus {
    /// Starts it on a free port. It scrapes the targets, each given as HOST:PORT.
    pub async fn start(targets: Vec<String>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("rules.yml"), shortened()?)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = fs::File::create(folder.path().join("log"))?;
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, settings(&targets))?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--storage.tsdb.path=data")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("prometheus does not start: install the package prometheus")?;
        let prometheus = Self {
            child,
            folder,
            url: format!("http://{address}"),
            targets,
        };
        let begin = Instant::now();
        while get(&address, "/-/ready").await.is_err() {
            if begin.elapsed() > TIMEOUT {
                let log = fs::read_to_string(prometheus.folder.path().join("log"))?;
                bail!("prometheus does not become ready: {log}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(prometheus)
    }

    /// Stops to scrape, or begins again.
    pub fn scrape(&self, is_on: bool) -> Result<()> {
        let targets = if is_on { &*self.targets } else { &[] };
        fs::write(self.folder.path().join("prometheus.yml"), settings(targets))?;
        signal(self.child.id(), Signal::HUP)
    }

    /// The lines of the result of a query: `{LABELS} => VALUE @[TIME]`.
    pub fn query(&self, expression: &str) -> Result<Vec<String>> {
        let mut promtool = Command::new("promtool");
        promtool.args(["query", "instant", &self.url, expression]);
        let output = run(&mut promtool)?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// The names of the alerts that are firing.
    pub fn firing(&self) -> Result<BTreeSet<String>> {
        let lines = self.query(r#"ALERTS{alertstate="firing"}"#)?;
        let name = |line: &String| {
            let (_, rest) = line.split_once("alertname=\"")?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        Ok(lines.iter().filter_map(name).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(targets: &[String]) -> String {
    // A job without targets, and not no job: then Prometheus marks the time series as ended.
    let targets = targets.join(", ");
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs: [{{job_name: leadsmith, static_configs: [{{targets: [{targets}]}}]}}]\n"
    )
}

/// The rules with shorter times.
fn shortened() -> Result<String> {
    let mut rules = fs::read_to_string(Path::new(ROOT).join(RULES))?;
    for (from, to) in SHORTER {
        ensure!(rules.contains(from), "{RULES} has no {from:?}");
        rules = rules.replace(from, to);
    }
    let lines = rules.lines().map(|line| match line.split_once(FOR) {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}{SHORTER_FOR}\n"),
        Some(_) | None => format!("{line}\n"),
    });
    Ok(lines.collect())
}

/// The names of all alerts.
pub fn alerts() -> Result<BTreeSet<String>> {
    let rules = fs::read_to_string(Path::new(ROOT).join(RULES))?;
    let names = rules
        .lines()
        .filter_map(|line| line.split_once("- alert: "));
    Ok(names.map(|(_, name)| name.to_owned()).collect())
}

/// The queries of the dashboard, each with the title of its panel.
pub fn dashboard() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(Path::new(ROOT).join(DASHBOARD))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    for panel in list(&dashboard, "panels") {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in list(&panel, "targets") {
            let query = target["expr"].as_str().context("a target without expr")?;
            let query = VARIABLES
                .iter()
                .fold(query.to_owned(), |query, (from, to)| {
                    query.replace(from, to)
                });
            queries.push((title.to_owned(), query));
        }
    }
    Ok(queries)
}

/// The body of a response over plain HTTP.
///
/// # Errors
/// If the response is not 200.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").context("no response")?;
    ensure!(head.contains(" 200 "), "{path}: {head}");
    Ok(body.to_owned())
}
