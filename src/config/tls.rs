//! The settings of TLS. The files are read by `server/tls.rs`, not here.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::describe::{Described, file};
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
#[command(next_help_heading = "TLS")]
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
            return Err(StartupError::settings(
                "--tls-certificate and --tls-key must be set together: set both, or neither",
            ));
        }
        if self.tls_client_ca.is_some() && !self.is_on() {
            return Err(StartupError::settings(
                "--tls-client-ca requires --tls-certificate and --tls-key: clients present their certificates over \
                 TLS",
            ));
        }
        Ok(())
    }
}

/// How a client of this program trusts a server and authenticates itself. All files are in PEM.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub struct ClientTlsSettings {
    /// The authority of the server's certificate; with it, TLS is used
    #[arg(long, env = "LEADSMITH_TLS_CA", value_parser = values::file(), value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The name in the server's certificate, if --tls-ca is set
    #[arg(
        long,
        env = "LEADSMITH_TLS_NAME",
        default_value = "localhost",
        value_parser = values::text(),
        value_name = "NAME"
    )]
    pub tls_name: String,
    /// The client certificate to present, if the server requires one
    #[arg(
        long,
        env = "LEADSMITH_TLS_CLIENT_CERTIFICATE",
        value_parser = values::file(),
        value_name = "FILE"
    )]
    pub tls_client_certificate: Option<PathBuf>,
    /// The private key of the client certificate
    #[arg(long, env = "LEADSMITH_TLS_CLIENT_KEY", value_parser = values::file(), value_name = "FILE")]
    pub tls_client_key: Option<PathBuf>,
}

impl ClientTlsSettings {
    /// Checks what clap cannot check.
    ///
    /// # Errors
    /// A sentence that names the settings.
    pub fn check(&self) -> Result<(), StartupError> {
        if self.tls_client_certificate.is_some() != self.tls_client_key.is_some() {
            return Err(StartupError::settings(
                "--tls-client-certificate and --tls-client-key must be set together: set both, or neither",
            ));
        }
        Ok(())
    }

    /// The settings in force.
    pub fn describe(&self) -> Vec<Described> {
        vec![
            ("tls-ca", file(&self.tls_ca)),
            ("tls-name", self.tls_name.clone()),
            ("tls-client-certificate", file(&self.tls_client_certificate)),
            ("tls-client-key", file(&self.tls_client_key)),
        ]
    }
}
