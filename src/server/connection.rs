//! An accepted connection. It closes itself when the client does not send the HTTP/2 preface in time, does not read its
//! responses, or has reached the maximum age.
//!
//! It is written by hand because neither tonic nor hyper limits how long a response may stay unread or how many bytes
//! HTTP/2 buffers for a client that does not read. It must not know calls or services.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::authority::{AuthorityRewriter, PREFACE};
use super::concurrency_limit::ConcurrencyPermit;
use super::unread::UnreadResponses;
use crate::auth::peer::Peer;

/// How long a client may take for the TLS handshake, and then again for the HTTP/2 preface.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long before the connection is closed at the latest its streams end. By then the client was asked to leave, so
/// that it begins the next stream on another connection.
const STREAM_END: Duration = Duration::from_secs(45);

/// The socket, with or without TLS.
pub enum Transport {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What a call knows of its connection.
#[derive(Clone)]
pub struct ConnectInfo {
    pub peer: Peer,
    pub unread: Arc<UnreadResponses>,
    /// When a stream has to end, so that the connection can be closed.
    pub stream_end: Instant,
}

/// The time limits of a connection.
pub struct Timeouts {
    /// How often the connection is checked for unread responses.
    pub unread_interval: Duration,
    /// How long the connection may accept no byte while some wait to be sent.
    pub stall: Duration,
    /// When the connection is closed at the latest. Clients are asked to leave before; without this limit a stream
    /// that does not end could hold the connection open.
    pub end: Instant,
}

pub struct Connection {
    stream: Transport,
    authorities: AuthorityRewriter,
    info: ConnectInfo,
    /// How many bytes of the HTTP/2 preface are missing, and the timer until which they must arrive.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    unread_checks: Interval,
    stall_timeout: Duration,
    /// Runs while bytes that wait to be sent are not accepted. Meanwhile nothing is read from the connection:
    /// otherwise HTTP/2 would continue to accept calls and keep their responses in a buffer that has no limit.
    stalled: Option<Pin<Box<Sleep>>>,
    end: Instant,
    _permit: ConcurrencyPermit<IpAddr>,
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl Connection {
    pub fn new(
        stream: Transport,
        peer: Peer,
        timeouts: Timeouts,
        permit: ConcurrencyPermit<IpAddr>,
    ) -> Self {
        let interval = timeouts.unread_interval;
        Self {
            stream,
            authorities: AuthorityRewriter::new(),
            info: ConnectInfo {
                peer,
                unread: Arc::default(),
                stream_end: timeouts.end.checked_sub(STREAM_END).unwrap_or(timeouts.end),
            },
            preface: Some((PREFACE, Box::pin(tokio::time::sleep(HANDSHAKE_TIMEOUT)))),
            unread_checks: tokio::time::interval_at(Instant::now() + interval, interval),
            stall_timeout: timeouts.stall,
            stalled: None,
            end: timeouts.end,
            _permit: permit,
        }
    }

    /// Whether a time limit of the connection has expired.
    fn is_expired(&mut self, context: &mut Context<'_>) -> bool {
        if let Some((_, timeout)) = &mut self.preface
            && timeout.as_mut().poll(context).is_ready()
        {
            return true;
        }
        if let Some(timeout) = &mut self.stalled
            && timeout.as_mut().poll(context).is_ready()
        {
            return true;
        }
        while self.unread_checks.poll_tick(context).is_ready() {
            if self.info.unread.next_round() || Instant::now() >= self.end {
                return true;
            }
        }
        false
    }

    /// Whether bytes that wait to be sent still cannot be sent.
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

    /// Starts or stops the stall timeout by the outcome of a write or a flush.
    fn track_stall<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stall_timeout = self.stall_timeout;
        self.stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_timeout)));
        self.pending(context)
    }

    /// Pending, or an error when a time limit has expired.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.is_expired(context) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => Poll::Pending,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.info.unread.close();
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
            return self.pending(context);
        }
        while !self.authorities.drain_into(buffer) {
            let before = buffer.filled().len();
            let read = on_stream!(self, stream => stream.poll_read(context, buffer));
            if read.is_pending() {
                return self.pending(context);
            }
            let fresh = &mut buffer.filled_mut()[before..];
            if fresh.is_empty() {
                return read;
            }
            if let Some((missing, _)) = &mut self.preface {
                *missing = missing.saturating_sub(fresh.len());
                if *missing == 0 {
                    self.preface = None;
                }
            }
            let complete = self.authorities.rewrite(fresh);
            buffer.set_filled(before + complete);
            if complete > 0 {
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
        self.track_stall(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on_stream!(self, stream => stream.poll_flush(context));
        if let Poll::Ready(Ok(())) = flushed {
            self.info.unread.flushed();
        }
        self.track_stall(context, flushed)
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
        self.track_stall(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}
