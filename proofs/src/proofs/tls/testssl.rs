//! What testssl.sh, which knows the known faults of TLS, finds on the port.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::harness::report::Findings;

const PATIENCE: Duration = Duration::from_secs(600);
/// What has to be found of each version.
const VERSIONS: [(&str, &str); 6] = [
    ("SSLv2", "not offered"),
    ("SSLv3", "not offered"),
    ("TLS1", "not offered"),
    ("TLS1_1", "not offered"),
    ("TLS1_2", "offered"),
    ("TLS1_3", "offered"),
];
/// Of the certificate, which the proof has made for itself: no public authority has signed it, nobody
/// can ask whether it was revoked, and it does not end.
const OURS: [&str; 4] = [
    "cert_trust",
    "cert_chain_of_trust",
    "cert_revocation",
    "cert_validityPeriod",
];

/// Has it look, and judges what it finds.
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
    // It ends with how many findings it made: what they are decides.
    tokio::time::timeout(PATIENCE, command.status())
        .await
        .context("testssl takes too long")?
        .context("the long form needs testssl: install Debian's package testssl.sh")?;
    let text = fs::read_to_string(&file).context("testssl has written nothing down")?;
    let rows: Vec<Row<'_>> = text.lines().skip(1).filter_map(row).collect();
    ensure!(rows.len() > 50, "testssl did not get far: {text}");
    for (version, told) in VERSIONS {
        let found = rows.iter().find(|row| row.id == version);
        findings.expect(
            found.is_some_and(|row| row.finding.starts_with(told)),
            || format!("testssl on {version}: {found:?}, not {told}"),
        );
    }
    let grave = |row: &&Row<'_>| ["HIGH", "CRITICAL"].contains(&row.severity);
    for row in rows.iter().filter(grave) {
        findings.expect(OURS.contains(&row.id), || format!("testssl: {row:?}"));
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

/// Of "id","fqdn/ip","port","severity","finding","cve","cwe".
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
