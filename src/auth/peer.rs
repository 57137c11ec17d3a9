//! Who is at the other end of a connection, as far as the connection itself tells.

use std::net::{IpAddr, Ipv6Addr};
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

/// What counts as one address: of IPv6, the 64 bits that a single customer is given. An IPv4 address
/// written as an IPv6 one is the IPv4 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
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
