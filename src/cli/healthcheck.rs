//! `leadsmith healthcheck`: for the health check of a container whose image has no other gRPC client.
//!
//! It calls a running server over the network only. It must not open the database, because it checks what a
//! client would see.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::output::{self, Failure};
use crate::config::{StartupError, values};

#[derive(Args, Debug)]
pub struct HealthcheckSettings {
    /// Where the server listens
    #[arg(
        long,
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// The authority of the server's certificate; with it, TLS is used
    #[arg(long, env = "LEADSMITH_TLS_CA", value_parser = values::file(), value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name in the server's certificate
    #[arg(
        long,
        env = "LEADSMITH_TLS_NAME",
        default_value = "localhost",
        value_parser = values::text(),
        value_name = "NAME"
    )]
    tls_name: String,
    /// The client certificate to present, if the server requires one
    #[arg(
        long,
        env = "LEADSMITH_TLS_CLIENT_CERTIFICATE",
        value_parser = values::file(),
        value_name = "FILE",
        requires = "tls_client_key"
    )]
    tls_client_certificate: Option<PathBuf>,
    /// The private key of the client certificate
    #[arg(long, env = "LEADSMITH_TLS_CLIENT_KEY", value_parser = values::file(), value_name = "FILE")]
    tls_client_key: Option<PathBuf>,
}

impl HealthcheckSettings {
    fn tls(&self) -> Result<Option<ClientTlsConfig>, StartupError> {
        let Some(authority) = &self.tls_ca else {
            return Ok(None);
        };
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|error| {
                StartupError::new(format!(
                    "the file {} cannot be read: {error}",
                    file.display()
                ))
            })
        };
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(authority)?))
            .domain_name(&self.tls_name);
        if let (Some(certificate), Some(key)) = (&self.tls_client_certificate, &self.tls_client_key)
        {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(Some(tls))
    }
}

/// The limit for the connection, and again for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(settings: &HealthcheckSettings) -> Result<(), Failure> {
    let mut address = settings.listen;
    if address.port() == 0 {
        let why = "--listen must have the port that the server listens on, not 0";
        return Err(StartupError::new(why).into());
    }
    if address.ip().is_unspecified() {
        // A server that listens on all addresses listens on loopback too.
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    let unhealthy =
        |why: String| StartupError::new(format!("the health check of {address} failed: {why}"));
    let tls = settings.tls()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| unhealthy(error.to_string()))?;
    if let Some(tls) = tls {
        endpoint = endpoint
            .tls_config(tls)
            .map_err(|error| unhealthy(root_cause(&error)))?;
    }
    let channel = endpoint
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .connect()
        .await
        .map_err(|error| unhealthy(root_cause(&error)))?;
    let response = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| unhealthy(status.message().to_owned()))?;
    let status = response.into_inner().status();
    if status == ServingStatus::Serving {
        output::show("SERVING\n")
    } else {
        Err(unhealthy(format!("the status is {}", status.as_str_name())).into())
    }
}

/// The innermost source of an error, because tonic's own message is only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
