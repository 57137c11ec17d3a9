//! Takes connections: how many, from whom, by TLS or not. What tonic's own listener does not limit
//! is limited here, so that nobody can take up the server by merely connecting.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::tls::Tls;
use crate::auth::peer::{Certificate, Peer};
use crate::config::Limits;

/// How long who connects may take to say the first words: the TLS handshake, then the beginning of
/// HTTP/2.
const GREETING: Duration = Duration::from_secs(5);
/// The beginning of HTTP/2 (RFC 9113, section 3.4), in bytes.
const PREFACE: usize = 24;
/// How long nobody is let in after that failed: where files have run out, they still have.
const PAUSE: Duration = Duration::from_millis(100);
/// How many that have been let in may wait to be served.
const WAITING: usize = 64;

/// Lets in who connects until `stop`.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (ready, mut incoming) = mpsc::channel(WAITING);
    let door = Door {
        places: Arc::new(Places {
            all: limits.max_connections,
            each: limits.max_connections_per_address,
            taken: Mutex::default(),
        }),
        tls,
        ready,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = door.stand(listener) => {}
            () = stop.cancelled() => {}
        }
    });
    futures_util::stream::poll_fn(move |context| incoming.poll_recv(context))
}

struct Door {
    places: Arc<Places>,
    tls: Option<Arc<Tls>>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn stand(self, listener: TcpListener) {
        let mut turned_away: u64 = 0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.places.take(address.ip()) {
                    Some(place) => self.greet(stream, address, place),
                    None => {
                        turned_away += 1;
                        // A flood must not fill the log too.
                        if turned_away.is_power_of_two() {
                            tracing::warn!(turned_away, "too many connections: one was closed");
                        }
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Greets in a task of its own: who is slow holds up nobody.
    fn greet(&self, stream: TcpStream, address: SocketAddr, place: Place) {
        let (tls, ready) = (self.tls.clone(), self.ready.clone());
        tokio::spawn(async move {
            // It only makes answers later.
            let _ = stream.set_nodelay(true);
            let mut peer = Peer {
                address: address.ip().to_canonical(),
                certificate: None,
            };
            let stream = match tls {
                None => Transport::Plain(stream),
                Some(tls) => match tokio::time::timeout(GREETING, tls.handshake(stream)).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates();
                        let shown = shown.and_then(|chain| Certificate::read(chain.first()?));
                        peer.certificate = shown.map(Arc::new);
                        Transport::Encrypted(Box::new(stream))
                    }
                    Ok(Err(error)) => {
                        return tracing::debug!(%error, "a TLS handshake failed");
                    }
                    Err(_) => return tracing::debug!("a TLS handshake took too long"),
                },
            };
            let connection = Connection {
                stream,
                peer,
                greeting: Some((PREFACE, Box::pin(tokio::time::sleep(GREETING)))),
                _place: place,
            };
            // The server has stopped: closed.
            let _ = ready.send(Ok(connection)).await;
        });
    }
}

/// How many connections there are, in all and from each address.
struct Places {
    all: usize,
    each: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A connection's place, free again when dropped.
struct Place {
    places: Arc<Places>,
    from: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let from = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(|held| held.into_inner());
        let (all, each) = &mut *taken;
        let each = each.entry(from).or_default();
        if *all >= self.all || *each >= self.each {
            return None;
        }
        *all += 1;
        *each += 1;
        Some(Place {
            places: Arc::clone(self),
            from,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(|held| held.into_inner());
        taken.0 -= 1;
        if let Some(each) = taken.1.get_mut(&self.from) {
            *each -= 1;
            if *each == 0 {
                taken.1.remove(&self.from);
            }
        }
    }
}

/// What counts as one address: of IPv6, the 64 bits that a single customer is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

enum Transport {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// A connection that was let in.
pub struct Connection {
    stream: Transport,
    peer: Peer,
    /// How many bytes of the beginning are missing, and until when they may come.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

macro_rules! on_stream {
    ($connection:expr, $stream:ident => $call:expr) => {
        match &mut $connection.stream {
            Transport::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Transport::Encrypted(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = on_stream!(self, stream => stream.poll_read(context, buffer));
        let Some((missing, late)) = &mut self.greeting else {
            return read;
        };
        if read.is_ready() {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                self.greeting = None;
            }
            return read;
        }
        match late.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}
