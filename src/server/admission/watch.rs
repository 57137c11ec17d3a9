//! Serves streams that need a credential and have no end of their own. They are admitted like calls. After that they hold
//! no place in the limits of calls, but one in their own limit, and no deadline applies to them. A stream that is not read
//! does not count as an unread response, which would close its connection and end the other calls on it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::Admission;
use super::call_line::CallLine;
use super::stream_line::StreamLine;
use crate::auth::policy::Access;
use crate::auth::stream::StreamLease;
use crate::auth::{Credential, Identity};
use crate::core::call::Call;
use crate::error::{Error, Result};
use crate::metrics::Limit;
use crate::server::body_timeout::BodyTimeout;
use crate::server::connection::ConnectInfo;
use crate::server::outgoing::OutgoingResponse;
use crate::server::unread::UnreadResponses;
use crate::server::{LARGEST_REQUEST, errors, headers, protocol};

impl Admission {
    /// Opens a stream. The response of a stream that is refused is that of a call.
    pub(super) async fn serve_watch<S>(
        &self,
        method: (&'static str, Access),
        request: Request<Body>,
        connection: Option<ConnectInfo>,
        address: IpAddr,
        mut inner: S,
        mut line: CallLine<'_>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let deadline = self.deadline(request.headers());
        let unread = connection
            .as_ref()
            .map(|connection| Arc::clone(&connection.unread));
        let span = line.span.clone();
        let work = async {
            let lease = self.lease(&request, connection.as_ref())?;
            let admitted = self.admit(request, Some(method), connection, address, &mut line);
            // The permits of a call are held until the stream has begun.
            let mut admitted = admitted.await?;
            let call = admitted.request.extensions().get::<Call>();
            let call = call.ok_or_else(|| Error::internal("an admitted call has no caller"))?;
            let permit = self.watch_limit.try_acquire(call.principal.id);
            let permit = permit.ok_or_else(|| errors::watch_limit(self.max_watches_per_principal));
            let permit = self.refused(Limit::Watches, permit)?;
            let lease = lease(Identity {
                principal: Arc::clone(&call.principal),
                role: call.role,
                session: call.session,
            });
            admitted.request.extensions_mut().insert(lease);
            let Ok(response) = inner.call(admitted.request.map(BodyTimeout::wrap)).await;
            Ok((response, permit))
        };
        let opened = match tokio::time::timeout(deadline, span.run(work)).await {
            Ok(opened) => opened,
            Err(_) => Err(errors::deadline_exceeded()),
        };
        let response = match opened {
            Ok((response, permit)) if !response.body().is_end_stream() => {
                let line = StreamLine::of_call(line);
                let code = line.code();
                let response = protocol::with_reason_in_trailers(response, LARGEST_REQUEST, code);
                let held = Arc::new((permit, line, Arc::clone(&self.responses)));
                return OutgoingResponse::new(response).hold_until_sent(held, unread);
            }
            Ok((response, _)) => protocol::with_reason(response, LARGEST_REQUEST),
            Err(error) => Status::from(error).into_http(),
        };
        let mut outgoing = OutgoingResponse::new(response);
        let code = outgoing.code();
        line.end(outgoing.response(), code);
        let held = unread.as_ref().map(UnreadResponses::begin);
        outgoing.hold_until_sent(Arc::new(held), unread)
    }

    /// The lease of the stream that this request opens, once its caller is known.
    fn lease(
        &self,
        request: &Request<Body>,
        connection: Option<&ConnectInfo>,
    ) -> Result<impl FnOnce(Identity) -> StreamLease + use<>> {
        let token = headers::token(request.headers());
        let certificate = connection.and_then(|connection| connection.peer.certificate.clone());
        let credential = Credential::of(token, certificate).ok_or_else(Error::token_invalid)?;
        let (auth, stop) = (Arc::clone(&self.auth), self.stop_streams.clone());
        let end = connection.map(|connection| connection.stream_end);
        let stop = async move {
            let age = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = age => {}
                () = stop.cancelled() => {}
            }
        };
        Ok(|identity| StreamLease::new(auth, credential, identity, stop))
    }
}
