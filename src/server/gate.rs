//! What every call passes before it reaches its service, in this order: is it a gRPC call, is there
//! room, is there time, who is it, may they.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use uuid::Uuid;

use super::arrivals::Arrivals;
use super::bodies::Timely;
use super::headers;
use super::listener::Line;
use super::lookups::Lookups;
use super::places::{Place, Places};
use super::protocol;
use super::rates::Rates;
use super::unread::{Outgoing, Reading, Unread};
use super::unread_bytes::{SMALL, Taken, UnreadBytes};
use super::{LARGEST_QUESTION, LARGEST_REQUEST};
use crate::auth::peer::network;
use crate::auth::roles::{self, Access};
use crate::auth::{self, Call, Credential};
use crate::changes::desk::Desk;
use crate::config::Limits;
use crate::error::{Error, Result};

/// How long the last bytes of an answer may take to be sent when the server stops.
const SENDING: Duration = Duration::from_secs(1);
/// How long a caller may take to take its answer when the server stops and nothing else is under way.
const TAKING: Duration = Duration::from_secs(5);
/// What somebody who leaves calls: it always finds a way.
const SIGN_OUT: &str = "leadsmith.v1.AuthService/SignOut";
const EXIT: usize = 16;
/// The one of the RPCs without a token that answers once.
const CHECK: &str = "grpc.health.v1.Health/Check";
/// Where calls come from that no connection brings.
const NOWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const POLL: Duration = Duration::from_millis(20);

/// Puts the gate before the services.
#[derive(Clone)]
pub struct GateLayer(Arc<Gate>);

struct Gate {
    desk: Arc<Desk>,
    room: Arc<Semaphore>,
    /// For signing out, when there is no room.
    exit: Arc<Semaphore>,
    /// For signing in: who is not known yet must leave the others their room.
    porch: Arc<Places<IpAddr>>,
    /// Messages of those who sign in, on their way.
    arrivals: Arrivals,
    /// For streams that anybody may open, of health and of reflection.
    gallery: Arc<Places<IpAddr>>,
    /// For each who calls: whoever leaves answers unread must leave the others room.
    shares: Arc<Places<Uuid>>,
    rates: Rates,
    lookups: Arc<Lookups>,
    unread: Arc<UnreadBytes>,
    /// The answers that are being sent.
    answers: Arc<()>,
    max_calls: usize,
    default_deadline: Duration,
    max_deadline: Duration,
}

/// What a call takes up until its response is sent.
#[derive(Default)]
struct InFlight {
    room: Option<Room>,
    share: Option<Place<Uuid>>,
    /// Its response, on its connection.
    reading: Option<Reading>,
    bytes: Option<Taken>,
    answer: Option<Arc<()>>,
}

/// What a call takes up.
#[expect(dead_code, reason = "held, and let go")]
enum Room {
    Inside(OwnedSemaphorePermit),
    Porch(Place<IpAddr>),
}

/// A call that may go on to its service.
struct Admitted {
    request: Request<Body>,
    room: Room,
    share: Option<Place<Uuid>>,
}

impl GateLayer {
    pub fn new(desk: Arc<Desk>, limits: &Limits) -> Self {
        Self(Arc::new(Gate {
            lookups: Lookups::new(limits, desk.db.read().connections().div_ceil(2)),
            desk,
            room: Arc::new(Semaphore::new(limits.max_calls)),
            exit: Arc::new(Semaphore::new(EXIT)),
            porch: Places::new(limits.max_calls.div_ceil(4), limits.max_calls.div_ceil(8)),
            arrivals: Arrivals::new(limits.max_calls),
            // One for each connection, as it were.
            gallery: Places::new(limits.max_connections, limits.max_connections_per_address),
            shares: Places::new(limits.max_calls, (limits.max_calls * 3).div_ceil(4)),
            rates: Rates::new(limits.calls_per_second),
            unread: UnreadBytes::new(limits.unread_bytes, limits.unread_bytes_per_principal),
            answers: Arc::default(),
            max_calls: limits.max_calls,
            default_deadline: limits.default_deadline,
            max_deadline: limits.max_deadline,
        }))
    }

