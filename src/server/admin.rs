//! The administrative listener: `/metrics` for Prometheus, `/livez` and `/readyz` for a supervisor that cannot call the
//! gRPC health service. Plain HTTP/1.1, without TLS or authentication, so it is on loopback unless an address is set.
//!
//! A client of this listener must not be able to harm calls: the number of its connections, the size of its headers and
//! the time of a connection are limited, request bodies are not read, and the metrics are read by one client at a time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::AdmissionLayer;
use super::health::Readiness;
use super::listener::ConnectionLimit;
use crate::auth::Auth;
use crate::config::{AdminListen, ServeSettings, StartupError};
use crate::metrics::Limit;

/// How many connections may be open. More are closed at once.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may last. It serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The maximum number of a request's headers.
const MAX_HEADERS: usize = 64;
/// How long no connection is accepted after accepting one failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// The content type of the text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The parts of a server that the listener shows.
pub struct Admin {
    pub auth: Arc<Auth>,
    pub admission: AdmissionLayer,
    pub connections: ConnectionLimit,
    pub readiness: Readiness,
    /// Held while the metrics are read.
    pub reading: Mutex<()>,
}

/// Binds the address of the listener, if it is on.
///
/// # Errors
/// A sentence that says why it cannot be bound and what to do.
pub async fn bind(settings: &ServeSettings) -> Result<Option<TcpListener>, StartupError> {
    let listen = settings.observe.admin_listen;
    let Some(address) = listen.address() else {
        return Ok(None);
    };
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        // The second server on a machine must start without a setting too.
        Err(error) if listen == AdminListen::Auto => {
            tracing::warn!(
                %address,
                %error,
                "the metrics are not served: set --admin-listen to another address, or to off"
            );
            return Ok(None);
        }
        Err(error) => {
            return Err(StartupError::new(format!(
                "cannot listen on {address} ({error}): choose another address with --admin-listen, or off"
            )));
        }
    };
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "the metrics are served without authentication on an address that other machines can reach"
        );
    }
    Ok(Some(listener))
}

/// A running listener, which ends when this is dropped.
pub struct AdminHandle {
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Admin {
    /// Serves until the handle is dropped.
    ///
    /// # Errors
    /// A sentence if the address cannot be read.
    pub fn serve(self, listener: TcpListener) -> Result<AdminHandle, StartupError> {
        let address = listener
            .local_addr()
            .map_err(|error| StartupError::new(format!("the address cannot be read: {error}")))?;
        let task = tokio::spawn(Arc::new(self).accept(listener));
        Ok(AdminHandle {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                continue;
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                // An error means that the client has disconnected, was too slow, or sent no HTTP.
                let _ = tokio::time::timeout(CONNECTION_TIMEOUT, admin.connection(stream)).await;
                drop(permit);
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) -> Result<(), hyper::Error> {
        let service = service_fn(move |request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.respond(&request).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Send GET or HEAD.\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.readiness.is_ready() => text(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => text(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "not ready: the database is unavailable, or the server stops\n",
            ),
            "/metrics" => match self.metrics().await {
                Ok(metrics) => text(StatusCode::OK, METRICS, metrics),
                Err(error) => {
                    tracing::error!(error, "the metrics cannot be read");
                    let sorry = "the metrics cannot be read: see the log\n";
                    text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, sorry)
                }
            },
            _ => text(
                StatusCode::NOT_FOUND,
                TEXT,
                "There is /metrics, /livez and /readyz.\n",
            ),
        }
    }

    async fn metrics(&self) -> Result<String, String> {
        let _reading = self.reading.lock().await;
        let db = &self.auth.db;
        db.observe().await;
        let metrics = db.metrics();
        metrics.ready.set(self.readiness.is_ready().into());
        let limits = &metrics.limits;
        self.admission.observe(limits);
        let (used, allowed) = self.auth.passwords.usage();
        limits.set(Limit::PasswordHashes, used, allowed);
        let (used, allowed) = (self.connections.in_use(), self.connections.max_total());
        limits.set(Limit::Connections, used, allowed);
        metrics.encode().map_err(|error| error.to_string())
    }
}

fn text(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
