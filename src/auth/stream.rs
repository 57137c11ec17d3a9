//! How long an open stream may go on. A call is authenticated once, when it begins. A stream may last for half an hour,
//! so its credential is checked again while it is open.
//!
//! This module does not know what the stream sends. The server decides what else ends it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::{Auth, Credential, Identity, cached, look_up};
use crate::error::{Error, ErrorReason};

/// How often the credential is checked. With the time that an identity is cached, a revocation on another replica takes
/// less than 5 s.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Why a stream has to end.
#[derive(Clone, Debug)]
pub enum StreamEnd {
    /// It ends in good order: the client calls again.
    Complete,
    /// The caller may not read any more.
    Refused(Error),
}

/// The end of one stream, to wait for. It does nothing unless it is awaited.
#[derive(Clone)]
pub struct StreamLease(Shared<BoxFuture<'static, StreamEnd>>);

impl StreamLease {
    /// The lease of a stream of this caller, which also ends when `stop` does.
    pub fn new(
        auth: Arc<Auth>,
        credential: Credential,
        identity: Identity,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let end = async move {
            tokio::select! {
                () = stop => StreamEnd::Complete,
                end = watch_credential(&auth, &credential, &identity) => end,
            }
        };
        Self(end.boxed().shared())
    }

    /// Waits until the stream has to end.
    pub fn ended(&self) -> impl Future<Output = StreamEnd> + Send + use<> {
        self.0.clone()
    }
}

/// Waits until the credential is revoked or its owner has another role. While the database is unavailable, nothing is
/// known and nothing is sent.
async fn watch_credential(
    auth: &Arc<Auth>,
    credential: &Credential,
    known: &Identity,
) -> StreamEnd {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let identity = match cached(auth, credential) {
            Some(identity) => Ok(identity),
            None => look_up(auth, credential).await,
        };
        match identity {
            Ok(identity) if identity.role == known.role => {}
            // What the stream may send depends on the role.
            Ok(_) => return StreamEnd::Complete,
            Err(error) if error.is(ErrorReason::TokenInvalid) => return StreamEnd::Refused(error),
            Err(_) => {}
        }
    }
}
