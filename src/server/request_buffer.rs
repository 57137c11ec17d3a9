//! Buffers the messages of calls that need no authentication, before these calls are admitted.
//!
//! A permit of the anonymous limit is acquired only when the whole message has arrived. Otherwise a client could send
//! a part of a message, wait, and so keep others from signing in. It has a limit of its own and must not use those of
//! the admission layer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost::bytes::{Bytes, BytesMut};
use tonic::body::Body;

use super::concurrency_limit::KeyedConcurrencyLimit;
use super::errors;
use crate::error::{Error, Result};

/// How long a message may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message may take to arrive without counting against the limit. A message that was sent in one piece
/// arrives within this time, so incomplete messages of other clients cannot block it.
const GRACE_PERIOD: Duration = Duration::from_millis(250);
/// The largest accepted message, in bytes.
const LARGEST_MESSAGE: usize = 16 * 1024;

/// Limits the number of incomplete messages, in all and for each address.
pub struct RequestBuffer(Arc<KeyedConcurrencyLimit<IpAddr>>);

impl RequestBuffer {
    /// Allows `max_calls` incomplete messages, and a sixteenth of that for each address.
    pub fn new(max_calls: usize) -> Self {
        let limit = KeyedConcurrencyLimit::new(max_calls, max_calls.div_ceil(16));
        Self(limit)
    }

    /// The request with its whole message in memory.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` when the message does not arrive in time, `SERVER_OVERLOADED` when too many messages of
    /// this address are incomplete, `MESSAGE_TOO_LARGE`, `MESSAGE_MALFORMED` when the stream ends early.
    pub async fn buffer(&self, request: Request<Body>, address: IpAddr) -> Result<Request<Body>> {
        let (parts, mut body) = request.into_parts();
        let mut message = BytesMut::new();
        let mut permit = None;
        let grace_period = tokio::time::sleep(GRACE_PERIOD);
        let timeout = tokio::time::sleep(MESSAGE_TIMEOUT);
        tokio::pin!(grace_period, timeout);
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut timeout => return Err(errors::deadline_exceeded()),
                () = &mut grace_period, if permit.is_none() => {
                    let acquired = self.0.try_acquire(address);
                    permit = Some(acquired.ok_or_else(Error::server_overloaded)?);
                    continue;
                }
            };
            match frame {
                None => break,
                Some(Err(_)) => return Err(errors::message_malformed()),
                Some(Ok(frame)) => message.extend(frame.into_data().unwrap_or_default()),
            }
            if message.len() > LARGEST_MESSAGE {
                return Err(errors::message_too_large(LARGEST_MESSAGE));
            }
        }
        let message: Bytes = message.freeze();
        Ok(Request::from_parts(parts, Body::new(Full::new(message))))
    }
}
