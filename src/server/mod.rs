//! The server: everything between the network and the services. It starts and stops the listener, and contains TLS,
//! the layer that admits calls, the limits, and the health service.
//!
//! It must not depend on a feature: the services come in as routes, and an RPC is known only by its name in
//! `auth::policy`. It is built on tonic's transport, and replaces those parts of it that have no limits.

mod admin;
mod admission;
mod authority;
mod body_timeout;
mod certificate_expiry;
mod concurrency_limit;
mod connection;
mod errors;
mod headers;
mod health;
mod hpack;
mod listener;
mod lookups;
mod outage;
mod outgoing;
mod protocol;
mod rate_limit;
mod request_buffer;
pub mod tls;
mod unread;
mod unread_bytes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use admin::{Admin, AdminHandle};
pub use admission::AdmissionLayer;
pub use health::{LIVENESS, Readiness, reporter};
use tls::Tls;

use crate::auth::Auth;
pub use crate::config::LARGEST_RESPONSE;
use crate::config::{ServeSettings, StartupError};
use crate::db::{Db, Watch};

/// The largest request accepted, in bytes.
pub const LARGEST_REQUEST: usize = 64 * 1024;
/// The largest request accepted without authentication, by health and reflection, in bytes.
pub const LARGEST_PUBLIC_REQUEST: usize = 4 * 1024;
/// How long clients that watch the health service have to react before connections are closed.
const NOT_SERVING_NOTICE: Duration = Duration::from_millis(200);
/// The age at which a client is asked to close its connection once the calls on it have finished.
const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// How long the client may then take. tonic's own setting of this name would close the connection without asking.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// At shutdown: how long changes whose clients have disconnected may take to finish.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A running server.
pub struct ServerHandle {
    /// The address it listens on.
    pub address: SocketAddr,
    db: Db,
    health: Readiness,
    admission: AdmissionLayer,
    stop: oneshot::Sender<()>,
    /// Stops the listener.
    stop_accepting: CancellationToken,
    background: Vec<AbortOnDropHandle<()>>,
    /// Follows the database until it is stopped, and returns its watch.
    following: AbortOnDropHandle<Watch>,
    stop_following: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// Serves until the end, so that a supervisor sees that the process lives while it drains.
    admin: Option<AdminHandle>,
    drain: Duration,
}

/// The ports of a server.
pub struct Listeners {
    calls: TcpListener,
    admin: Option<TcpListener>,
}

/// Binds the addresses to listen on.
///
/// # Errors
/// A sentence that says why it cannot be bound and what to do.
pub async fn bind(settings: &ServeSettings) -> Result<Listeners, StartupError> {
    let calls = TcpListener::bind(settings.listen).await.map_err(|error| {
        StartupError::new(format!(
            "cannot listen on {} ({error}): choose another address with --listen",
            settings.listen
        ))
    })?;
    if !settings.tls.is_on() && !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "serving without TLS (--insecure): anyone on the network path can read everything, including passwords"
        );
    }
    Ok(Listeners {
        calls,
        admin: admin::bind(settings).await?,
    })
}

