//! TLS: who speaks plain text, an old version or only half of a handshake, or shows the wrong
//! certificate, is refused; certificates and registrations change while the server runs; and without
//! TLS it is not to be reached from elsewhere. In the long form testssl.sh (Debian's package of that
//! name) looks at the port too. Shown to fail by `no-certificate-asked`.

mod certificates;
mod clients;
mod port;
mod testssl;

use std::time::Duration;

use anyhow::Result;

use crate::harness::context::{Context, Desk};
use crate::harness::program::Serving;
use crate::harness::report::Findings;
use certificates::{Authority, Files, REGISTERED};

const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(context: &Context<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let desk = context.desk()?;
    clients::register(context, &desk, Some(REGISTERED))?;
    let (ours, clients) = (Authority::new()?, Authority::new()?);
    let files = Files::new(&ours.server()?, &clients)?;

    let open = serve(context, &desk, &files, false).await?;
    port::look(&open.address, &mut findings).await?;
    if context.size(false, true) {
        testssl::look(&open.address, &mut findings).await?;
    }
    drop(open);

    let closed = serve(context, &desk, &files, true).await?;
    let signed = (&ours, &clients);
    clients::try_all(&closed, signed, &mut findings).await?;
    clients::renew(&closed, &files, signed, &mut findings).await?;
    drop(closed);

    let again = serve(context, &desk, &files, true).await?;
    clients::unregister(context, &desk, &again, signed, &mut findings).await?;
    in_clear(context, &desk, &mut findings).await?;
    findings.finish()
}

async fn serve(context: &Context<'_>, desk: &Desk, files: &Files, mutual: bool) -> Result<Serving> {
    let flags = files.flags(mutual);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    context.serve(desk, &flags).await
}

/// Without TLS and without being told so, the server does not listen where others could reach it.
async fn in_clear(context: &Context<'_>, desk: &Desk, findings: &mut Findings) -> Result<()> {
    let flags = ["--listen", "0.0.0.0:0"];
    let mut refused = context.program.launch(&desk.database.url(), &flags)?;
    let ended = refused.ended(PATIENCE).await?;
    let said = refused.log()?;
    let clear = ["--tls-certificate", "--tls-key", "--insecure"]
        .iter()
        .all(|flag| said.contains(flag));
    let ended = ended.is_some_and(|status| !status.success());
    findings.expect(ended && clear, || {
        format!("0.0.0.0 without TLS: ended {ended}, said {said:?}")
    });
    Ok(())
}
