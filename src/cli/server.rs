//! How a command is a client of a running server: its address, TLS, and what to do if the connection fails.
//!
//! A command uses TLS if the settings of the server say so, and then trusts the certificate that they name.

mod pinned;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::config::{ClientTlsSettings, StartupError, values};

/// The limit for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Which server to call, and how.
#[derive(Args, Clone, Debug)]
pub struct ServerSettings {
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

impl ServerSettings {
    /// Checks what clap cannot check, and returns the address to connect to.
    ///
    /// # Errors
    /// A sentence that names the settings.
    pub fn address(&self) -> Result<SocketAddr, StartupError> {
        self.client.check()?;
        let mut address = self.listen;
        if address.port() == 0 {
            let why = "--listen must have the port that the server listens on, not 0";
            return Err(StartupError::settings(why));
        }
        if address.ip().is_unspecified() {
            // A server that listens on all addresses listens on loopback too.
            let loopback: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        Ok(address)
    }

    /// Connects. `failed` makes the error of a clause that says why not.
    ///
    /// # Errors
    /// If the connection fails, or a file of the settings cannot be read.
    pub async fn connect(
        &self,
        address: SocketAddr,
        failed: impl Fn(String) -> StartupError,
    ) -> Result<Channel, StartupError> {
        let client = &self.client;
        let identity = client.tls_client_certificate.as_deref();
        let identity = identity.zip(client.tls_client_key.as_deref());
        let endpoint = |scheme: &str| {
            let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
            let endpoint = endpoint.map_err(|error| failed(error.to_string()))?;
            Ok::<_, StartupError>(endpoint.connect_timeout(CONNECT_TIMEOUT))
        };
        let connected = match (&client.tls_ca, &self.tls_certificate) {
            (Some(authority), _) => {
                let mut tls = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(read(authority)?))
                    .domain_name(&client.tls_name);
                if let Some((certificate, key)) = identity {
                    tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
                }
                let endpoint = endpoint("https")?.tls_config(tls);
                let endpoint = endpoint.map_err(|error| failed(root_cause(&error)))?;
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
        connected.map_err(|error| failed(self.explained(&root_cause(&error))))
    }

    /// Adds what to do to the text of an error of the connection.
    pub fn explained(&self, why: &str) -> String {
        let is_tls = self.client.tls_ca.is_some() || self.tls_certificate.is_some();
        let advice = if why.contains("CertificateRequired") {
            "the server requires a client certificate, set --tls-client-certificate and --tls-client-key"
        } else if why.contains("ApplicationVerificationFailure") {
            "the server has another certificate than --tls-certificate: if the file was replaced, the server reads it \
         within 5 seconds"
        } else if why.contains("InvalidContentType") {
            "the server does not use TLS: unset --tls-certificate and --tls-ca"
        } else if why.contains("timed out") || why.contains("deadline") {
            "the server does not respond in time"
        } else if !is_disconnect(why) {
            return why.to_owned();
        } else if !is_tls {
            "the server closed the connection: if it uses TLS, set --tls-certificate or --tls-ca"
        } else if self.client.tls_client_key.is_none() {
            "the server closed the connection: if it requires a client certificate, set --tls-client-certificate and \
         --tls-client-key"
        } else {
            "the server closed the connection: if it requires a client certificate, its --tls-client-ca must be the \
         authority of --tls-client-certificate"
        };
        format!("{advice} ({why})")
    }
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
pub fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