/// Serves `routes` until [`ServerHandle::stop`]. When this returns, the server accepts calls. Its readiness follows
/// `watch`.
///
/// # Errors
/// A sentence that says why it cannot start and what to do.
pub fn serve(
    settings: &ServeSettings,
    listeners: Listeners,
    tls: Option<Arc<Tls>>,
    auth: &Arc<Auth>,
    watch: Watch,
    health: Readiness,
    routes: Routes,
) -> Result<ServerHandle, StartupError> {
    let address = listeners
        .calls
        .local_addr()
        .map_err(|error| StartupError::new(format!("the address cannot be read: {error}")))?;
    let log_reads = settings.observe.log_reads;
    let admission = AdmissionLayer::new(Arc::clone(auth), &settings.limits, log_reads);
    let router = transport().layer(admission.clone()).add_routes(routes);
    let db = auth.db.clone();
    let stop_following = CancellationToken::new();
    let following = health::follow_database(
        health.clone(),
        watch,
        admission.clone(),
        stop_following.clone(),
    );
    let mut background = vec![AbortOnDropHandle::new(tokio::spawn(
        db.clone().keep_wal_short(),
    ))];
    if let Some(tls) = tls.clone() {
        let expiry = db.metrics().tls_certificate_expiry.clone();
        let reload = async move { tls.reload_on_change(expiry).await };
        background.push(AbortOnDropHandle::new(tokio::spawn(reload)));
    }
    let stop_accepting = CancellationToken::new();
    let connections = listener::connection_limit(&settings.limits);
    let admin = listeners.admin.map(|listener| {
        let admin = Admin {
            auth: Arc::clone(auth),
            admission: admission.clone(),
            connections: Arc::clone(&connections),
            readiness: health.clone(),
            reading: Mutex::default(),
        };
        admin.serve(listener)
    });
    let incoming = listener::accept(
        listeners.calls,
        tls,
        &settings.limits,
        CONNECTION_AGE + CONNECTION_GRACE,
        stop_accepting.clone(),
        connections,
        Arc::clone(db.metrics()),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        // A dropped sender also stops the server.
        let _ = stopped.await;
    }));
    Ok(ServerHandle {
        address,
        db,
        health,
        admission,
        stop,
        stop_accepting,
        background,
        following: AbortOnDropHandle::new(tokio::spawn(following)),
        stop_following,
        server,
        admin: admin.transpose()?,
        drain: settings.limits.drain,
    })
}

/// tonic's transport, with the limits that it does not set by default.
fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(200)
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_header_list_size(16 * 1024)
        // Otherwise clients with long-lived connections would never use new replicas.
        .max_connection_age(CONNECTION_AGE)
}

/// Milliseconds with a fraction, for the log.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

impl ServerHandle {
    /// The address of the administrative listener, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// What the server reports to health checks.
    pub fn readiness(&self) -> Readiness {
        self.health.clone()
    }

    /// Adds a background job that is aborted when the server stops.
    pub fn add_background(&mut self, job: AbortOnDropHandle<()>) {
        self.background.push(job);
    }

    /// Stops the server. It reports that it is not serving, gives clients that watch the health service time to react,
    /// accepts no new calls, waits for the calls in progress for at most the drain time, and closes the database.
    ///
    /// # Errors
    /// A sentence when calls had to be aborted or the server had failed.
    pub async fn stop(mut self) -> Result<(), StartupError> {
        self.background.clear();
        // First: the job that follows the database must not set the readiness again. Its watch is kept until the
        // database is closed, because it keeps migrations from being reverted.
        self.stop_following.cancel();
        let _watch = self.following.await;
        self.health.set(false).await;
        tokio::time::sleep(NOT_SERVING_NOTICE).await;
        self.stop_accepting.cancel();
        self.admission.stop_streams();
        // Sending fails only when the server has already ended.
        let _ = self.stop.send(());
        let outcome = tokio::select! {
            ended = &mut self.server => match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(StartupError::new(format!("the server failed: {error}"))),
                Err(error) => Err(StartupError::new(format!("the server failed: {error}"))),
            },
            // Not the end of all connections: a connection without calls may stay open for any time.
            () = self.admission.wait_idle() => Ok(()),
            () = tokio::time::sleep(self.drain) => Err(StartupError::new(format!(
                "calls were still running after {} s and were aborted",
                self.drain.as_secs_f64()
            ))),
        };
        self.server.abort();
        self.admission.outage().stop();
        // A change that does not finish was never acknowledged. It is rolled back when its connection closes.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.db.close()).await;
        outcome
    }

    /// Waits until the server ends by itself.
    pub async fn ended(&mut self) {
        self.stop.closed().await;
    }
}
