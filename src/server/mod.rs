//! The only wiring: what listens, what stands before the services, which services there are, and
//! how all of it stops.

mod arrivals;
mod authority;
mod bodies;
mod gate;
mod headers;
mod health;
mod listener;
mod lookups;
mod places;
mod protocol;
mod rates;
pub mod tls;
mod unread;
mod unread_bytes;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::{Layer, Service};

pub use health::{LIVENESS, SERVICES};
use tls::Tls;

use crate::auth::api::AuthApi;
use crate::auth::attempts::Turns;
use crate::auth::known::Known;
use crate::auth::passwords::Passwords;
use crate::changes::desk::Desk;
use crate::changes::idempotency::InFlight;
use crate::changes::queue::Queue;
use crate::clients::api::ClientApi;
use crate::clock::Clock;
use crate::config::{Limits, Refusal, ServeSettings};
use crate::db::shared::Shared;
use crate::db::{connect, migrate};
use crate::leads::{self, api::LeadApi};
use crate::opportunities::api::OpportunityApi;
use crate::orders::api::OrderApi;
use crate::retention::{self, Keep};
use crate::wire::page::PageTokens;
use crate::wire::{DESCRIPTORS, proto};

/// The largest request taken, in bytes.
pub const LARGEST_REQUEST: usize = 64 * 1024;
/// The largest request taken of anybody, by health and reflection, in bytes.
const LARGEST_QUESTION: usize = 4 * 1024;
/// The largest answer given, in bytes: what gRPC clients take by default.
pub const LARGEST_RESPONSE: usize = 4 << 20;
/// How long those who ask for the health have to notice before connections are closed.
const NOTICE: Duration = Duration::from_millis(200);
/// After how long a connection is asked to end, when the calls on it are done.
const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// How long it may then take to end. tonic's own setting of that name would do without the asking.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// How long changes whose callers are gone may take to end when the server stops.
const CLOSING: Duration = Duration::from_secs(3);

/// A server that is running.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its rooms work with.
    pub desk: Arc<Desk>,
    health: HealthReporter,
    gate: gate::GateLayer,
    stop: oneshot::Sender<()>,
    /// Ends what lets connections in.
    closed: CancellationToken,
    /// What goes on beside the calls.
    beside: Vec<AbortOnDropHandle<()>>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    drain: Duration,
}

/// Opens what the rooms work with: the database, migrated, and the key for page tokens.
///
/// # Errors
/// A sentence that says why it cannot be and what to do.
pub async fn open_desk(settings: &ServeSettings, clock: Clock) -> Result<Desk, Refusal> {
    let url = &settings.database.database_url;
    if settings.migrate {
        migrate::up(url).await?;
    } else {
        migrate::require_current(url).await?;
    }
    let db = connect::open(url, &settings.limits, clock.clone()).await?;
    Ok(Desk {
        page_tokens: PageTokens::new(db.shared_key("page-tokens").await?),
        leads: Shared::new(leads::look_up),
        queue: Queue::new(&db, &settings.limits),
        known: Known::default(),
        db,
        clock,
        passwords: Passwords::default(),
        turns: Turns::default(),
        in_flight: InFlight::default(),
    })
}

/// Starts a server. When this returns, it answers.
///
/// # Errors
/// A sentence that says why it cannot start and what to do.
pub async fn start(settings: &ServeSettings, clock: Clock) -> Result<Running, Refusal> {
    settings.check()?;
    // First: a server that cannot start leaves the database as it is.
    let tls = Tls::load(&settings.tls)?;
    let desk = Arc::new(open_desk(settings, clock).await?);
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Refusal::new(format!(
            "cannot listen on {} ({error}): choose another address with --listen",
            settings.listen
        ))
    })?;
    if tls.is_none() && !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "serving without TLS (--insecure): who is on the way reads everything, passwords too"
        );
    }
    let address = listener
        .local_addr()
        .map_err(|error| Refusal::new(format!("the address cannot be read: {error}")))?;

    let gate = gate::GateLayer::new(Arc::clone(&desk), &settings.limits);
    let (health, routes) = routes(&desk).await?;
    let router = transport().layer(gate.clone()).add_routes(routes);
    let watch = health::follow(health.clone(), desk.db.watch());
    let mut beside = vec![
        AbortOnDropHandle::new(tokio::spawn(watch)),
        AbortOnDropHandle::new(tokio::spawn(desk.db.clone().keep_log_short())),
        retention::start(&desk, Keep::new(&settings.limits)).await,
    ];
    if let Some(tls) = tls.clone() {
        let follow = async move { tls.follow().await };
        beside.push(AbortOnDropHandle::new(tokio::spawn(follow)));
    }
    let closed = CancellationToken::new();
    let incoming = listener::accept(
        listener,
        tls,
        &settings.limits,
        CONNECTION_AGE + CONNECTION_GRACE,
        closed.clone(),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        // A dropped sender means stop too.
        let _ = stopped.await;
    }));
    Ok(Running {
        address,
        desk,
        health,
        gate,
        stop,
        closed,
        beside,
        serving,
        drain: settings.limits.drain,
    })
}

