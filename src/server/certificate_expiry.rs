//! Warns before the server's certificates expire, and after they did.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::config::TlsSettings;

/// How long before the end it is warned.
const NOTICE: TimeDelta = TimeDelta::days(14);

/// A time after the end of every certificate: X.509 cannot express the year 10,000.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_800);

/// The first end of some certificates. `None` if none of them can be read.
pub fn earliest(chain: &[CertificateDer<'static>]) -> Option<DateTime<Utc>> {
    chain.iter().filter_map(expire_time).min()
}

/// The end of a certificate. The library does not return it, but its verification fails with it, before it looks at
/// anything else: at a time at which every certificate has expired.
fn expire_time(certificate: &CertificateDer<'static>) -> Option<DateTime<Utc>> {
    let read = EndEntityCert::try_from(certificate).ok()?;
    let time = UnixTime::since_unix_epoch(END_OF_TIME);
    let verified = read.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None);
    let Err(Error::CertExpired { not_after, .. }) = verified else {
        return None;
    };
    DateTime::from_timestamp(not_after.as_secs().try_into().ok()?, 0)
}

/// Logs a warning if certificates that end at `expire_time` end soon.
pub fn warn(settings: &TlsSettings, expire_time: DateTime<Utc>, now: DateTime<Utc>) {
    let file = settings.tls_certificate.as_deref().unwrap_or("".as_ref());
    let file = file.display();
    let left = expire_time - now;
    if left <= TimeDelta::zero() {
        tracing::warn!(
            %expire_time,
            "a certificate in {file} has expired, so clients reject the server: replace the file, which is read while the \
             server runs"
        );
    } else if left < NOTICE {
        tracing::warn!(
            %expire_time,
            days = left.num_days(),
            "a certificate in {file} expires soon: replace the file, which is read while the server runs"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_after = rcgen::date_time_ymd(2041, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let found = earliest(&[certificate.der().clone()]).unwrap();
        assert_eq!(found.to_rfc3339(), "2041-02-03T00:00:00+00:00");
        assert_eq!(earliest(&[CertificateDer::from(vec![1, 2, 3])]), None);
    }
}
