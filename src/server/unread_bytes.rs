//! Limits how many bytes of responses may be unread at once, for each principal and in all. Otherwise a principal that
//! makes calls and does not read the responses could fill the server's memory. It knows a principal only by its id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::error::{Error, Result};

/// Responses up to this size, in bytes, are not counted: the concurrency limits of calls bound their total.
pub const SMALL: usize = 16 * 1024;

/// The unread bytes of all responses, with their limits.
pub struct UnreadBytes {
    max_total: usize,
    max_per_principal: usize,
    total: AtomicUsize,
    by_principal: Mutex<HashMap<Uuid, usize>>,
}

/// Bytes that count as unread until this is dropped.
pub struct CountedBytes {
    unread: Arc<UnreadBytes>,
    principal: Uuid,
    bytes: usize,
}

impl UnreadBytes {
    pub fn new(max_total: usize, max_per_principal: usize) -> Arc<Self> {
        Arc::new(Self {
            max_total,
            max_per_principal,
            total: AtomicUsize::new(0),
            by_principal: Mutex::default(),
        })
    }

    /// Checks that the unread bytes of a principal are below its limit.
    ///
    /// # Errors
    /// `RESPONSES_UNREAD` when they are not.
    pub fn check(&self, principal: Uuid) -> Result<()> {
        // Avoids the lock as long as no principal can have reached its limit.
        if self.total.load(Ordering::Relaxed) < self.max_per_principal {
            return Ok(());
        }
        match self.by_principal().get(&principal) {
            Some(bytes) if *bytes >= self.max_per_principal => Err(self.exceeded()),
            _ => Ok(()),
        }
    }

    /// Counts the bytes of a response.
    ///
    /// # Errors
    /// `RESPONSES_UNREAD` when they would exceed the limit of the principal or the total.
    pub fn count(self: &Arc<Self>, principal: Uuid, bytes: usize) -> Result<CountedBytes> {
        let mut by_principal = self.by_principal();
        let total = self.total.load(Ordering::Relaxed);
        let unread = by_principal.get(&principal).copied().unwrap_or(0);
        let over = total + bytes > self.max_total || unread + bytes > self.max_per_principal;
        if over {
            return Err(self.exceeded());
        }
        by_principal.insert(principal, unread + bytes);
        self.total.store(total + bytes, Ordering::Relaxed);
        Ok(CountedBytes {
            unread: Arc::clone(self),
            principal,
            bytes,
        })
    }

    /// How many bytes are unread, and how many may be.
    pub fn usage(&self) -> (usize, usize) {
        (self.total.load(Ordering::Relaxed), self.max_total)
    }

    fn exceeded(&self) -> Error {
        super::errors::responses_unread(self.max_per_principal)
    }

    fn by_principal(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.by_principal
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        let mut by_principal = self.unread.by_principal();
        self.unread.total.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(unread) = by_principal.get_mut(&self.principal) {
            *unread -= self.bytes;
            if *unread == 0 {
                by_principal.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_limited_for_each_principal_and_in_all() {
        let (max_total, max_per_principal) = (100, 60);
        let unread = UnreadBytes::new(max_total, max_per_principal);
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let first = unread.count(one, 60).unwrap();
        assert!(unread.check(one).is_err() && unread.check(other).is_ok());
        assert!(unread.count(one, 1).is_err(), "the limit of the principal");
        assert!(unread.count(other, 41).is_err(), "the limit of the total");
        let second = unread.count(other, 40).unwrap();
        drop(first);
        assert!(unread.check(one).is_ok());
        assert!(unread.count(other, 21).is_err());
        drop(second);
        assert_eq!(unread.total.load(Ordering::Relaxed), 0);
        assert!(unread.by_principal().is_empty());
    }
}
