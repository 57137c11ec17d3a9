//! Certificate authorities, and the certificate files of a server and its clients.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tempfile::TempDir;

/// The name that is registered for the first service account.
pub const REGISTERED: &str = "spiffe://proofs/first";

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server certificate for this machine.
    pub fn server(&self) -> Result<Identity> {
        self.sign(SanType::DnsName("localhost".try_into()?), false)
    }

    /// A client certificate.
    pub fn client(&self, name: &str, expired: bool) -> Result<Identity> {
        self.sign(SanType::URI(name.try_into()?), expired)
    }

    fn sign(&self, name: SanType, expired: bool) -> Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![name];
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.0)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The files that a server is started with.
pub struct Files {
    folder: TempDir,
}

impl Files {
    pub fn new(server: &Identity, clients: &Authority) -> Result<Self> {
        let files = Self {
            folder: tempfile::tempdir()?,
        };
        files.put_server(server)?;
        files.put_clients(clients)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put_server(&self, server: &Identity) -> Result<()> {
        fs::write(self.path("server.pem"), &server.certificate)?;
        fs::write(self.path("server.key"), &server.key)?;
        Ok(())
    }

    pub fn put_clients(&self, clients: &Authority) -> Result<()> {
        fs::write(self.path("clients.pem"), clients.pem())?;
        Ok(())
    }

    /// The flags of `leadsmith serve`. With mutual TLS the server requires client certificates too.
    pub fn flags(&self, mutual: bool) -> Vec<String> {
        let file = |name: &str| self.path(name).display().to_string();
        let mut flags = vec![
            "--tls-certificate".to_owned(),
            file("server.pem"),
            "--tls-key".to_owned(),
            file("server.key"),
        ];
        if mutual {
            flags.extend(["--tls-client-ca".to_owned(), file("clients.pem")]);
        }
        flags
    }
}
