//! A concurrency limit in all and for each key. It limits how much capacity anonymous callers can use, how much of it
//! one address can use, and that no principal uses all of the capacity.
//!
//! It depends on nothing else of the server. It differs from `core::keyed`, whose callers wait in a queue: here a
//! caller that exceeds the limit is rejected immediately.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

/// Permits of one kind, counted by `K`.
pub struct KeyedConcurrencyLimit<K> {
    max_total: usize,
    max_per_key: usize,
    usage: Mutex<Usage<K>>,
}

struct Usage<K> {
    total: usize,
    by_key: HashMap<K, usize>,
}

/// A permit, released when dropped.
pub struct ConcurrencyPermit<K: Eq + Hash> {
    limit: Arc<KeyedConcurrencyLimit<K>>,
    key: K,
}

impl<K: Eq + Hash + Copy> KeyedConcurrencyLimit<K> {
    pub fn new(max_total: usize, max_per_key: usize) -> Arc<Self> {
        Arc::new(Self {
            max_total,
            max_per_key,
            usage: Mutex::new(Usage {
                total: 0,
                by_key: HashMap::new(),
            }),
        })
    }

    /// A permit, or none when a limit is reached.
    pub fn try_acquire(self: &Arc<Self>, key: K) -> Option<ConcurrencyPermit<K>> {
        let mut usage = self.usage();
        // Read before inserting: a rejected key must leave no entry behind.
        let used = usage.by_key.get(&key).copied().unwrap_or(0);
        if usage.total >= self.max_total || used >= self.max_per_key {
            return None;
        }
        usage.total += 1;
        usage.by_key.insert(key, used + 1);
        Some(ConcurrencyPermit {
            limit: Arc::clone(self),
            key,
        })
    }

    /// The number of permits in all.
    pub fn max_total(&self) -> usize {
        self.max_total
    }

    /// The number of permits in use.
    pub fn in_use(&self) -> usize {
        self.usage().total
    }
}

impl<K> KeyedConcurrencyLimit<K> {
    fn usage(&self) -> MutexGuard<'_, Usage<K>> {
        self.usage
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<K: Eq + Hash> Drop for ConcurrencyPermit<K> {
    fn drop(&mut self) {
        let mut usage = self.limit.usage();
        usage.total -= 1;
        if let Some(used) = usage.by_key.get_mut(&self.key) {
            *used -= 1;
            if *used == 0 {
                usage.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KeyedConcurrencyLimit;
    use crate::auth::peer::network;

    #[test]
    fn each_address_is_limited_and_a_rejected_one_leaves_no_entry() {
        let limit = KeyedConcurrencyLimit::new(3, 2);
        let acquire = |address: &str| limit.try_acquire(network(address.parse().unwrap()));
        let held = [acquire("2001:db8::1"), acquire("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        // The third address of one customer's network, then an address of another.
        assert!(acquire("2001:db8::3").is_none());
        let other = acquire("::ffff:192.0.2.1");
        assert!(other.is_some());
        assert!(acquire("192.0.2.2").is_none(), "the total is reached");
        assert_eq!(limit.usage.lock().unwrap().by_key.len(), 2);
        drop((held, other));
        assert_eq!(limit.in_use(), 0);
        assert!(limit.usage.lock().unwrap().by_key.is_empty());
    }
}