/// What listens, with the limits that its defaults lack.
fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(200)
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_header_list_size(16 * 1024)
        // Long-lived connections move on to new replicas.
        .max_connection_age(CONNECTION_AGE)
}

/// The services behind their gate without a listener before them: what fuzzing calls, so that its
/// bytes take the way of every other request's.
///
/// # Errors
/// A sentence that says why it cannot be.
pub async fn without_listener(
    desk: &Arc<Desk>,
    limits: &Limits,
) -> Result<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + use<>,
    Refusal,
> {
    let (_, routes) = routes(desk).await?;
    Ok(gate::GateLayer::new(Arc::clone(desk), limits).layer(routes))
}

/// The services, and what says how healthy they are.
async fn routes(desk: &Arc<Desk>) -> Result<(HealthReporter, Routes), Refusal> {
    let (reporter, health) = tonic_health::server::health_reporter();
    health::tell(&reporter, true).await;
    reporter
        .set_service_status(health::LIVENESS, ServingStatus::Serving)
        .await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            // So that grpcurl shows the details of errors in clear.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = |error| Refusal::new(format!("reflection cannot be built: {error}"));
    macro_rules! service {
        ($server:path, $api:expr) => {
            <$server>::new($api)
                // The limit holds before and after decompression.
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(LARGEST_REQUEST)
                .max_encoding_message_size(LARGEST_RESPONSE)
        };
    }
    let reflection_v1 = reflection().build_v1().map_err(broken)?;
    let reflection_v1alpha = reflection().build_v1alpha().map_err(broken)?;
    macro_rules! public {
        ($server:expr) => {
            $server
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(LARGEST_QUESTION)
        };
    }
    let routes = Routes::new(public!(health))
        .add_service(public!(reflection_v1))
        .add_service(public!(reflection_v1alpha))
        .add_service(service!(
            proto::lead_service_server::LeadServiceServer<_>,
            LeadApi(Arc::clone(desk))
        ))
        .add_service(service!(
            proto::client_service_server::ClientServiceServer<_>,
            ClientApi(Arc::clone(desk))
        ))
        .add_service(service!(
            proto::opportunity_service_server::OpportunityServiceServer<_>,
            OpportunityApi(Arc::clone(desk))
        ))
        .add_service(service!(
            proto::order_service_server::OrderServiceServer<_>,
            OrderApi(Arc::clone(desk))
        ))
        .add_service(service!(
            proto::auth_service_server::AuthServiceServer<_>,
            AuthApi(Arc::clone(desk))
        ));
    Ok((reporter, routes))
}

impl Running {
    /// Stops: says that it is not serving, lets those who watch notice, takes no new calls, lets
    /// those under way finish for as long as the drain lasts, and closes the database.
    ///
    /// # Errors
    /// A sentence when calls had to be cut off or the server had failed.
    pub async fn stop(mut self) -> Result<(), Refusal> {
        // So that nobody says otherwise meanwhile.
        self.beside.clear();
        health::tell(&self.health, false).await;
        tokio::time::sleep(NOTICE).await;
        self.closed.cancel();
        // The receiver is gone only when the server has ended already.
        let _ = self.stop.send(());
        let outcome = tokio::select! {
            ended = &mut self.serving => match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Refusal::new(format!("the server failed: {error}"))),
                Err(error) => Err(Refusal::new(format!("the server failed: {error}"))),
            },
            // Connections on which nobody calls may stay open for ever: they are not waited for.
            () = self.gate.quiet() => Ok(()),
            () = tokio::time::sleep(self.drain) => Err(Refusal::new(format!(
                "calls were still under way after {} s and were cut off",
                self.drain.as_secs_f64()
            ))),
        };
        self.serving.abort();
        // A change that is stuck was not answered, and is rolled back when its connection goes.
        let _ = tokio::time::timeout(CLOSING, self.desk.db.close()).await;
        outcome
    }

    /// Waits until the server ends without having been told to.
    pub async fn ended(&mut self) {
        self.stop.closed().await;
    }
}
