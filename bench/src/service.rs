//! The servers under measurement: builds of the service, and the echo server.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::data::DataSet;
use crate::echo::Replies;
use crate::load::Caller;
use crate::process::{self, Running};
use crate::setting::Setting;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A server and its callers.
pub struct Server {
    process: Running,
    pub callers: Vec<Caller>,
    pub address: String,
}

impl Server {
    /// The server process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Starts the service on a data set, with its default settings.
    pub async fn service(setting: &Setting, data: &DataSet) -> Result<Self> {
        let program = &data.program;
        let log = setting
            .folder
            .join(format!("service-{}.log", program.role()));
        let child = program
            .start(&data.storage, setting.server_cores.as_deref())
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut process = Running::new(child);
        let address = address_in(&log, &mut process).await?;
        let callers = Caller::connect_all(&address, &data.keys, true, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }

    /// Starts the echo server with these responses.
    pub async fn echo(setting: &Setting, replies: &Replies, keys: &[String]) -> Result<Self> {
        let child = process::on_cores(setting.server_cores.as_deref(), &std::env::current_exe()?)
            .arg("echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut process = Running::new(child);
        let child = process.child();
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(&serde_json::to_vec(replies)?)?;
        drop(input);
        let mut address = String::new();
        let output = child.stdout.take().context("no standard output")?;
        BufReader::new(output).read_line(&mut address)?;
        let address = address.trim().to_owned();
        // The token is sent because it is part of the payload. The echo server ignores it.
        let callers = Caller::connect_all(&address, keys, false, setting.connections).await?;
        Ok(Self {
            process,
            callers,
            address,
        })
    }
}

/// Waits until the service logs the address that it serves on.
async fn address_in(log: &Path, process: &mut Running) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < START {
        let text = fs::read_to_string(log)?;
        if let Some(address) = logged_address(&text) {
            return Ok(address.to_owned());
        }
        if process.child().try_wait()?.is_some() {
            bail!("the service ended during its start: {text}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!(
        "the service did not start within {} s: see {}",
        START.as_secs(),
        log.display()
    )
}

/// Finds the address in a log. Builds word the log line differently.
fn logged_address(log: &str) -> Option<&str> {
    log.split_inclusive('\n')
        // A warning may name another address, such as that of the metrics, which only one build can have.
        .filter(|line| line.ends_with('\n') && !line.contains("WARN"))
        .find_map(|line| {
            let (_, rest) = line.split_once("address=127.0.0.1:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            let start = line.len() - rest.len() - "127.0.0.1:".len();
            line.get(start..start + "127.0.0.1:".len() + port.len())
        })
}

#[cfg(test)]
mod tests {
    use super::logged_address;

    #[test]
    fn the_address_is_found_in_the_words_of_any_build() {
        let log = "2026-01-01 INFO starting\n2026-01-01 INFO serving address=127.0.0.1:4711\n";
        assert_eq!(logged_address(log), Some("127.0.0.1:4711"));
        let other = "INFO listening address=127.0.0.1:4711 tls=false\n";
        assert_eq!(logged_address(other), Some("127.0.0.1:4711"));
        let warned = "WARN the metrics are not served address=127.0.0.1:9464\n";
        assert_eq!(
            logged_address(&format!("{warned}{other}")),
            Some("127.0.0.1:4711")
        );
        assert_eq!(logged_address("INFO serving address=127.0.0.1:47"), None);
        assert_eq!(logged_address("INFO starting\n"), None);
    }
}
