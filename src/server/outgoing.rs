//! A response on its way to the client. It holds the permits of its call until the socket has accepted its last byte.
//!
//! It is written by hand because tonic and hyper drop a response when HTTP/2 has taken it over, not when it has been
//! sent. HTTP/2 drops the value of a header once it has encoded it, and headers are encoded in the order of the data
//! before them: so the guard of a response is attached to the value of its last header, `grpc-status`. The module must
//! not know what the guard holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::{Code, Status};

use super::unread::{Guard, UnreadResponses};
use crate::error::{LONGEST_MESSAGE, bounded_message};

/// A response is passed to HTTP/2 in pieces of this many bytes. The rest of a response that is not read stays here,
/// where it is counted.
const PIECE: usize = 16 * 1024;
/// The header that every response ends with: in its trailers or, for an error without a body, in its headers.
const STATUS: &str = "grpc-status";

/// A response that is ready to be sent.
pub struct OutgoingResponse {
    response: Response<Body>,
    first: Option<Option<Result<Frame<Bytes>, Status>>>,
    bytes: usize,
}

impl OutgoingResponse {
    /// For a stream, or an error of headers alone.
    pub fn new(response: Response<Body>) -> Self {
        Self {
            response,
            first: None,
            bytes: 0,
        }
    }

    /// For a single message. It is encoded now and not when the client reads it, so that its size is known.
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
            let data = data.map(|data| (data.len(), copy_if_large(data)));
            outgoing.bytes = data.as_ref().map_or(0, |(length, _)| *length);
            outgoing.first = Some(match data {
                Some((_, Some(copy))) => Some(Ok(Frame::data(copy))),
                _ => first,
            });
        }
        outgoing
    }

    /// The code that the response ends with, as far as it is known: OK for a message that was encoded, and for a stream.
    pub fn code(&self) -> Code {
        let trailers = match &self.first {
            Some(Some(Ok(frame))) => frame.trailers_ref(),
            Some(Some(Err(_)) | None) | None => None,
        };
        let headers = trailers.unwrap_or(self.response.headers());
        let status = headers.get(STATUS);
        status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
    }

    /// The response itself.
    pub fn response(&mut self) -> &mut Response<Body> {
        &mut self.response
    }

    /// The size of the encoded message, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `guard` until the response is sent or, without a connection, until it is read.
    pub fn hold_until_sent(
        self,
        guard: Guard,
        unread: Option<Arc<UnreadResponses>>,
    ) -> Response<Body> {
        let guard = PendingGuard { guard, unread };
        let (mut parts, body) = self.response.into_parts();
        if self.first.is_none() && body.is_end_stream() {
            guard.attach_to(&mut parts.headers);
            return Response::from_parts(parts, body);
        }
        let body = GuardedBody {
            body,
            first: self.first,
            rest: Bytes::new(),
            guard: Some(guard),
        };
        Response::from_parts(parts, Body::new(body))
    }
}

/// A copy of a large message without the spare capacity of the buffer that it was encoded into.
fn copy_if_large(data: &Bytes) -> Option<Bytes> {
    (data.len() > PIECE).then(|| Bytes::copy_from_slice(data))
}

/// A guard that is not attached to a header yet.
struct PendingGuard {
    guard: Guard,
    unread: Option<Arc<UnreadResponses>>,
}

impl PendingGuard {
    /// Holds the guard until HTTP/2 has encoded these headers, which it does after all data that it received before.
    fn attach_to(self, headers: &mut HeaderMap) {
        bound_message(headers);
        let Some(status) = headers.get_mut(STATUS) else {
            return;
        };
        let guarded = Bytes::from_owner(GuardedValue {
            value: status.clone(),
            guard: Some(self.guard),
            unread: self.unread,
        });
        if let Ok(mut guarded) = HeaderValue::from_maybe_shared(guarded) {
            // Otherwise HPACK's header table would keep the value.
            guarded.set_sensitive(true);
            *status = guarded;
        }
    }
}

/// Truncates an error message of tonic, which can repeat what the client sent, to the limit of the server's own
/// error messages.
fn bound_message(headers: &mut HeaderMap) {
    if let Some(message) = headers.get("grpc-message")
        && message.len() > LONGEST_MESSAGE
        && let Some(status) = Status::from_header_map(headers)
    {
        let bounded = Status::new(status.code(), bounded_message(status.message()));
        // It cannot fail: the longer message was a valid header too.
        let _ = bounded.add_header(headers);
    }
}

/// The value of a header. HTTP/2 drops it when it has encoded it.
struct GuardedValue {
    value: HeaderValue,
    guard: Option<Guard>,
    unread: Option<Arc<UnreadResponses>>,
}

impl AsRef<[u8]> for GuardedValue {
    fn as_ref(&self) -> &[u8] {
        self.value.as_bytes()
    }
}

impl Drop for GuardedValue {
    fn drop(&mut self) {
        if let (Some(unread), Some(guard)) = (&self.unread, self.guard.take()) {
            unread.hold_until_flushed(guard);
        }
    }
}

/// The body of a response, passed on in pieces. Its guard is attached to the trailers.
struct GuardedBody {
    body: Body,
    first: Option<Option<Result<Frame<Bytes>, Status>>>,
    rest: Bytes,
    guard: Option<PendingGuard>,
}

impl http_body::Body for GuardedBody {
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
                // The trailers, an error, or the end.
                last => {
                    let guard = self.guard.take();
                    return Poll::Ready(last.map(|last| {
                        last.map(|frame| match frame.into_trailers() {
                            Ok(mut trailers) => {
                                if let Some(guard) = guard {
                                    guard.attach_to(&mut trailers);
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

    #[tokio::test]
    async fn a_guard_is_released_when_the_socket_has_accepted_the_last_byte() {
        let unread = Arc::new(UnreadResponses::default());
        let guard: Guard = Arc::new(());
        let status = || HeaderMap::from_iter([(STATUS.parse().unwrap(), "5".parse().unwrap())]);
        let with_body = || {
            let data = http_body_util::Full::new(Bytes::from(vec![7; 3 * PIECE]));
            let trailers = std::future::ready(Some(Ok(status())));
            Response::new(Body::new(data.with_trailers(trailers)))
        };
        let mut headers_only = Response::new(Body::empty());
        *headers_only.headers_mut() = status();
        for response in [with_body(), headers_only] {
            let outgoing = OutgoingResponse::encode(response);
            let response = outgoing.hold_until_sent(Arc::clone(&guard), Some(Arc::clone(&unread)));
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap();
            let headers = body.trailers().unwrap_or(&parts.headers);
            assert_eq!(headers[STATUS], "5");
            assert!(Arc::strong_count(&guard) > 1, "not encoded yet");
            drop((parts, body));
            assert!(Arc::strong_count(&guard) > 1, "encoded, but not sent");
            unread.flushed();
            assert_eq!(Arc::strong_count(&guard), 1, "sent");
        }
        // A guard that is dropped after its connection was closed is not kept.
        let response = OutgoingResponse::encode(with_body());
        let response = response.hold_until_sent(Arc::clone(&guard), Some(Arc::clone(&unread)));
        unread.close();
        drop(response.into_body().collect().await.unwrap());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
