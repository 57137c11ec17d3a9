//! What the port says to those who speak no TLS, an old one, or stop in the middle of it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::report::Findings;

const PATIENCE: Duration = Duration::from_secs(10);
/// What HTTP/2 in clear begins with.
const CLEAR: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The first bytes of a TLS handshake of 512 bytes.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
/// How soon clear text has to be refused, and when a handshake is cut.
const AT_ONCE: Duration = Duration::from_secs(1);
const CUT: std::ops::Range<Duration> = Duration::from_secs(4)..Duration::from_secs(7);

pub async fn look(address: &str, findings: &mut Findings) -> Result<()> {
    for (version, taken) in [
        ("-tls1", false),
        ("-tls1_1", false),
        ("-tls1_2", true),
        ("-tls1_3", true),
    ] {
        let spoken = handshake(address, version).await?;
        findings.expect(spoken == taken, || {
            format!("{version}: {}", ["refused", "taken"][usize::from(spoken)])
        });
    }
    let (clear, half) = tokio::join!(hung_up(address, CLEAR), hung_up(address, HALF));
    let (clear, half) = (clear?, half?);
    findings.expect(clear.is_some_and(|(time, _)| time < AT_ONCE), || {
        format!("clear text on the port for TLS: {clear:?}")
    });
    // What is said to it is an alert, of 7 bytes, and no HTTP/2.
    findings.expect(clear.is_some_and(|(_, said)| said <= 7), || {
        format!("clear text on the port for TLS is answered: {clear:?}")
    });
    findings.expect(half.is_some_and(|(time, _)| CUT.contains(&time)), || {
        format!("a handshake that does not go on: {half:?}")
    });
    if let Some((time, _)) = half {
        findings.fact("a handshake that stops is cut after", format!("{time:.1?}"));
    }
    Ok(())
}

/// After which time the server hangs up on who says this, and how many bytes it said.
async fn hung_up(address: &str, says: &[u8]) -> Result<Option<(Duration, usize)>> {
    let mut stream = TcpStream::connect(address).await?;
    let begun = Instant::now();
    stream.write_all(says).await?;
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // Whether it ends in order or by a reset.
    Ok(end.ok().map(|_| (begun.elapsed(), said.len())))
}

/// Whether a handshake of this version comes about.
async fn handshake(address: &str, version: &str) -> Result<bool> {
    let mut command = Command::new("openssl");
    // Old versions need old ciphers; level 0 lets this client speak them.
    command
        .args(["s_client", "-connect", address, "-alpn", "h2", version])
        .args(["-cipher", "ALL:@SECLEVEL=0"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("openssl takes too long")?
        .context("this proof needs openssl: install Debian's package of that name")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.contains("Cipher is ") && !said.contains("Cipher is (NONE)"))
}
