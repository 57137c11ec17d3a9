//! The findings of testssl.sh, which checks for known TLS vulnerabilities, on the port.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::harness::report::Findings;

const TIMEOUT: Duration = Duration::from_secs(600);
/// The expected finding for each version.
const VERSIONS: [(&str, &str); 6] = [
    ("SSLv2", "not offered"),
    ("SSLv3", "not offered"),
    ("TLS1", "not offered"),
    ("TLS1_1", "not offered"),
    ("TLS1_2", "offered"),
    ("TLS1_3", "offered"),
];
/// Findings about the certificate, which the proof created itself: no public authority signed it, its revocation
/// cannot be checked, and it does not expire.
const ALLOWED: [&str; 4] = [
    "cert_trust",
    "cert_chain_of_trust",
    "cert_revocation",
    "cert_validityPeriod",
];

/// Runs testssl and checks its findings.
pub async fn look(address: &str, findings: &mut Findings) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("findings.csv");
    let mut command = Command::new("testssl");
    command
        .args([
            "--quiet",
            "--color",
            "0",
            "--protocols",
            "--server-defaults",
        ])
        .args(["--server-preference", "--each-cipher", "--vulnerable"])
        .arg("--csvfile")
        .arg(&file)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // Its exit code is the number of findings. Only their severity matters.
    tokio::time::timeout(TIMEOUT, command.status())
        .await
        .context("testssl takes too long")?
        .context("the long form needs testssl: install Debian's package testssl.sh")?;
    let text = fs::read_to_string(&file).context("testssl has written no findings")?;
    let rows: Vec<Row<'_>> = text.lines().skip(1).filter_map(row).collect();
    ensure!(rows.len() > 50, "testssl did not complete: {text}");
    for (version, expected) in VERSIONS {
        let found = rows.iter().find(|row| row.id == version);
        findings.expect(
            found.is_some_and(|row| row.finding.starts_with(expected)),
            || format!("testssl on {version}: {found:?}, not {expected}"),
        );
    }
    let serious = |row: &&Row<'_>| ["HIGH", "CRITICAL"].contains(&row.severity);
    for row in rows.iter().filter(serious) {
        findings.expect(ALLOWED.contains(&row.id), || format!("testssl: {row:?}"));
    }
    findings.fact("findings of testssl", rows.len());
    Ok(())
}

#[derive(Debug)]
struct Row<'a> {
    id: &'a str,
    severity: &'a str,
    finding: &'a str,
}

/// Parses "id","fqdn/ip","port","severity","finding","cve","cwe".
fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.trim_matches('"').split("\",\"");
    let id = fields.next()?;
    let severity = fields.nth(2)?;
    let finding = fields.next()?;
    Some(Row {
        id,
        severity,
        finding,
    })
}