    /// Waits until no call has been under way for a while, in which the last answers are sent. For an
    /// answer that nobody takes it does not wait for ever.
    pub async fn quiet(&self) {
        let (mut quiet, mut untaken) = (Duration::ZERO, Duration::ZERO);
        while quiet < SENDING {
            tokio::time::sleep(POLL).await;
            let (calls, answers) = self.0.under_way();
            let waits = calls > answers || (answers > 0 && untaken < TAKING);
            quiet = if waits { Duration::ZERO } else { quiet + POLL };
            untaken = if calls > answers || answers == 0 {
                Duration::ZERO
            } else {
                untaken + POLL
            };
        }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated {
            gate: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
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
        let gate = Arc::clone(&self.gate);
        // The one that is ready is used; its clone stays for the next call.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(async move { Ok(gate.pass(request, inner).await) })
    }
}

impl Gate {
    /// How many calls are under way, and of how many of them the answer is being sent.
    fn under_way(&self) -> (usize, usize) {
        let calls = self.max_calls - self.room.available_permits() + EXIT
            - self.exit.available_permits()
            + self.porch.taken()
            + self.lookups.waiting();
        (calls, Arc::strong_count(&self.answers) - 1)
    }

    async fn pass<S>(&self, mut request: Request<Body>, mut inner: S) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if let Some(refusal) = protocol::refuse(&request) {
            return refusal;
        }
        let begun = Instant::now();
        let line = request.extensions_mut().remove::<Line>();
        let address = line
            .as_ref()
            .map_or(NOWHERE, |line| network(line.peer.address));
        let path = request.uri().path();
        let known = roles::lookup(path.strip_prefix('/').unwrap_or_default());
        if let Some((rpc, Access::Open)) = known
            && rpc.starts_with("grpc.")
        {
            return self.show(rpc, request, address, line, inner).await;
        }
        let deadline = self.deadline(request.headers());
        let unread = line.as_ref().map(|line| Arc::clone(&line.unread));
        // As long as a response is in memory, also an error, it takes up what its call did.
        let mut held = InFlight::default();
        let work = async {
            let request = match known {
                Some((_, Access::Open)) => self.arrivals.whole(request, address).await?,
                _ => request,
            };
            let admitted = match known {
                Some((_, Access::Open)) => self.admit_anyone(request, line, address)?,
                _ => self.admit(request, known, line, address).await?,
            };
            held.room = Some(admitted.room);
            held.share = admitted.share;
            let principal = admitted.request.extensions().get::<Call>();
            let principal = principal.map(|call| call.principal.id);
            let Ok(response) = inner.call(admitted.request.map(Timely::wrap)).await;
            let outgoing = Outgoing::encode(protocol::with_reason(response, LARGEST_REQUEST));
            if let Some(principal) = principal
                && outgoing.bytes() > SMALL
            {
                held.bytes = Some(self.unread.take(principal, outgoing.bytes())?);
            }
            Ok(outgoing)
        };
        let answer = match tokio::time::timeout(deadline, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::DeadlineExceeded),
        };
        let outgoing =
            answer.unwrap_or_else(|error: Error| Outgoing::new(Status::from(error).into_http()));
        held.reading = unread.as_ref().map(Unread::begin);
        if held.room.is_some() {
            held.answer = Some(Arc::clone(&self.answers));
        }
        let response = outgoing.until_sent(Arc::new(held), unread);
        let rpc = known.map_or("unknown", |(rpc, _)| rpc);
        let code = code(&response);
        tracing::debug!(rpc, ?code, elapsed = ?begun.elapsed(), "answered");
        response
    }

    /// Health and reflection answer whoever asks. Their streams last as long as they last, and so
    /// are limited in number.
    async fn show<S>(
        &self,
        rpc: &str,
        request: Request<Body>,
        address: IpAddr,
        line: Option<Line>,
        mut inner: S,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let unread = line.map(|line| line.unread);
        if rpc == CHECK {
            let Ok(response) = inner.call(request.map(Timely::wrap)).await;
            let reading = unread.as_ref().map(Unread::begin);
            let response = protocol::with_reason(response, LARGEST_QUESTION);
            return Outgoing::encode(response).until_sent(Arc::new(reading), unread);
        }
        let Some(place) = self.gallery.take(address) else {
            let response = Status::from(Error::ServerOverloaded).into_http();
            let reading = unread.as_ref().map(Unread::begin);
            return Outgoing::new(response).until_sent(Arc::new(reading), unread);
        };
        // A stream may last longer than a response may be unread.
        let Ok(response) = inner.call(request).await;
        let response = protocol::with_reason_at_the_end(response, LARGEST_QUESTION);
        Outgoing::new(response).until_sent(Arc::new(place), unread)
    }

    /// Room for a call of somebody who is known.
    fn room(&self, known: Option<(&str, Access)>) -> Result<Room> {
        let of = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_owned().ok();
        let room = match known {
            Some((SIGN_OUT, _)) => of(&self.room).or_else(|| of(&self.exit)),
            _ => of(&self.room),
        };
        room.map(Room::Inside).ok_or(Error::ServerOverloaded)
    }

    /// Lets somebody in who need not be known.
    fn admit_anyone(
        &self,
        mut request: Request<Body>,
        line: Option<Line>,
        address: IpAddr,
    ) -> Result<Admitted> {
        let place = self.porch.take(address).ok_or(Error::ServerOverloaded)?;
        // Who signs in is counted by where they come from.
        if let Some(line) = line {
            request.extensions_mut().insert(line.peer);
        }
        Ok(Admitted {
            request,
            room: Room::Porch(place),
            share: None,
        })
    }

    /// Authenticates and authorises the call, and checks that its principal is within its limits. Every
    /// authenticated call counts, also one that is refused.
    async fn admit(
        &self,
        mut request: Request<Body>,
        known: Option<(&'static str, Access)>,
        line: Option<Line>,
        address: IpAddr,
    ) -> Result<Admitted> {
        let token = headers::token(request.headers());
        let certificate = line.and_then(|line| line.peer.certificate);
        let credential = Credential::of(token, certificate).ok_or(Error::TokenInvalid)?;
        let asked = Instant::now();
        let mut room = None;
        let identity = match auth::cached(&self.desk, &credential) {
            Some(identity) => identity,
            None if self.desk.known.was_good(credential.hash()) => {
                room = Some(self.room(known)?);
                self.lookups.identify_again(&self.desk, credential).await?
            }
            None => {
                let lookups = &self.lookups;
                lookups.identify(&self.desk, address, credential).await?
            }
        };
        let principal = identity.principal.id;
        let counts = known.is_none_or(|(rpc, _)| rpc != SIGN_OUT);
        if counts {
            self.rates.count(principal)?;
        }
        // Who is nobody learns not even which RPCs there are.
        let (rpc, access) = known.ok_or(Error::MethodUnknown)?;
        if let Access::AtLeast(required) = access
            && identity.role < required
        {
            return Err(Error::RoleInsufficient {
                role: identity.role,
                required,
            });
        }
        let room = match room {
            Some(room) => room,
            None => self.room(known)?,
        };
        let mut share = None;
        if counts {
            self.unread.check(principal)?;
            let taken = self.shares.take(principal);
            share = Some(taken.ok_or(Error::ServerOverloaded)?);
        }
        request.extensions_mut().insert(Call {
            principal: identity.principal,
            role: identity.role,
            rpc,
            session: identity.session,
            key: None,
            waited: asked.elapsed(),
        });
        Ok(Admitted {
            request,
            room,
            share,
        })
    }

    /// How long the call may take: what it asks for, or the default, but never more than allowed.
    /// A little less, because tonic's own clock for `grpc-timeout`, which began to run before this
    /// one, would answer CANCELLED.
    fn deadline(&self, headers: &HeaderMap) -> Duration {
        let asked = headers::grpc_timeout(headers)
            .map(|asked| asked.saturating_sub((asked / 10).min(Duration::from_millis(20))));
        asked
            .unwrap_or(self.default_deadline)
            .min(self.max_deadline)
    }
}

fn code(response: &Response<Body>) -> Code {
    let status = response.headers().get("grpc-status");
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}
