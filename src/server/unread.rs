//! Responses that the client has not read yet. A client that never reads costs itself nothing, while
//! the server holds the response, or the limits it counts for: so a response counts as unread, whether
//! it is a body or an error of headers alone, until the socket has taken its last byte, and there are
//! limits to how long that may take and to how many bytes may wait.

use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;

use crate::error::{LONGEST_MESSAGE, bounded_message};

/// A response is handed over in pieces of this many bytes: the rest of one that is not read stays
/// here, where it is counted.
const PIECE: usize = 16 * 1024;
/// The header that every response ends with, in its trailers or, for an error, in its only headers.
const STATUS: &str = "grpc-status";

/// What is held for a response, to be released when it is dropped.
pub type Held = Arc<dyn Send + Sync>;

/// The responses of one connection that the socket has not taken yet.
#[derive(Default)]
pub struct Unread {
    round: AtomicUsize,
    begun: [AtomicUsize; 3],
    encoded: Mutex<Encoded>,
}

/// What is held for responses that HTTP/2 has written into its buffer: it says only there that it is
/// done with them.
#[derive(Default)]
struct Encoded {
    held: Vec<Held>,
    closed: bool,
}

/// A response, until it is dropped.
pub struct Reading {
    unread: Arc<Unread>,
    round: usize,
}

impl Unread {
    /// Counts a response.
    pub fn begin(self: &Arc<Self>) -> Reading {
        let round = self.round.load(Ordering::Relaxed) % self.begun.len();
        self.begun[round].fetch_add(1, Ordering::Relaxed);
        Reading {
            unread: Arc::clone(self),
            round,
        }
    }

    /// Begins the next round. Tells whether a response waits that had a whole round to be read.
    pub fn next_round(&self) -> bool {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        // The oldest, whose number is the next one's: rounds are counted in a circle.
        self.begun[(round + 1) % self.begun.len()].load(Ordering::Relaxed) > 0
    }

    /// The socket has taken everything that HTTP/2 had in its buffer.
    pub fn flushed(&self) {
        let sent = mem::take(&mut self.encoded().held);
        drop(sent);
    }

    /// The connection is closed: nothing is sent any more.
    pub fn close(&self) {
        self.encoded().closed = true;
        self.flushed();
    }

