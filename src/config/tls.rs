//! The settings of TLS. The files are read by `server/tls.rs`, not here.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{StartupError, values};

/// Whether clients must present a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClientCertificates {
    /// A client without a certificate is rejected.
    #[default]
    Required,
    /// A client without a certificate needs a token.
    Optional,
}

/// The files for TLS. All are in PEM, and are read again when they change.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsSettings {
    /// The server's certificate and the intermediate certificates up to its authority. With it and its
    /// key, the server accepts TLS 1.2 and 1.3 only
    #[arg(long, env = "LEADSMITH_TLS_CERTIFICATE", value_parser = values::file(), value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, env = "LEADSMITH_TLS_KEY", value_parser = values::file(), value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities whose client certificates are accepted. A client certificate authenticates the
    /// service account that it is registered for
    #[arg(long, env = "LEADSMITH_TLS_CLIENT_CA", value_parser = values::file(), value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must present a certificate if client authorities are set
    #[arg(
        long,
        env = "LEADSMITH_TLS_CLIENT_CERTIFICATES",
        default_value = "required",
        value_parser = values::word::<ClientCertificates>(),
        value_name = "required|optional"
    )]
    pub tls_client_certificates: ClientCertificates,
}

impl TlsSettings {
    /// Whether the server uses TLS.
    pub fn is_on(&self) -> bool {
        self.tls_certificate.is_some()
    }

    /// Checks what clap cannot check.
    ///
    /// # Errors
    /// A sentence that names the setting and its allowed values.
    pub fn check(&self) -> Result<(), StartupError> {
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(StartupError::new(
                "--tls-certificate and --tls-key must be set together: set both, or neither",
            ));
        }
        if self.tls_client_ca.is_some() && !self.is_on() {
            return Err(StartupError::new(
                "--tls-client-ca requires --tls-certificate and --tls-key: clients present their certificates over \
                 TLS",
            ));
        }
        Ok(())
    }
}
