//! Serves health and reflection, which need no token. Their calls do not count against the limits of those who have one.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::Admission;
use super::call_line::CallLine;
use super::stream_line::StreamLine;
use crate::error::Error;
use crate::metrics::Limit;
use crate::server::LARGEST_PUBLIC_REQUEST;
use crate::server::body_timeout::BodyTimeout;
use crate::server::connection::ConnectInfo;
use crate::server::outgoing::OutgoingResponse;
use crate::server::protocol;
use crate::server::unread::UnreadResponses;

impl Admission {
    /// Serves a health check, which needs no token.
    pub(super) async fn check_health<S>(
        &self,
        request: Request<Body>,
        connection: Option<ConnectInfo>,
        mut inner: S,
        mut line: CallLine<'_>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let unread = connection.map(|connection| connection.unread);
        let Ok(response) = inner.call(request.map(BodyTimeout::wrap)).await;
        let held = unread.as_ref().map(UnreadResponses::begin);
        let response = protocol::with_reason(response, LARGEST_PUBLIC_REQUEST);
        let mut outgoing = OutgoingResponse::encode(response);
        let code = outgoing.code();
        line.end(outgoing.response(), code);
        outgoing.hold_until_sent(Arc::new(held), unread)
    }

    /// Serves the streams of health and reflection, which need no token. They have no deadline, so their number is
    /// limited.
    pub(super) async fn serve_stream<S>(
        &self,
        rpc: (usize, &'static str),
        request: Request<Body>,
        address: IpAddr,
        connection: Option<ConnectInfo>,
        mut inner: S,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let peer = connection
            .as_ref()
            .map(|connection| connection.peer.address);
        let unread = connection.map(|connection| connection.unread);
        if let Some(rejection) = protocol::reject(&request) {
            return rejection;
        }
        let line = StreamLine::begin(&self.log, rpc, request.headers(), peer);
        let Some(permit) = self.public_stream_limit.try_acquire(address) else {
            self.log.metrics.limits.refused(Limit::PublicStreams);
            let response = Status::from(Error::server_overloaded()).into_http();
            line.code()
                .store(Code::ResourceExhausted.into(), Ordering::Relaxed);
            let held = unread.as_ref().map(UnreadResponses::begin);
            return OutgoingResponse::new(response).hold_until_sent(Arc::new(held), unread);
        };
        // Not counted as an unread response: a stream may last longer than a response may be unread.
        let Ok(response) = inner.call(request).await;
        let response =
            protocol::with_reason_in_trailers(response, LARGEST_PUBLIC_REQUEST, line.code());
        OutgoingResponse::new(response).hold_until_sent(Arc::new((permit, line)), unread)
    }
}