    fn encoded(&self) -> MutexGuard<'_, Encoded> {
        self.encoded.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn hold_until_flushed(&self, held: Held) {
        let mut encoded = self.encoded();
        if !encoded.closed {
            encoded.held.push(held);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.unread.begun[self.round].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The value of a header, which HTTP/2 drops when it has encoded it.
struct Attached {
    value: HeaderValue,
    held: Option<Held>,
    unread: Option<Arc<Unread>>,
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        self.value.as_bytes()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let (Some(unread), Some(held)) = (&self.unread, self.held.take()) {
            unread.hold_until_flushed(held);
        }
    }
}

/// A response on its way out.
pub struct Outgoing {
    response: Response<Body>,
    first: Option<Option<Result<Frame<Bytes>, Status>>>,
    bytes: usize,
}

impl Outgoing {
    /// A stream, or an error of headers alone.
    pub fn new(response: Response<Body>) -> Self {
        Self {
            response,
            first: None,
            bytes: 0,
        }
    }

    /// A message, encoded now and not when the client reads it: then its size is known.
    pub fn encode(response: Response<Body>) -> Self {
        let mut outgoing = Self::new(response);
        if outgoing.response.body().is_end_stream() {
            return outgoing;
        }
        let mut context = Context::from_waker(Waker::noop());
        let body = Pin::new(outgoing.response.body_mut());
        if let Poll::Ready(first) = body.poll_frame(&mut context) {
            let data = first
                .as_ref()
                .and_then(|first| first.as_ref().ok()?.data_ref());
            let data = data.map(|data| (data.len(), exact(data)));
            outgoing.bytes = data.as_ref().map_or(0, |(length, _)| *length);
            outgoing.first = Some(match data {
                Some((_, Some(exact))) => Some(Ok(Frame::data(exact))),
                _ => first,
            });
        }
        outgoing
    }

    /// How many bytes its message has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds something until it is sent; without a connection, until it is read.
    pub fn until_sent(self, held: Held, unread: Option<Arc<Unread>>) -> Response<Body> {
        let holder = Holder { held, unread };
        let (mut parts, body) = self.response.into_parts();
        if self.first.is_none() && body.is_end_stream() {
            holder.attach_to(&mut parts.headers);
            return Response::from_parts(parts, body);
        }
        let pieces = Pieces {
            body,
            first: self.first,
            rest: Bytes::new(),
            holder: Some(holder),
        };
        Response::from_parts(parts, Body::new(pieces))
    }
}

/// A large message without the space that its buffer was grown by.
fn exact(data: &Bytes) -> Option<Bytes> {
    (data.len() > PIECE).then(|| Bytes::copy_from_slice(data))
}

struct Holder {
    held: Held,
    unread: Option<Arc<Unread>>,
}

impl Holder {
    /// Holds until HTTP/2 has encoded these headers, behind everything that it was given before.
    fn attach_to(self, headers: &mut HeaderMap) {
        shorten(headers);
        let Some(status) = headers.get_mut(STATUS) else {
            return;
        };
        let attached = Bytes::from_owner(Attached {
            value: status.clone(),
            held: Some(self.held),
            unread: self.unread,
        });
        if let Ok(mut attached) = HeaderValue::from_maybe_shared(attached) {
            // Otherwise HPACK's table would keep it.
            attached.set_sensitive(true);
            *status = attached;
        }
    }
}

/// What tonic says of an error repeats what was sent: it is cut as our own errors are.
fn shorten(headers: &mut HeaderMap) {
    if let Some(message) = headers.get("grpc-message")
        && message.len() > LONGEST_MESSAGE
        && let Some(status) = Status::from_header_map(headers)
    {
        let short = Status::new(status.code(), bounded_message(status.message()));
        // What it was made from was a header too.
        let _ = short.add_header(headers);
    }
}

/// The body of a response, handed over in pieces. What is held for it goes with the last one.
struct Pieces {
    body: Body,
    first: Option<Option<Result<Frame<Bytes>, Status>>>,
    rest: Bytes,
    holder: Option<Holder>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = match self.first.take() {
                Some(first) => first,
                None => match Pin::new(&mut self.body).poll_frame(context) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => return Poll::Pending,
                },
            };
            match frame {
                Some(Ok(frame)) if frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                // The trailers, or nothing more.
                last => {
                    let holder = self.holder.take();
                    return Poll::Ready(last.map(|last| {
                        last.map(|frame| match frame.into_trailers() {
                            Ok(mut trailers) => {
                                if let Some(holder) = holder {
                                    holder.attach_to(&mut trailers);
                                }
                                Frame::trailers(trailers)
                            }
                            Err(frame) => frame,
                        })
                    }));
                }
            }
        }
        let end = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(end);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_response_has_one_whole_round_and_two_at_most() {
        let unread = Arc::new(Unread::default());
        let read = unread.begin();
        assert!(!unread.next_round());
        drop(read);
        for _ in 0..10 {
            let waiting = unread.begin();
            assert!(!unread.next_round(), "it had a part of a round");
            assert!(unread.next_round(), "it had a whole one");
            drop(waiting);
            assert!(!unread.next_round());
        }
    }

    #[tokio::test]
    async fn what_is_held_goes_when_the_socket_has_taken_the_last_byte() {
        let unread = Arc::new(Unread::default());
        let held: Held = Arc::new(());
        let status = || HeaderMap::from_iter([(STATUS.parse().unwrap(), "5".parse().unwrap())]);
        let whole = || {
            let data = http_body_util::Full::new(Bytes::from(vec![7; 3 * PIECE]));
            let trailers = std::future::ready(Some(Ok(status())));
            Response::new(Body::new(data.with_trailers(trailers)))
        };
        let mut of_headers_alone = Response::new(Body::empty());
        *of_headers_alone.headers_mut() = status();
        for response in [whole(), of_headers_alone] {
            let outgoing = Outgoing::encode(response);
            let response = outgoing.until_sent(Arc::clone(&held), Some(Arc::clone(&unread)));
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap();
            let headers = body.trailers().unwrap_or(&parts.headers);
            assert_eq!(headers[STATUS], "5");
            assert!(Arc::strong_count(&held) > 1, "not even encoded");
            drop((parts, body));
            assert!(Arc::strong_count(&held) > 1, "encoded, but not sent");
            unread.flushed();
            assert_eq!(Arc::strong_count(&held), 1, "sent");
        }
        // What is dropped after its connection is not kept for it.
        let response = Outgoing::encode(whole());
        let response = response.until_sent(Arc::clone(&held), Some(Arc::clone(&unread)));
        unread.close();
        drop(response.into_body().collect().await.unwrap());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
