//! TLS: a client that uses plain text, an old version, an incomplete handshake or a wrong certificate is rejected.
//! Certificates and registrations change while the server runs. Without TLS the server does not listen on public
//! addresses. The long form also runs testssl.sh (Debian's package of that name) on the port. Shown to fail by
//! `no-certificate-asked`.

mod certificates;
mod clients;
mod port;
mod testssl;

use std::time::Duration;

use anyhow::Result;

use crate::harness::context::{Context, Fixture};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use certificates::{Authority, Files, REGISTERED};

const TIMEOUT: Duration = Duration::from_secs(10);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let fixture = context.fixture()?;
    clients::register(context, &fixture, Some(REGISTERED))?;
    let (ours, clients) = (Authority::new()?, Authority::new()?);
    let files = Files::new(&ours.server()?, &clients)?;

    let open = serve(context, &fixture, &files, false).await?;
    port::look(&open.address, &mut findings).await?;
    if context.size(false, true) {
        testssl::look(&open.address, &mut findings).await?;
    }
    drop(open);

    let closed = serve(context, &fixture, &files, true).await?;
    let signed = (&ours, &clients);
    clients::try_all(&closed, signed, &mut findings).await?;
    clients::renew(&closed, &files, signed, &mut findings).await?;
    drop(closed);

    let again = serve(context, &fixture, &files, true).await?;
    clients::unregister(context, &fixture, &again, signed, &mut findings).await?;
    in_clear(context, &fixture, &mut findings).await?;
    findings.finish()
}

async fn serve(
    context: &Context<'_>,
    fixture: &Fixture,
    files: &Files,
    mutual: bool,
) -> Result<Serving> {
    let flags = files.flags(mutual);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    context.serve(fixture, &flags).await
}

/// Without TLS and without --insecure, the server must not listen on a public address.
async fn in_clear(context: &Context<'_>, fixture: &Fixture, findings: &mut Findings) -> Result<()> {
    let flags = ["--listen", "0.0.0.0:0"];
    let mut rejected = context.program.launch(&fixture.database.url(), &flags)?;
    let ended = rejected.ended(TIMEOUT).await?;
    let said = rejected.log()?;
    let clear = ["--tls-certificate", "--tls-key", "--insecure"]
        .iter()
        .all(|flag| said.contains(flag));
    let ended = ended.is_some_and(|status| !status.success());
    findings.expect(ended && clear, || {
        format!("0.0.0.0 without TLS: ended {ended}, said {said:?}")
    });
    Ok(())
}
