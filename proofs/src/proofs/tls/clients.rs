//! Clients with certificates, while the certificates, the registrations and the server's files change.

use std::time::{Duration, Instant};

use anyhow::Result;
use leadsmith_proto as proto;
use leadsmith_proto::auth_service_client::AuthServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::certificates::{Authority, Files, Identity, REGISTERED};
use crate::harness::client::reason;
use crate::harness::context::{Context, Fixture};
use crate::harness::program::Serving;
use crate::harness::report::Findings;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server checks its files, with a margin for loading them.
const RELOAD: Duration = Duration::from_secs(7);
/// How soon the removal of a registration must take effect.
const REVOCATION: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// The outcome without a valid certificate, and with a valid certificate whose name is not registered.
const REJECTED: &str = "rejected";
const NOT_REGISTERED: &str = "Unauthenticated TOKEN_INVALID";
const ADMITTED: &str = "admitted as first";

/// Sets or removes the certificate name of the first service account.
pub fn register(context: &Context<'_>, fixture: &Fixture, name: Option<&str>) -> Result<()> {
    let mut arguments = vec!["service-account", "set-certificate", "--name", "first"];
    let name = name.map(|name| format!("URI:{name}"));
    if let Some(name) = &name {
        arguments.extend(["--certificate-name", name]);
    }
    context
        .program
        .command(&fixture.database.url(), &arguments)?;
    Ok(())
}

/// Tries all kinds of client certificates.
pub async fn try_all(
    server: &Serving,
    (ours, clients): (&Authority, &Authority),
    findings: &mut Findings,
) -> Result<()> {
    let strangers = Authority::new()?;
    let tried = [
        ("none", None, REJECTED),
        (
            "of another authority",
            Some(strangers.client(REGISTERED, false)?),
            REJECTED,
        ),
        ("expired", Some(clients.client(REGISTERED, true)?), REJECTED),
        (
            "not registered",
            Some(clients.client("spiffe://proofs/nobody", false)?),
            NOT_REGISTERED,
        ),
        (
            "registered",
            Some(clients.client(REGISTERED, false)?),
            ADMITTED,
        ),
    ];
    findings.fact("client certificates tried", tried.len());
    for (which, identity, expected) in tried {
        let outcome = outcome(connect(server, ours, identity).await).await;
        findings.expect(outcome == expected, || {
            format!("client certificate {which}: {outcome}, not {expected}")
        });
    }
    Ok(())
}

/// The server loads new files and ignores broken ones. It rejects clients that the new authority did not sign.
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
    let wait = Wait::new(RELOAD);
    while !server.log()?.contains("cannot be used") && wait.wait_more().await {}
    findings.expect(!wait.is_over(), || {
        "broken files are not reported in the log".into()
    });
    let still = outcome(connect(server, ours, Some(client.clone())).await).await;
    findings.expect(still == ADMITTED, || format!("with broken files: {still}"));

    let (new, new_clients) = (Authority::new()?, Authority::new()?);
    let new_client = new_clients.client(REGISTERED, false)?;
    files.put_server(&new.server()?)?;
    files.put_clients(&new_clients)?;
    let wait = Wait::new(RELOAD);
    while outcome(connect(server, &new, Some(new_client.clone())).await).await != ADMITTED
        && wait.wait_more().await
    {}
    findings.expect(!wait.is_over(), || "new files are not loaded".into());
    findings.fact("new files are loaded after", wait.took());
    let old = outcome(connect(server, &new, Some(client)).await).await;
    findings.expect(old == REJECTED, || {
        format!("signed by the previous authority: {old}")
    });
    let old = outcome(connect(server, ours, Some(new_client)).await).await;
    findings.expect(old == REJECTED, || {
        format!("the previous certificate: {old}")
    });
    // Restores the original files.
    files.put_server(&ours.server()?)?;
    files.put_clients(clients)
}

/// The removal of a registration takes effect, also on an open connection.
pub async fn unregister(
    context: &Context<'_>,
    fixture: &Fixture,
    server: &Serving,
    (ours, clients): (&Authority, &Authority),
    findings: &mut Findings,
) -> Result<()> {
    let client = clients.client(REGISTERED, false)?;
    let channel = connect(server, ours, Some(client)).await?;
    let before = outcome(Ok(channel.clone())).await;
    findings.expect(before == ADMITTED, || format!("before: {before}"));
    register(context, fixture, None)?;
    let wait = Wait::new(REVOCATION);
    while outcome(Ok(channel.clone())).await != NOT_REGISTERED && wait.wait_more().await {}
    findings.expect(!wait.is_over(), || {
        "a removed registration is still in effect after 5 s".into()
    });
    findings.fact("a removed registration takes effect after", wait.took());
    Ok(())
}

/// Waits for a condition with a time limit.
struct Wait {
    started: Instant,
    time_limit: Duration,
}

impl Wait {
    fn new(time_limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            time_limit,
        }
    }

    fn is_over(&self) -> bool {
        self.started.elapsed() >= self.time_limit
    }

    /// Sleeps briefly. Returns false if the time is over.
    async fn wait_more(&self) -> bool {
        tokio::time::sleep(PAUSE).await;
        !self.is_over()
    }

    fn took(&self) -> String {
        format!("{:.1?}", self.started.elapsed())
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
        .timeout(TIMEOUT)
        .connect()
        .await
}

/// The outcome of a call. A rejected client may notice it only at its first call. An error without a reason does
/// not come from the service, so the connection was rejected.
async fn outcome(channel: Result<Channel, tonic::transport::Error>) -> String {
    let Ok(channel) = channel else {
        return REJECTED.to_owned();
    };
    let mut auth = AuthServiceClient::new(channel);
    match auth.who_am_i(proto::WhoAmIRequest {}).await {
        Ok(response) => {
            let principal = response.into_inner().principal.unwrap_or_default();
            format!("admitted as {}", principal.name)
        }
        Err(status) if reason(&status).is_empty() => REJECTED.to_owned(),
        Err(status) => format!("{:?} {}", status.code(), reason(&status)),
    }
}
