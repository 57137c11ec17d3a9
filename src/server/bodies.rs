//! What comes in and goes out, limited in time. A caller who sends its message a byte at a time, or
//! never takes its answer, costs itself nothing, while the server holds a place or the answer for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use crate::error::Error;

/// How long a call's message may take to come.
const MESSAGE: Duration = Duration::from_secs(5);
/// An answer is handed over in pieces of this many bytes: the rest of one that nobody takes stays
/// here, where it is known of.
const PIECE: usize = 16 * 1024;

/// A request whose message has to come in time.
pub struct Timely {
    body: Body,
    /// Begins when the message has to be waited for: mostly it is there already.
    late: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    pub fn wrap(body: Body) -> Body {
        Body::new(Self { body, late: None })
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            let late = self
                .late
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(MESSAGE)));
            if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(Error::DeadlineExceeded.into())));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// An answer, handed over in pieces. What is held for it is let go with its last one.
pub struct Answer<T> {
    body: Body,
    rest: Bytes,
    held: Option<T>,
}

impl<T: Send + Unpin + 'static> Answer<T> {
    pub fn wrap(body: Body, held: T) -> Body {
        // An error is told by headers alone.
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            body,
            rest: Bytes::new(),
            held: Some(held),
        })
    }
}

impl<T: Unpin> http_body::Body for Answer<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                Poll::Pending => return Poll::Pending,
                // The trailers, or nothing more.
                Poll::Ready(last) => {
                    self.held = None;
                    return Poll::Ready(last);
                }
            }
        }
        let end = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(end);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

/// The answers of one connection that are not taken yet, counted by the round they began in.
#[derive(Debug, Default)]
pub struct Unread {
    round: AtomicUsize,
    begun: [AtomicUsize; 3],
}

/// One of them, until it is dropped.
pub struct Reading {
    unread: Arc<Unread>,
    round: usize,
}

impl Unread {
    /// Counts an answer.
    pub fn begin(self: &Arc<Self>) -> Reading {
        let round = self.round.load(Ordering::Relaxed) % self.begun.len();
        self.begun[round].fetch_add(1, Ordering::Relaxed);
        Reading {
            unread: Arc::clone(self),
            round,
        }
    }

    /// Begins the next round. Tells whether an answer waits that had a whole round to be taken.
    pub fn next_round(&self) -> bool {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        // The oldest, whose number is the next one's: rounds are counted in a circle.
        self.begun[(round + 1) % self.begun.len()].load(Ordering::Relaxed) > 0
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.unread.begun[self.round].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Unread;

    #[test]
    fn an_answer_has_one_whole_round_and_two_at_most() {
        let unread = Arc::new(Unread::default());
        let taken = unread.begin();
        assert!(!unread.next_round());
        drop(taken);
        for _ in 0..10 {
            let waiting = unread.begin();
            assert!(!unread.next_round(), "it had a part of a round");
            assert!(unread.next_round(), "it had a whole one");
            drop(waiting);
            assert!(!unread.next_round());
        }
    }
}
