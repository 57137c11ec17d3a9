//! TLS: what the server shows, whom it trusts, and how both are read anew when their files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::{Refusal, values};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Whether those who call must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClientCertificates {
    /// Who shows none is refused.
    #[default]
    Required,
    /// Who shows none needs a token.
    Optional,
}

/// The files for TLS. All are PEM, and read anew when they change.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its authority. With it and its key, the
    /// server speaks TLS 1.2 and 1.3 and nothing else
    #[arg(long, env = "LEADSMITH_TLS_CERTIFICATE", value_parser = values::file(), value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of the certificate
    #[arg(long, env = "LEADSMITH_TLS_KEY", value_parser = values::file(), value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities whose client certificates are taken. A client certificate stands for the
    /// service account it is registered with
    #[arg(long, env = "LEADSMITH_TLS_CLIENT_CA", value_parser = values::file(), value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate, where there are client authorities
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
    /// Whether the server speaks TLS.
    pub fn is_on(&self) -> bool {
        self.tls_certificate.is_some()
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(Refusal::new(
                "--tls-certificate and --tls-key belong together: give both, or neither",
            ));
        }
        if self.tls_client_ca.is_some() && !self.is_on() {
            return Err(Refusal::new(
                "--tls-client-ca needs --tls-certificate and --tls-key: clients show their \
                 certificates by TLS",
            ));
        }
        Ok(())
    }

    /// Reads the files.
    fn load(&self) -> Result<Option<Loaded>, Refusal> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let pem = read(certificate)?;
        let chain = certificates(certificate, &pem)?;
        let key_pem = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| Refusal::new(format!("{} holds no private key in PEM", key.display())))?;
        let unusable = |error: &dyn std::fmt::Display| {
            Refusal::new(format!(
                "{} and {} cannot be used for TLS: {error}",
                certificate.display(),
                key.display()
            ))
        };
        let provider = Arc::new(ring::default_provider());
        // TLS 1.2 and 1.3 are all that rustls speaks.
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
                        Refusal::new(format!("{}: not an authority: {error}", file.display()))
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
        // Every suite is a good one; which of them is taken is the server's to say.
        config.ignore_client_order = true;
        // Every handshake is a whole one: a session that was taken up again would bring along a
        // client certificate that nobody has looked at since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(Loaded {
            config: Arc::new(config),
            digest: digest.finalize().into(),
        }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Refusal> {
    std::fs::read(file).map_err(|error| {
        Refusal::new(format!(
            "the file {} cannot be read: {error}",
            file.display()
        ))
    })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(Refusal::new(format!(
            "{} holds no certificate in PEM",
            file.display()
        ))),
    }
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files' bytes.
    digest: [u8; 32],
}

/// What the next handshake uses.
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Loaded>,
}

impl Tls {
    /// Reads the files; none when the settings name none.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn load(settings: &TlsSettings) -> Result<Option<Arc<Self>>, Refusal> {
        let Some(loaded) = settings.load()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            current: RwLock::new(loaded),
        })))
    }

    /// Greets who connects. Its time is the caller's to limit.
    pub async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = {
            let current = self.current.read().unwrap_or_else(|held| held.into_inner());
            Arc::clone(&current.config)
        };
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Reads the files anew whenever they change, for ever. Files that cannot be used change nothing:
    /// they may be half written, and the old ones still serve.
    pub async fn follow(&self) {
        let mut refused = None;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.settings.load() {
                Ok(Some(loaded)) => {
                    refused = None;
                    let mut current = self
                        .current
                        .write()
                        .unwrap_or_else(|held| held.into_inner());
                    if current.digest != loaded.digest {
                        *current = loaded;
                        tracing::info!("the files for TLS have changed and are in use");
                    }
                }
                Ok(None) => {}
                Err(refusal) => {
                    let why = refusal.to_string();
                    if refused.as_ref() != Some(&why) {
                        tracing::warn!(why, "the files for TLS have changed and cannot be used");
                    }
                    refused = Some(why);
                }
            }
        }
    }
}
