//! Who is at the other end of a connection, as far as the connection itself tells.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::tokens::TokenHash;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is.
    pub address: IpAddr,
    /// The certificate it showed, verified against the client authorities.
    pub certificate: Option<Arc<Certificate>>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the whole certificate.
    pub fingerprint: TokenHash,
    /// Its subject alternative names: `DNS:NAME` and `URI:NAME`.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads a certificate that the handshake has verified.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let read = webpki::EndEntityCert::try_from(certificate).ok()?;
        let dns = read.valid_dns_names().map(|name| format!("DNS:{name}"));
        let uri = read.valid_uri_names().map(|name| format!("URI:{name}"));
        Some(Self {
            fingerprint: Sha256::digest(certificate).into(),
            names: dns.chain(uri).collect(),
        })
    }
}
