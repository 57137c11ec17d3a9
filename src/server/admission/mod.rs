//! The admission layer: the tower layer that every call passes before its service.
//!
//! It rejects requests that are not gRPC, sets the deadline, authenticates the caller, enforces the rate limit,
//! checks the role and enforces the concurrency limits. It also holds what a call occupies until the client has
//! read the response. It must not depend on a feature: it knows an RPC only by its name in the table of
//! `auth::policy`.
//!
//! It is one layer and not several, because the permits that the checks acquire are released together, when the
//! response has been sent. It is written by hand, because the limits of tower and tonic release their permits when
//! the service returns: a client that does not read its responses would then not be limited.

mod call_line;
mod caller;
mod public;
mod stream_line;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use uuid::Uuid;

use super::LARGEST_REQUEST;
use super::body_timeout::BodyTimeout;
use super::concurrency_limit::{ConcurrencyPermit, KeyedConcurrencyLimit};
use super::connection::ConnectInfo;
use super::errors;
use super::headers;
use super::lookups::Lookups;
use super::outage::Outage;
use super::outgoing::OutgoingResponse;
use super::protocol;
use super::rate_limit::PrincipalRateLimit;
use super::request_buffer::RequestBuffer;
use super::unread::{UnreadResponse, UnreadResponses};
use super::unread_bytes::{CountedBytes, SMALL, UnreadBytes};
use crate::auth::Auth;
use crate::auth::peer::network;
use crate::auth::policy::{self, Access};
use crate::config::Limits;
use crate::core::call::Call;
use crate::error::{Error, Result};
use crate::metrics::{Limit, LimitMetrics};
use call_line::CallLog;
use caller::CallPermit;

/// At shutdown: for how long no call may be in progress before the server counts as idle. In this time the last
/// bytes of the responses are sent.
const IDLE_BEFORE_STOP: Duration = Duration::from_secs(1);
/// At shutdown: how long a client may take to read its response when no other call is in progress.
const UNREAD_AT_STOP: Duration = Duration::from_secs(5);
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The RPC that can use [`SIGN_OUT_RESERVE`].
const SIGN_OUT: &str = "leadsmith.v1.AuthService/SignOut";
/// How many calls of SignOut are admitted above the call limit: it must be possible to end a session on an
/// overloaded server.
const SIGN_OUT_RESERVE: usize = 16;
/// The only unary RPC among health and reflection.
const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";
/// The address of calls that did not come over a connection.
const NO_ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Wraps services in `AdmissionService`.
#[derive(Clone)]
pub struct AdmissionLayer(Arc<Admission>);

struct Admission {
    auth: Arc<Auth>,
    call_limit: Arc<Semaphore>,
    /// For SignOut, when `call_limit` is reached.
    sign_out_reserve: Arc<Semaphore>,
    /// Callers of SignIn are not authenticated yet and must not use up the capacity of those who are.
    anonymous_limit: Arc<KeyedConcurrencyLimit<IpAddr>>,
    request_buffer: RequestBuffer,
    /// For the streams of health and reflection, which need no token.
    public_stream_limit: Arc<KeyedConcurrencyLimit<IpAddr>>,
    /// A principal that does not read its responses must not use up the capacity of the others.
    per_principal_limit: Arc<KeyedConcurrencyLimit<Uuid>>,
    /// For streams that need a token.
    watch_limit: Arc<KeyedConcurrencyLimit<Uuid>>,
    max_watches_per_principal: usize,
    /// Ends these streams when the server stops.
    stop_streams: CancellationToken,
    rate_limit: PrincipalRateLimit,
    lookups: Arc<Lookups>,
    unread_bytes: Arc<UnreadBytes>,
    /// Has one strong reference for each response that is being sent.
    responses: Arc<()>,
    max_calls: usize,
    default_deadline: Duration,
    max_deadline: Duration,
    log: CallLog,
}

/// What a call occupies until its response is sent.
#[derive(Default)]
struct InFlight {
    permit: Option<CallPermit>,
    principal_permit: Option<ConcurrencyPermit<Uuid>>,
    unread: Option<UnreadResponse>,
    bytes: Option<CountedBytes>,
    response: Option<Arc<()>>,
}

