//! Takes connections: how many, from whom, by TLS or not. What tonic's own listener does not limit
//! is limited here, so that nobody can take up the server by merely connecting.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::authority::{Authorities, PREFACE};
use super::places::{Place, Places};
use super::tls::Tls;
use super::unread::Unread;
use crate::auth::peer::{Certificate, Peer, network};
use crate::config::Limits;

/// How long who connects may take to say the first words: the TLS handshake, then the beginning of
/// HTTP/2.
const GREETING: Duration = Duration::from_secs(5);
/// How long nobody is let in after that failed: where files have run out, they still have.
const PAUSE: Duration = Duration::from_millis(100);
/// How often connections are looked at for responses that are not read, unless calls must be shorter. A
/// response has one such round to be read, and two at most.
const ROUND: Duration = Duration::from_secs(30);
/// How long a connection may take no byte while some wait to be sent, unless calls must be shorter.
const STALL: Duration = Duration::from_secs(20);
/// How many that have been let in may wait to be served.
const WAITING: usize = 64;

/// Lets in who connects until `stop`. A connection is closed after `age`, whatever goes on on it.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    age: Duration,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (ready, mut incoming) = mpsc::channel(WAITING);
    let door = Door {
        places: Places::new(limits.max_connections, limits.max_connections_per_address),
        tls,
        round: limits.max_deadline.min(ROUND),
        stall: limits.max_deadline.min(STALL),
        age,
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
    places: Arc<Places<IpAddr>>,
    tls: Option<Arc<Tls>>,
    round: Duration,
    stall: Duration,
    age: Duration,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn stand(self, listener: TcpListener) {
        let mut turned_away: u64 = 0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.places.take(network(address.ip())) {
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
    fn greet(&self, stream: TcpStream, address: SocketAddr, place: Place<IpAddr>) {
        let (tls, ready) = (self.tls.clone(), self.ready.clone());
        let (round, stall, end) = (self.round, self.stall, Instant::now() + self.age);
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
                authorities: Authorities::new(),
                line: Line {
                    peer,
                    unread: Arc::default(),
                },
                stall,
                stalled: None,
                greeting: Some((PREFACE, Box::pin(tokio::time::sleep(GREETING)))),
                rounds: tokio::time::interval_at(Instant::now() + round, round),
                end,
                _place: place,
            };
            // The server has stopped: closed.
            let _ = ready.send(Ok(connection)).await;
        });
    }
}

enum Transport {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What a call knows of its connection.
#[derive(Clone)]
pub struct Line {
    pub peer: Peer,
    /// The responses that were not read yet.
    pub unread: Arc<Unread>,
}

/// A connection that was let in.
pub struct Connection {
    stream: Transport,
    authorities: Authorities,
    line: Line,
    /// How many bytes of the beginning are missing, and until when they may come.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
    /// When it is looked at.
    rounds: Interval,
    /// How long it may take no byte while some wait to be sent.
    stall: Duration,
    /// Until when it must take some of what waits to be sent. Meanwhile nothing is read from it: else
    /// HTTP/2 would go on taking calls, and keep what it answers them in a buffer that has no limit.
    stalled: Option<Pin<Box<Sleep>>>,
    /// When it ends at the latest. Before, it is asked to; a stream that goes on could hold it open.
    end: Instant,
    _place: Place<IpAddr>,
}

impl Connected for Connection {
    type ConnectInfo = Line;

    fn connect_info(&self) -> Line {
        self.line.clone()
    }
}

impl Connection {
    /// Whether it has gone on for too long: its greeting, a response that is not read, or all of it.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if let Some((_, late)) = &mut self.greeting
            && late.as_mut().poll(context).is_ready()
        {
            return true;
        }
        if let Some(end) = &mut self.stalled
            && end.as_mut().poll(context).is_ready()
        {
            return true;
        }
        while self.rounds.poll_tick(context).is_ready() {
            if self.line.unread.next_round() || Instant::now() >= self.end {
                return true;
            }
        }
        false
    }
}

impl Connection {
    /// Whether what waits to be sent cannot be sent yet.
    fn is_stalled(&mut self, context: &mut Context<'_>) -> bool {
        if self.stalled.is_none() {
            return false;
        }
        let socket = match &self.stream {
            Transport::Plain(stream) => stream,
            Transport::Encrypted(stream) => stream.get_ref().0,
        };
        socket.poll_write_ready(context).is_pending()
    }

    /// Notes how a write or a flush ended.
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        self.stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        match self.is_over(context) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => Poll::Pending,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.line.unread.close();
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
        if self.is_stalled(context) {
            return match self.is_over(context) {
                true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                false => Poll::Pending,
            };
        }
        while !self.authorities.pass(buffer) {
            let before = buffer.filled().len();
            let read = on_stream!(self, stream => stream.poll_read(context, buffer));
            if read.is_pending() {
                return match self.is_over(context) {
                    true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    false => Poll::Pending,
                };
            }
            let fresh = &mut buffer.filled_mut()[before..];
            if fresh.is_empty() {
                return read;
            }
            if let Some((missing, _)) = &mut self.greeting {
                *missing = missing.saturating_sub(fresh.len());
                if *missing == 0 {
                    self.greeting = None;
                }
            }
            let whole = self.authorities.read(fresh);
            buffer.set_filled(before + whole);
            if whole > 0 {
                return read;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, stream => stream.poll_write(context, bytes));
        self.wrote(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on_stream!(self, stream => stream.poll_flush(context));
        if let Poll::Ready(Ok(())) = flushed {
            self.line.unread.flushed();
        }
        self.wrote(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, stream => stream.poll_write_vectored(context, parts));
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Limits;

    #[tokio::test]
    async fn a_connection_ends_at_its_age_whatever_goes_on_on_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            max_deadline: Duration::from_millis(100),
            ..Limits::default()
        };
        let (age, stop) = (Duration::from_millis(300), CancellationToken::new());
        let mut incoming = Box::pin(accept(listener, None, &limits, age, stop.clone()));
        let mut caller = TcpStream::connect(address).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        caller.write_all(&[b'x'; PREFACE]).await.unwrap();
        let mut greeting = [0; PREFACE];
        connection.read_exact(&mut greeting).await.unwrap();

        let begun = Instant::now();
        let end = tokio::time::timeout(Duration::from_secs(5), connection.read_u8()).await;
        assert_eq!(end.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(200), "too early");
        stop.cancel();
    }
}
