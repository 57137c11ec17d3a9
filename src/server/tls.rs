//! TLS: the server's certificate, the client authorities it trusts, and the reload of both when their files change.
//! It must not know connections beyond their handshake.
//!
//! The reload is written by hand because tonic reads its TLS files only once, at start.

use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::certificate_expiry as expiry;
use crate::config::{ClientCertificates, StartupError, TlsSettings};
use crate::core::clock::Clock;
use crate::metrics::IntGauge;

/// How often the files are checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How often a certificate that expires soon is warned about, in checks of the files: once a day.
const CHECKS_PER_WARNING: u32 = 24 * 60 * 60 / 5;

/// Reads the files that the TLS settings name.
trait Load {
    /// The content of the files; none without TLS.
    fn load(&self) -> Result<Option<Loaded>, StartupError>;
}

impl Load for TlsSettings {
    fn load(&self) -> Result<Option<Loaded>, StartupError> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let pem = read(certificate)?;
        let chain = certificates(certificate, &pem)?;
        let expire_time = expiry::earliest(&chain);
        let key_pem = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| {
            StartupError::settings(format!(
                "{} contains no private key in PEM format",
                key.display()
            ))
        })?;
        let unusable = |error: &dyn std::fmt::Display| {
            StartupError::settings(format!(
                "{} and {} cannot be used for TLS: {error}",
                certificate.display(),
                key.display()
            ))
        };
        let provider = Arc::new(ring::default_provider());
        // rustls supports only TLS 1.2 and 1.3, so no older version needs to be excluded.
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let mut digest = Sha256::new();
        digest.update(&pem);
        digest.update(&key_pem);
        let builder = match &self.tls_client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let pem = read(file)?;
                digest.update(&pem);
                let mut roots = RootCertStore::empty();
                for authority in certificates(file, &pem)? {
                    roots.add(authority).map_err(|error| {
                        StartupError::settings(format!(
                            "{} contains a certificate that cannot be used as a CA: {error}",
                            file.display()
                        ))
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match self.tls_client_certificates {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| unusable(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // All suites of rustls are secure, so the server's preference decides.
        config.ignore_client_order = true;
        // No session resumption: a resumed session would keep a client certificate that has not been verified since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(Loaded {
            config: Arc::new(config),
            digest: digest.finalize().into(),
            expire_time,
        }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, StartupError> {
    std::fs::read(file).map_err(|error| {
        StartupError::settings(format!(
            "the file {} cannot be read: {error}",
            file.display()
        ))
    })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StartupError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(StartupError::settings(format!(
            "{} contains no certificate in PEM format",
            file.display()
        ))),
    }
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// SHA-256 of the content of the files.
    digest: [u8; 32],
    /// When the first of the server's certificates expires.
    expire_time: Option<DateTime<Utc>>,
}

/// The TLS configuration for the next handshake.
pub struct Tls {
    settings: TlsSettings,
    clock: Clock,
    current: RwLock<Loaded>,
}

impl Tls {
    /// Reads the files. Returns none when the settings name none.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it, for the operator.
    pub fn load(settings: &TlsSettings, clock: Clock) -> Result<Option<Arc<Self>>, StartupError> {
        let Some(loaded) = settings.load()? else {
            return Ok(None);
        };
        let tls = Self {
            settings: settings.clone(),
            clock,
            current: RwLock::new(loaded),
        };
        tls.warn_before_expiry();
        Ok(Some(Arc::new(tls)))
    }

    /// Performs the server's side of the handshake. The caller must set a timeout.
    pub async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = {
            let current = self
                .current
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            Arc::clone(&current.config)
        };
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Reloads the files when they change, and warns once a day before they expire. Does not return. `expire_time` is
    /// kept at the time when the first of the server's certificates expires, in seconds since 1970; 0 if it is unknown.
    pub async fn reload_on_change(&self, expire_time: IntGauge) {
        let mut last_error = None;
        loop {
            for _ in 0..CHECKS_PER_WARNING {
                let expires = self.expire_time();
                expire_time.set(expires.map_or(0, |time| time.timestamp()));
                tokio::time::sleep(RELOAD_INTERVAL).await;
                self.reload(&mut last_error);
            }
            self.warn_before_expiry();
        }
    }

    /// Reloads the files now, for an operator who asked for it.
    pub fn reload_now(&self) {
        if !self.reload(&mut None) {
            tracing::info!("the TLS files have not changed");
        }
    }

    /// Reloads the files. Files that cannot be used change nothing: they may be only partly written, and the previous
    /// configuration still works. Returns whether something was logged or would have been, if it were not the same
    /// error as before.
    fn reload(&self, last_error: &mut Option<String>) -> bool {
        match self.settings.load() {
            Ok(Some(loaded)) => {
                *last_error = None;
                {
                    let mut current = self
                        .current
                        .write()
                        .unwrap_or_else(|poisoned| poisoned.into_inner());
                    if current.digest == loaded.digest {
                        return false;
                    }
                    *current = loaded;
                }
                tracing::info!("the changed TLS files are in use");
                self.warn_before_expiry();
            }
            Ok(None) => return false,
            Err(error) => {
                let error = Some(error.to_string());
                // Once for each error, not at each check.
                if *last_error != error {
                    tracing::warn!(error, "the changed TLS files cannot be used");
                    *last_error = error;
                }
            }
        }
        true
    }

    /// When the first of the server's certificates expires; none if it cannot be read.
    fn expire_time(&self) -> Option<DateTime<Utc>> {
        let current = self
            .current
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        current.expire_time
    }

    fn warn_before_expiry(&self) {
        if let Some(expire_time) = self.expire_time() {
            expiry::warn(&self.settings, expire_time, self.clock.now());
        }
    }
}
