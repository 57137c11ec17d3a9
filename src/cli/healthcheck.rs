//! `leadsmith healthcheck`: for the health check of a container whose image has no other gRPC client.
//!
//! It calls a running server over the network only. It must not open the database, because it checks what a
//! client would see. It uses TLS if the settings of the server say so, and then trusts the certificate that they name.

mod pinned;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::output::{self, Failure};
use crate::config::{ClientTlsSettings, StartupError, values};

pub const EXAMPLES: &str = "\
With the environment or the file that the server has, it needs no flag.

Examples:
  leadsmith healthcheck
  leadsmith healthcheck --service liveness
  leadsmith healthcheck --listen 10.0.0.7:50051 --tls-ca ca.pem --tls-name leads.example";

#[derive(Args, Debug)]
pub struct HealthcheckSettings {
    /// The service to check by its full name, such as leadsmith.v1.LeadService, or liveness; by default
    /// the whole server
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    service: String,
    /// Where the server listens
    #[arg(
        long,
        help_heading = "Network",
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// The server's certificate. With it TLS is used, and the server must have this very certificate,
    /// unless --tls-ca says which ones are trusted
    #[arg(
        long,
        help_heading = "TLS",
        env = "LEADSMITH_TLS_CERTIFICATE",
        value_parser = values::file(),
        value_name = "FILE"
    )]
    tls_certificate: Option<PathBuf>,
    #[command(flatten)]
    client: ClientTlsSettings,
}

/// The limit for the connection, and again for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(settings: &HealthcheckSettings) -> Result<(), Failure> {
    settings.client.check()?;
    let mut address = settings.listen;
    if address.port() == 0 {
        let why = "--listen must have the port that the server listens on, not 0";
        return Err(StartupError::settings(why).into());
    }
    if address.ip().is_unspecified() {
        // A server that listens on all addresses listens on loopback too.
        let loopback: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    let unhealthy =
        |why: String| StartupError::new(format!("the health check of {address} failed: {why}"));
    let channel = connect(settings, address, unhealthy).await?;
    let request = HealthCheckRequest {
        service: settings.service.clone(),
    };
    let response = HealthClient::new(channel).check(request).await;
    let status = response.map_err(|status| unhealthy(refusal(settings, &status)))?;
    match status.into_inner().status() {
        ServingStatus::Serving => output::show("SERVING\n"),
        ServingStatus::NotServing => Err(unhealthy(
            "the server responds NOT_SERVING: it is stopping, or its database is unavailable (its log says why)".into(),
        )
        .into()),
        status @ (ServingStatus::Unknown | ServingStatus::ServiceUnknown) => {
            Err(unhealthy(format!("the server responds {}", status.as_str_name())).into())
        }
    }
}

async fn connect(
    settings: &HealthcheckSettings,
    address: SocketAddr,
    unhealthy: impl Fn(String) -> StartupError,
) -> Result<Channel, StartupError> {
    let client = &settings.client;
    let identity = client.tls_client_certificate.as_deref();
    let identity = identity.zip(client.tls_client_key.as_deref());
    let endpoint = |scheme: &str| {
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
        let endpoint = endpoint.map_err(|error| unhealthy(error.to_string()))?;
        Ok::<_, StartupError>(endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT))
    };
    let connected = match (&client.tls_ca, &settings.tls_certificate) {
        (Some(authority), _) => {
            let mut tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(read(authority)?))
                .domain_name(&client.tls_name);
            if let Some((certificate, key)) = identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            let endpoint = endpoint("https")?.tls_config(tls);
            let endpoint = endpoint.map_err(|error| unhealthy(root_cause(&error)))?;
            endpoint.connect().await
        }
        (None, Some(certificate)) => {
            let config = pinned::config(certificate, identity)?;
            // tonic does not know about the TLS below it.
            let connector = tower::service_fn(move |_: Uri| {
                let config = config.clone();
                async move { pinned::connect(config, address).await.map(TokioIo::new) }
            });
            endpoint("http")?.connect_with_connector(connector).await
        }
        (None, None) => endpoint("http")?.connect().await,
    };
    connected.map_err(|error| unhealthy(explained(settings, &root_cause(&error))))
}

/// The reason why a server did not respond with a status.
fn refusal(settings: &HealthcheckSettings, status: &Status) -> String {
    match status.code() == Code::NotFound {
        true => format!(
            "the server has no service {:?}: use the full name of a service, liveness, or no name",
            settings.service
        ),
        false => explained(settings, &root_cause(status)),
    }
}

/// Adds what to do to the text of an error of the connection.
fn explained(settings: &HealthcheckSettings, why: &str) -> String {
    let is_tls = settings.client.tls_ca.is_some() || settings.tls_certificate.is_some();
    let advice = if why.contains("CertificateRequired") {
        "the server requires a client certificate, set --tls-client-certificate and --tls-client-key"
    } else if why.contains("ApplicationVerificationFailure") {
        "the server has another certificate than --tls-certificate: if the file was replaced, the server reads it \
         within 5 seconds"
    } else if why.contains("InvalidContentType") {
        "the server does not use TLS: unset --tls-certificate and --tls-ca"
    } else if why.contains("timed out") || why.contains("deadline") {
        "the server does not respond within 3 seconds"
    } else if !is_disconnect(why) {
        return why.to_owned();
    } else if !is_tls {
        "the server closed the connection: if it uses TLS, set --tls-certificate or --tls-ca"
    } else if settings.client.tls_client_key.is_none() {
        "the server closed the connection: if it requires a client certificate, set --tls-client-certificate and \
         --tls-client-key"
    } else {
        "the server closed the connection: if it requires a client certificate, its --tls-client-ca must be the \
         authority of --tls-client-certificate"
    };
    format!("{advice} ({why})")
}

/// Whether the server may have closed the connection. With TLS 1.3 it does so after the handshake, and the reason may
/// be lost.
fn is_disconnect(why: &str) -> bool {
    ["reset", "frame", "closed", "roken pipe", "not ready", "eof"]
        .iter()
        .any(|word| why.contains(word))
}

fn read(file: &Path) -> Result<Vec<u8>, StartupError> {
    std::fs::read(file).map_err(|error| {
        let file = file.display();
        StartupError::settings(format!("the file {file} cannot be read: {error}"))
    })
}

/// The innermost source of an error, because tonic's own message is only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
