//! The messages of callers who are not known yet. A place for signing in is taken only once the
//! message is there: a client that sends a part of one and waits must not keep others from signing in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost::bytes::{Bytes, BytesMut};
use tonic::body::Body;

use super::places::Places;
use crate::error::{Error, Result};

/// How long a message may take to come.
const MESSAGE: Duration = Duration::from_secs(5);
/// For how long it may be on its way without being counted. One that was sent whole is there by then,
/// so it meets no limit that those who send none have used up.
const GRACE: Duration = Duration::from_millis(250);
/// The largest message taken, in bytes.
const LARGEST: usize = 16 * 1024;

/// Messages that are waited for.
pub struct Arrivals(Arc<Places<IpAddr>>);

impl Arrivals {
    /// For a server of this many calls: as many messages may be waited for, from one address a
    /// sixteenth of that.
    pub fn new(max_calls: usize) -> Self {
        Self(Places::new(max_calls, max_calls.div_ceil(16)))
    }

    /// The request with its whole message.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] when it does not come in time, [`Error::ServerOverloaded`] when
    /// this address has too many that did not come, [`Error::MessageTooLarge`],
    /// [`Error::MessageMalformed`] when it breaks off.
    pub async fn whole(&self, request: Request<Body>, address: IpAddr) -> Result<Request<Body>> {
        let (parts, mut body) = request.into_parts();
        let mut message = BytesMut::new();
        let mut place = None;
        let grace = tokio::time::sleep(GRACE);
        let late = tokio::time::sleep(MESSAGE);
        tokio::pin!(grace, late);
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut late => return Err(Error::DeadlineExceeded),
                () = &mut grace, if place.is_none() => {
                    place = Some(self.0.take(address).ok_or(Error::ServerOverloaded)?);
                    continue;
                }
            };
            match frame {
                None => break,
                Some(Err(_)) => return Err(Error::MessageMalformed),
                Some(Ok(frame)) => message.extend(frame.into_data().unwrap_or_default()),
            }
            if message.len() > LARGEST {
                return Err(Error::MessageTooLarge { limit: LARGEST });
            }
        }
        let message: Bytes = message.freeze();
        Ok(Request::from_parts(parts, Body::new(Full::new(message))))
    }
}