impl AdmissionLayer {
    /// `log_reads` is the share of calls that only read which are logged at info.
    pub fn new(auth: Arc<Auth>, limits: &Limits, log_reads: f64) -> Self {
        let max_calls = limits.max_calls;
        let metrics = Arc::clone(auth.db.metrics());
        Self(Arc::new(Admission {
            lookups: Lookups::new(limits, auth.db.read().connections().div_ceil(2)),
            auth,
            call_limit: Arc::new(Semaphore::new(max_calls)),
            sign_out_reserve: Arc::new(Semaphore::new(SIGN_OUT_RESERVE)),
            anonymous_limit: KeyedConcurrencyLimit::new(
                max_calls.div_ceil(4),
                max_calls.div_ceil(8),
            ),
            request_buffer: RequestBuffer::new(max_calls),
            // As many as connections, so that each connection can have one.
            public_stream_limit: KeyedConcurrencyLimit::new(
                limits.max_connections,
                limits.max_connections_per_address,
            ),
            per_principal_limit: KeyedConcurrencyLimit::new(max_calls, (max_calls * 3).div_ceil(4)),
            watch_limit: KeyedConcurrencyLimit::new(
                limits.max_watches,
                limits.max_watches_per_principal,
            ),
            max_watches_per_principal: limits.max_watches_per_principal,
            stop_streams: CancellationToken::new(),
            rate_limit: PrincipalRateLimit::new(limits.calls_per_second),
            unread_bytes: UnreadBytes::new(limits.unread_bytes, limits.unread_bytes_per_principal),
            responses: Arc::default(),
            max_calls,
            default_deadline: limits.default_deadline,
            max_deadline: limits.max_deadline,
            log: CallLog::new(log_reads, Arc::clone(&metrics)),
        }))
    }

    /// Sets how much of the limits is in use.
    pub fn observe(&self, limits: &LimitMetrics) {
        let admission = &self.0;
        let calls = admission.max_calls - admission.call_limit.available_permits();
        limits.set(Limit::Calls, calls, admission.max_calls);
        for (limit, keyed) in [
            (Limit::AnonymousCalls, &admission.anonymous_limit),
            (Limit::PublicStreams, &admission.public_stream_limit),
        ] {
            limits.set(limit, keyed.in_use(), keyed.max_total());
        }
        let watches = &admission.watch_limit;
        limits.set(Limit::Watches, watches.in_use(), watches.max_total());
        let lookups = &admission.lookups;
        limits.set(Limit::TokenLookups, lookups.waiting(), admission.max_calls);
        let (bytes, all) = admission.unread_bytes.usage();
        limits.set(Limit::UnreadBytes, bytes, all);
    }

    /// Ends the streams that have no end of their own.
    pub fn stop_streams(&self) {
        self.0.stop_streams.cancel();
    }

    /// The outage of the database that the calls experience.
    pub fn outage(&self) -> &Outage {
        &self.0.log.outage
    }

    /// Waits until no call has been in progress for `IDLE_BEFORE_STOP`. It does not wait longer than
    /// `UNREAD_AT_STOP` for responses that no client reads.
    pub async fn wait_idle(&self) {
        let (mut idle, mut unread) = (Duration::ZERO, Duration::ZERO);
        while idle < IDLE_BEFORE_STOP {
            tokio::time::sleep(IDLE_POLL_INTERVAL).await;
            let (calls, responses) = self.0.in_progress();
            let busy = calls > responses || (responses > 0 && unread < UNREAD_AT_STOP);
            idle = if busy {
                Duration::ZERO
            } else {
                idle + IDLE_POLL_INTERVAL
            };
            unread = if calls > responses || responses == 0 {
                Duration::ZERO
            } else {
                unread + IDLE_POLL_INTERVAL
            };
        }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AdmissionService {
            admission: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service that receives only admitted calls.
#[derive(Clone)]
pub struct AdmissionService<S> {
    admission: Arc<Admission>,
    inner: S,
}

impl<S> Service<Request<Body>> for AdmissionService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let admission = Arc::clone(&self.admission);
        // `poll_ready` made this instance ready, not its clone: use this one and keep the clone.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(async move { Ok(admission.handle(request, inner).await) })
    }
}

impl Admission {
    /// The number of calls in progress, and how many of them only wait until their response is sent, to which streams
    /// belong.
    fn in_progress(&self) -> (usize, usize) {
        let calls = self.max_calls - self.call_limit.available_permits() + SIGN_OUT_RESERVE
            - self.sign_out_reserve.available_permits()
            + self.anonymous_limit.in_use()
            + self.watch_limit.in_use()
            + self.lookups.waiting();
        (calls, Arc::strong_count(&self.responses) - 1)
    }

