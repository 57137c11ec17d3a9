//! How many bytes of responses may be unread at once. A principal that makes calls and does not read the
//! responses has the server keep them in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::error::{Error, Result};

/// Above how many bytes a response counts. How many smaller ones there are is limited by the number of
/// calls.
pub const SMALL: usize = 16 * 1024;

/// How many bytes of responses may be unread at once, of each principal and in all.
pub struct UnreadBytes {
    all: usize,
    each: usize,
    total: AtomicUsize,
    by: Mutex<HashMap<Uuid, usize>>,
}

/// Bytes that are unread, until it is dropped.
pub struct Taken {
    limits: Arc<UnreadBytes>,
    of: Uuid,
    bytes: usize,
}

impl UnreadBytes {
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            total: AtomicUsize::new(0),
            by: Mutex::default(),
        })
    }

    /// Whether a principal may call: what it left unread is less than its limit.
    ///
    /// # Errors
    /// [`Error::ResponsesUnread`].
    pub fn check(&self, of: Uuid) -> Result<()> {
        // Without the lock as long as nobody can have reached the limit.
        if self.total.load(Ordering::Relaxed) < self.each {
            return Ok(());
        }
        match self.by().get(&of) {
            Some(bytes) if *bytes >= self.each => Err(self.full()),
            _ => Ok(()),
        }
    }

    /// Counts a response.
    ///
    /// # Errors
    /// [`Error::ResponsesUnread`] when it is one too many, of the principal or in all.
    pub fn take(self: &Arc<Self>, of: Uuid, bytes: usize) -> Result<Taken> {
        let mut by = self.by();
        let all = self.total.load(Ordering::Relaxed);
        let unread = by.get(&of).copied().unwrap_or(0);
        let over = all + bytes > self.all || unread + bytes > self.each;
        if over {
            return Err(self.full());
        }
        by.insert(of, unread + bytes);
        self.total.store(all + bytes, Ordering::Relaxed);
        Ok(Taken {
            limits: Arc::clone(self),
            of,
            bytes,
        })
    }

    fn full(&self) -> Error {
        Error::ResponsesUnread { limit: self.each }
    }

    fn by(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.by.lock().unwrap_or_else(|held| held.into_inner())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut by = self.limits.by();
        self.limits.total.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(unread) = by.get_mut(&self.of) {
            *unread -= self.bytes;
            if *unread == 0 {
                by.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_limited_for_each_principal_and_in_all() {
        let (all, each) = (100, 60);
        let limits = UnreadBytes::new(all, each);
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let first = limits.take(one, 60).unwrap();
        assert!(limits.check(one).is_err() && limits.check(other).is_ok());
        assert!(limits.take(one, 1).is_err(), "its own limit");
        assert!(limits.take(other, 41).is_err(), "the limit of all");
        let second = limits.take(other, 40).unwrap();
        drop(first);
        assert!(limits.check(one).is_ok());
        assert!(limits.take(other, 21).is_err());
        drop(second);
        assert_eq!(limits.total.load(Ordering::Relaxed), 0);
        assert!(limits.by().is_empty());
    }
}
