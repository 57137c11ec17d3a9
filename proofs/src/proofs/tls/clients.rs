//! What becomes of those who call with certificates, while those, the registrations and the files of
//! the server change.

use std::time::{Duration, Instant};

use anyhow::Result;
use leadsmith::wire::proto;
use leadsmith::wire::proto::auth_service_client::AuthServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::certificates::{Authority, Files, Identity, REGISTERED};
use crate::harness::client::reason;
use crate::harness::context::{Context, Desk};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server looks at its files, with some time to do it.
const LOOKS: Duration = Duration::from_secs(7);
/// Within which time a registration that was taken back is honoured.
const HONOURED: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What a caller without a certificate that was verified gets, and one whose name nobody has.
const REFUSED: &str = "refused";
const NOBODY: &str = "Unauthenticated TOKEN_INVALID";
const LET_IN: &str = "let in as first";

/// Registers a name for the first service account, or takes it back.
pub fn register(context: &Context<'_>, desk: &Desk, name: Option<&str>) -> Result<()> {
    let mut arguments = vec!["service-account", "set-certificate", "--name", "first"];
    let name = name.map(|name| format!("URI:{name}"));
    if let Some(name) = &name {
        arguments.extend(["--certificate-name", name]);
    }
    context.program.command(&desk.database.url(), &arguments)?;
    Ok(())
}

/// Who may call, before anything changes.
pub async fn try_all(
    server: &Serving,
    (ours, clients): (&Authority, &Authority),
    findings: &mut Findings,
) -> Result<()> {
    let strangers = Authority::new()?;
    let tried = [
        ("none", None, REFUSED),
        (
            "of another authority",
            Some(strangers.client(REGISTERED, false)?),
            REFUSED,
        ),
        ("expired", Some(clients.client(REGISTERED, true)?), REFUSED),
        (
            "not registered",
            Some(clients.client("spiffe://proofs/nobody", false)?),
            NOBODY,
        ),
        (
            "registered",
            Some(clients.client(REGISTERED, false)?),
            LET_IN,
        ),
    ];
    findings.fact("client certificates tried", tried.len());
    for (which, identity, expected) in tried {
        let told = told(connect(server, ours, identity).await).await;
        findings.expect(told == expected, || {
            format!("client certificate {which}: {told}, not {expected}")
        });
    }
    Ok(())
}

/// New files are taken, broken ones are not, and whom the new authority did not sign stays outside.
pub async fn renew(
    server: &Serving,
    files: &Files,
    (ours, clients): (&Authority, &Authority),
    findings: &mut Findings,
) -> Result<()> {
    let client = clients.client(REGISTERED, false)?;
    files.put_server(&Identity {
        certificate: "half a file".to_owned(),
        key: String::new(),
    })?;
    let wait = Wait::new(LOOKS);
    while !server.log()?.contains("cannot be used") && wait.goes_on().await {}
    findings.expect(!wait.is_over(), || {
        "broken files are not told in the log".into()
    });
    let still = told(connect(server, ours, Some(client.clone())).await).await;
    findings.expect(still == LET_IN, || format!("with broken files: {still}"));

    let (new, new_clients) = (Authority::new()?, Authority::new()?);
    let new_client = new_clients.client(REGISTERED, false)?;
    files.put_server(&new.server()?)?;
    files.put_clients(&new_clients)?;
    let wait = Wait::new(LOOKS);
    while told(connect(server, &new, Some(new_client.clone())).await).await != LET_IN
        && wait.goes_on().await
    {}
    findings.expect(!wait.is_over(), || "new files are not taken".into());
    findings.fact("new files are taken after", wait.took());
    let old = told(connect(server, &new, Some(client)).await).await;
    findings.expect(old == REFUSED, || {
        format!("signed by the authority of before: {old}")
    });
    let old = told(connect(server, ours, Some(new_client)).await).await;
    findings.expect(old == REFUSED, || {
        format!("the certificate of before: {old}")
    });
    // As it was.
    files.put_server(&ours.server()?)?;
    files.put_clients(clients)
}

/// A registration that is taken back is honoured, on a connection that is open too.
pub async fn unregister(
    context: &Context<'_>,
    desk: &Desk,
    server: &Serving,
    (ours, clients): (&Authority, &Authority),
    findings: &mut Findings,
) -> Result<()> {
    let client = clients.client(REGISTERED, false)?;
    let channel = connect(server, ours, Some(client)).await?;
    let before = told(Ok(channel.clone())).await;
    findings.expect(before == LET_IN, || format!("before: {before}"));
    register(context, desk, None)?;
    let wait = Wait::new(HONOURED);
    while told(Ok(channel.clone())).await != NOBODY && wait.goes_on().await {}
    findings.expect(!wait.is_over(), || {
        "a registration that was taken back still counts after 5 s".into()
    });
    findings.fact("taken back, honoured after", wait.took());
    Ok(())
}

/// Waiting for something, for so long.
struct Wait {
    begun: Instant,
    patience: Duration,
}

impl Wait {
    fn new(patience: Duration) -> Self {
        Self {
            begun: Instant::now(),
            patience,
        }
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.patience
    }

    /// Waits a little; false when that was long enough.
    async fn goes_on(&self) -> bool {
        tokio::time::sleep(PAUSE).await;
        !self.is_over()
    }

    fn took(&self) -> String {
        format!("{:.1?}", self.begun.elapsed())
    }
}

async fn connect(
    server: &Serving,
    authority: &Authority,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some(Identity { certificate, key }) = identity {
        tls = tls.identity(tonic::transport::Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{}", server.address))?
        .tls_config(tls)?
        .timeout(PATIENCE)
        .connect()
        .await
}

/// What a caller is told. Who is refused may learn it with the first call only; what a server says
/// that lets in has a reason.
async fn told(channel: Result<Channel, tonic::transport::Error>) -> String {
    let Ok(channel) = channel else {
        return REFUSED.to_owned();
    };
    let mut auth = AuthServiceClient::new(channel);
    match auth.who_am_i(proto::WhoAmIRequest {}).await {
        Ok(answer) => {
            let principal = answer.into_inner().principal.unwrap_or_default();
            format!("let in as {}", principal.name)
        }
        Err(status) if reason(&status).is_empty() => REFUSED.to_owned(),
        Err(status) => format!("{:?} {}", status.code(), reason(&status)),
    }
}
