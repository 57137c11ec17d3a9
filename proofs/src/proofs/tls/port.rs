//! How the port responds to clients without TLS, with an old TLS version, or with an incomplete handshake.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::report::Findings;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The start of an HTTP/2 connection in clear.
const CLEAR_TEXT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The first bytes of a TLS handshake of 512 bytes.
const PARTIAL_HANDSHAKE: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
/// How soon clear text must be rejected, and when an incomplete handshake must be closed.
const CLEAR_LIMIT: Duration = Duration::from_secs(1);
const HANDSHAKE_LIMIT: std::ops::Range<Duration> = Duration::from_secs(4)..Duration::from_secs(7);

pub async fn look(address: &str, findings: &mut Findings) -> Result<()> {
    for (version, accepted) in [
        ("-tls1", false),
        ("-tls1_1", false),
        ("-tls1_2", true),
        ("-tls1_3", true),
    ] {
        let succeeded = handshake(address, version).await?;
        findings.expect(succeeded == accepted, || {
            format!(
                "{version}: {}",
                ["rejected", "accepted"][usize::from(succeeded)]
            )
        });
    }
    let (clear, half) = tokio::join!(
        closed_after(address, CLEAR_TEXT),
        closed_after(address, PARTIAL_HANDSHAKE)
    );
    let (clear, half) = (clear?, half?);
    findings.expect(clear.is_some_and(|(time, _)| time < CLEAR_LIMIT), || {
        format!("clear text on the port for TLS: {clear:?}")
    });
    // The response may only be a TLS alert, which has 7 bytes, and not HTTP/2.
    findings.expect(clear.is_some_and(|(_, received)| received <= 7), || {
        format!("clear text on the port for TLS got a response: {clear:?}")
    });
    findings.expect(
        half.is_some_and(|(time, _)| HANDSHAKE_LIMIT.contains(&time)),
        || format!("an incomplete handshake: {half:?}"),
    );
    if let Some((time, _)) = half {
        findings.fact(
            "an incomplete handshake is closed after",
            format!("{time:.1?}"),
        );
    }
    Ok(())
}

/// How long after these bytes the server closes the connection, and how many bytes it sends before.
async fn closed_after(address: &str, bytes: &[u8]) -> Result<Option<(Duration, usize)>> {
    let mut stream = TcpStream::connect(address).await?;
    let started = Instant::now();
    stream.write_all(bytes).await?;
    let mut received = Vec::new();
    let end = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut received)).await;
    // The connection may end normally or with a reset.
    Ok(end.ok().map(|_| (started.elapsed(), received.len())))
}

/// Whether a handshake with this version succeeds.
async fn handshake(address: &str, version: &str) -> Result<bool> {
    let mut command = Command::new("openssl");
    // Old versions need old ciphers. Security level 0 lets this client use them.
    command
        .args(["s_client", "-connect", address, "-alpn", "h2", version])
        .args(["-cipher", "ALL:@SECLEVEL=0"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .context("openssl takes too long")?
        .context("this proof needs openssl: install Debian's package of that name")?;
    let received = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(received.contains("Cipher is ") && !received.contains("Cipher is (NONE)"))
}
