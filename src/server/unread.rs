//! Counts the responses of a connection that the client has not read yet.
//!
//! A client that never reads has no cost, while the server keeps the response and the permits of its call. So a
//! response, whether it has a body or is an error of headers alone, counts as unread until the socket has accepted its
//! last byte. The time that this may take is limited by the connection, the number of unread bytes by `unread_bytes`.
//! The module must not know what the guards hold.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a response occupies. It is released when the last reference is dropped.
pub type Guard = Arc<dyn Send + Sync>;

/// The responses of one connection that the socket has not accepted yet.
#[derive(Default)]
pub struct UnreadResponses {
    round: AtomicUsize,
    /// The number of unread responses by the round in which they began. Three rounds are enough: older responses
    /// close the connection.
    by_round: [AtomicUsize; 3],
    encoded: Mutex<Encoded>,
}

/// The guards of responses that HTTP/2 has written into its buffer. They are released at the next flush, because
/// HTTP/2 does not report when it has sent a single response.
#[derive(Default)]
struct Encoded {
    guards: Vec<Guard>,
    closed: bool,
}

/// Counts a response as unread until dropped.
pub struct UnreadResponse {
    responses: Arc<UnreadResponses>,
    round: usize,
}

impl UnreadResponses {
    /// Counts a response.
    pub fn begin(self: &Arc<Self>) -> UnreadResponse {
        let round = self.round.load(Ordering::Relaxed) % self.by_round.len();
        self.by_round[round].fetch_add(1, Ordering::Relaxed);
        UnreadResponse {
            responses: Arc::clone(self),
            round,
        }
    }

    /// Begins the next round. Returns whether a response is unread that could have been read for a whole round.
    pub fn next_round(&self) -> bool {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        // The slot of the oldest round, which is also the slot of the next one: the slots form a ring.
        self.by_round[(round + 1) % self.by_round.len()].load(Ordering::Relaxed) > 0
    }

    /// The socket has accepted everything that HTTP/2 had in its buffer.
    pub fn flushed(&self) {
        let sent = mem::take(&mut self.encoded().guards);
        drop(sent);
    }

    /// The connection is closed, so nothing more is sent.
    pub fn close(&self) {
        self.encoded().closed = true;
        self.flushed();
    }

    /// Holds the guard of a response that HTTP/2 has encoded until the next flush.
    pub fn hold_until_flushed(&self, guard: Guard) {
        let mut encoded = self.encoded();
        if !encoded.closed {
            encoded.guards.push(guard);
        }
    }

    fn encoded(&self) -> MutexGuard<'_, Encoded> {
        self.encoded
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for UnreadResponse {
    fn drop(&mut self) {
        self.responses.by_round[self.round].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_may_be_unread_for_one_whole_round_and_two_at_most() {
        let responses = Arc::new(UnreadResponses::default());
        let read = responses.begin();
        assert!(!responses.next_round());
        drop(read);
        for _ in 0..10 {
            let unread = responses.begin();
            assert!(!responses.next_round(), "it had a part of a round");
            assert!(responses.next_round(), "it had a whole round");
            drop(unread);
            assert!(!responses.next_round());
        }
    }
}
