//! The listener: accepts connections, limits their number in all and for each address, and performs the TLS handshake.
//!
//! It is written by hand because tonic's own listener has no limit of connections, no timeout for the handshake and no
//! pause when file descriptors run out: a client could exhaust the server by only connecting. It must not know calls or
//! services.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::concurrency_limit::{ConcurrencyPermit, KeyedConcurrencyLimit};
use super::connection::{Connection, HANDSHAKE_TIMEOUT, Timeouts, Transport};
use super::tls::Tls;
use crate::auth::peer::{Certificate, Peer, network};
use crate::config::Limits;
use crate::metrics::{Limit, Metrics};

/// How long no connection is accepted after accepting one failed. When the cause is that file descriptors have run
/// out, an immediate retry would fail too.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// How often a connection is checked for unread responses, unless the longest deadline is shorter. A response may stay
/// unread for at least one such interval and at most two.
const UNREAD_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection may accept no byte while some wait to be sent, unless the longest deadline is shorter.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How many accepted connections may wait to be served.
const ACCEPT_BACKLOG: usize = 64;

/// Limits the connections, in all and for each address.
pub type ConnectionLimit = Arc<KeyedConcurrencyLimit<IpAddr>>;

/// The limit that the settings define.
pub fn connection_limit(limits: &Limits) -> ConnectionLimit {
    let per_address = limits.max_connections_per_address;
    KeyedConcurrencyLimit::new(limits.max_connections, per_address)
}

/// Accepts connections until `stop`. A connection is closed after `max_age`, even while calls are in progress on it.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    max_age: Duration,
    stop: CancellationToken,
    connection_limit: ConnectionLimit,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (accepted, mut incoming) = mpsc::channel(ACCEPT_BACKLOG);
    let acceptor = Acceptor {
        connection_limit,
        metrics,
        tls,
        unread_interval: limits.max_deadline.min(UNREAD_INTERVAL),
        stall_timeout: limits.max_deadline.min(STALL_TIMEOUT),
        max_age,
        accepted,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = acceptor.run(listener) => {}
            () = stop.cancelled() => {}
        }
    });
    futures_util::stream::poll_fn(move |context| incoming.poll_recv(context))
}

struct Acceptor {
    connection_limit: ConnectionLimit,
    metrics: Arc<Metrics>,
    tls: Option<Arc<Tls>>,
    unread_interval: Duration,
    stall_timeout: Duration,
    max_age: Duration,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut rejected: u64 = 0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    match self.connection_limit.try_acquire(network(address.ip())) {
                        Some(permit) => {
                            self.metrics.connections_accepted.inc();
                            self.handshake(stream, address, permit);
                        }
                        None => {
                            self.metrics.limits.refused(Limit::Connections);
                            rejected += 1;
                            // A flood of connections must not flood the log as well.
                            if rejected.is_power_of_two() {
                                tracing::warn!(rejected, "connection closed: too many connections");
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Performs the handshake in a task of its own, so that a slow client does not delay the others.
    fn handshake(&self, stream: TcpStream, address: SocketAddr, permit: ConcurrencyPermit<IpAddr>) {
        let (tls, accepted) = (self.tls.clone(), self.accepted.clone());
        let metrics = Arc::clone(&self.metrics);
        let timeouts = Timeouts {
            unread_interval: self.unread_interval,
            stall: self.stall_timeout,
            end: Instant::now() + self.max_age,
        };
        tokio::spawn(async move {
            // A failure only makes responses slower.
            let _ = stream.set_nodelay(true);
            let mut peer = Peer {
                address: address.ip().to_canonical(),
                certificate: None,
            };
            let stream = match tls {
                None => Transport::Plain(stream),
                Some(tls) => {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.handshake(stream)).await {
                        Ok(Ok(stream)) => {
                            let chain = stream.get_ref().1.peer_certificates();
                            let leaf = chain.and_then(|chain| Certificate::read(chain.first()?));
                            peer.certificate = leaf.map(Arc::new);
                            Transport::Encrypted(Box::new(stream))
                        }
                        Ok(Err(error)) => {
                            metrics.tls_handshakes_failed.inc();
                            return tracing::debug!(%error, "TLS handshake failed");
                        }
                        Err(_) => {
                            metrics.tls_handshakes_failed.inc();
                            return tracing::debug!("TLS handshake timed out");
                        }
                    }
                }
            };
            let connection = Connection::new(stream, peer, timeouts, permit);
            // Sending fails when the server has stopped; the connection is then closed.
            let _ = accepted.send(Ok(connection)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Limits;
    use crate::server::authority::PREFACE;

    #[tokio::test]
    async fn a_connection_is_closed_at_its_maximum_age() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            max_deadline: Duration::from_millis(100),
            ..Limits::default()
        };
        let (max_age, stop) = (Duration::from_millis(300), CancellationToken::new());
        let mut incoming = Box::pin(accept(
            listener,
            None,
            &limits,
            max_age,
            stop.clone(),
            connection_limit(&limits),
            Arc::new(Metrics::new().unwrap()),
        ));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        client.write_all(&[b'x'; PREFACE]).await.unwrap();
        let mut preface = [0; PREFACE];
        connection.read_exact(&mut preface).await.unwrap();

        let started = Instant::now();
        let end = tokio::time::timeout(Duration::from_secs(5), connection.read_u8()).await;
        assert_eq!(end.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(
            started.elapsed() >= Duration::from_millis(200),
            "closed too early"
        );
        stop.cancel();
    }
}
