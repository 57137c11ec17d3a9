//! What a connection reveals about its client: the address and the TLS client certificate.
//!
//! This module reads certificates that the TLS handshake has already verified. It never verifies one itself.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::core::call::TokenHash;

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The IP address of the client.
    pub address: IpAddr,
    /// The certificate that the client presented, verified against the client authorities.
    pub certificate: Option<Arc<Certificate>>,
}

/// The network that counts as one address in limits: for IPv6 the /64 prefix, because that is what a single
/// customer gets. An IPv4-mapped IPv6 address is treated as the IPv4 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the whole certificate.
    pub fingerprint: TokenHash,
    /// Its subject alternative names: `DNS:NAME` and `URI:NAME`.
    pub names: Vec<String>,
}

impl Certificate {
    /// Parses a certificate that the handshake has verified.
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