    /// Counts a refusal by a limit.
    fn refused<T>(&self, limit: Limit, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|_| self.log.metrics.limits.refused(limit))
    }

    async fn handle<S>(&self, mut request: Request<Body>, mut inner: S) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let connection = request.extensions_mut().remove::<ConnectInfo>();
        let peer = connection
            .as_ref()
            .map(|connection| connection.peer.address);
        let address = peer.map_or(NO_ADDRESS, network);
        let path = request.uri().path();
        let place = policy::find(path.strip_prefix('/').unwrap_or_default());
        let method = place.map(|place| policy::RPCS[place]);
        let rpc = place.zip(method.map(|(rpc, _)| rpc));
        if let Some((place, (rpc, Access::Open))) = place.zip(method)
            && rpc.starts_with("grpc.")
            && rpc != HEALTH_CHECK
        {
            return self
                .serve_stream((place, rpc), request, address, connection, inner)
                .await;
        }
        let mut line = self.log.begin(rpc, request.headers(), peer);
        if let Some(mut rejection) = protocol::reject(&request) {
            let code = status_code(rejection.headers());
            line.quiet();
            line.end(&mut rejection, code);
            return rejection;
        }
        if method.is_some_and(|(rpc, _)| rpc == HEALTH_CHECK) {
            return self.check_health(request, connection, inner, line).await;
        }
        if let Some(method) = method
            && method.0 == policy::WATCH
        {
            return self
                .serve_watch(method, request, connection, address, inner, line)
                .await;
        }
        let deadline = self.deadline(request.headers());
        let unread = connection
            .as_ref()
            .map(|connection| Arc::clone(&connection.unread));
        // Held outside the future below: a response, even an error, is in memory until it is sent, and must
        // count against the limits for as long.
        let mut held = InFlight::default();
        let span = line.span.clone();
        let work = async {
            let request = match method {
                Some((_, Access::Open)) => self.request_buffer.buffer(request, address).await?,
                _ => request,
            };
            let admitted = match method {
                Some((_, Access::Open)) => {
                    self.admit_anonymous(request, connection, address, &line)?
                }
                _ => {
                    self.admit(request, method, connection, address, &mut line)
                        .await?
                }
            };
            held.permit = Some(admitted.permit);
            held.principal_permit = admitted.principal_permit;
            let principal = admitted.request.extensions().get::<Call>();
            let principal = principal.map(|call| call.principal.id);
            let Ok(response) = inner.call(admitted.request.map(BodyTimeout::wrap)).await;
            let outgoing =
                OutgoingResponse::encode(protocol::with_reason(response, LARGEST_REQUEST));
            if let Some(principal) = principal
                && outgoing.bytes() > SMALL
            {
                let counted = self.unread_bytes.count(principal, outgoing.bytes());
                held.bytes = Some(self.refused(Limit::UnreadBytes, counted)?);
            }
            Ok(outgoing)
        };
        let outcome = match tokio::time::timeout(deadline, span.run(work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(errors::deadline_exceeded()),
        };
        let mut outgoing = outcome
            .unwrap_or_else(|error: Error| OutgoingResponse::new(Status::from(error).into_http()));
        held.unread = unread.as_ref().map(UnreadResponses::begin);
        if held.permit.is_some() {
            held.response = Some(Arc::clone(&self.responses));
        }
        let code = outgoing.code();
        line.end(outgoing.response(), code);
        outgoing.hold_until_sent(Arc::new(held), unread)
    }

    /// The timeout that the client sent, or the default, but never more than the maximum. It is a little shorter
    /// than what the client sent: tonic starts its own timer for `grpc-timeout` before this one and would fail
    /// with CANCELLED.
    fn deadline(&self, headers: &HeaderMap) -> Duration {
        let requested = headers::grpc_timeout(headers).map(|requested| {
            requested.saturating_sub((requested / 10).min(Duration::from_millis(20)))
        });
        requested
            .unwrap_or(self.default_deadline)
            .min(self.max_deadline)
    }
}

/// The code of a response without a message. That of a response that is not gRPC is UNIMPLEMENTED.
fn status_code(headers: &HeaderMap) -> Code {
    let status = headers.get(Status::GRPC_STATUS);
    status.map_or(Code::Unimplemented, |status| {
        Code::from_bytes(status.as_bytes())
    })
}
