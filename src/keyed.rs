//! A concurrency limit for each key: so many holders of one key at once, and a limited queue behind
//! them in the order of arrival. Keys that nobody uses take no memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Semaphores by key.
#[derive(Debug)]
pub struct KeyedSemaphore<K> {
    permits: usize,
    longest: usize,
    keys: Mutex<HashMap<K, Key>>,
}

#[derive(Debug)]
struct Key {
    semaphore: Arc<Semaphore>,
    users: usize,
}

/// A place in the queue of a key. Dropping it leaves the queue and releases the permit.
#[derive(Debug)]
pub struct Ticket<K: Eq + Hash> {
    owner: Arc<KeyedSemaphore<K>>,
    key: K,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash + Copy> KeyedSemaphore<K> {
    /// `permits` holders of a key at once; `longest` of them and of those who wait, together.
    pub fn new(permits: usize, longest: usize) -> Arc<Self> {
        Arc::new(Self {
            permits,
            longest,
            keys: Mutex::default(),
        })
    }

    /// A place in the queue of `key`; none when the queue is full.
    pub fn enter(self: &Arc<Self>, key: K) -> Option<Ticket<K>> {
        let mut keys = self.keys();
        let entry = keys.entry(key).or_insert_with(|| Key {
            semaphore: Arc::new(Semaphore::new(self.permits)),
            users: 0,
        });
        if entry.users >= self.longest {
            return None;
        }
        entry.users += 1;
        Some(Ticket {
            owner: Arc::clone(self),
            key,
            semaphore: Arc::clone(&entry.semaphore),
            permit: None,
        })
    }
}

impl<K> KeyedSemaphore<K> {
    fn keys(&self) -> MutexGuard<'_, HashMap<K, Key>> {
        self.keys.lock().unwrap_or_else(|held| held.into_inner())
    }
}

impl<K: Eq + Hash> Ticket<K> {
    /// Waits for a permit, and holds it until the ticket is dropped.
    ///
    /// # Errors
    /// Never: the semaphore is not closed.
    pub async fn acquire(&mut self) -> Result<(), AcquireError> {
        self.permit = Some(Arc::clone(&self.semaphore).acquire_owned().await?);
        Ok(())
    }
}

impl<K: Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut keys = self.owner.keys();
        if let Some(entry) = keys.get_mut(&self.key) {
            entry.users -= 1;
            if entry.users == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::KeyedSemaphore;

    #[test]
    fn each_key_has_permits_and_a_queue_of_its_own() {
        let keyed = KeyedSemaphore::new(1, 2);
        let mut first = keyed.enter('a').unwrap();
        let mut second = keyed.enter('a').unwrap();
        assert!(keyed.enter('a').is_none(), "the queue is full");
        assert!(first.acquire().now_or_never().is_some());
        assert!(second.acquire().now_or_never().is_none(), "has to wait");
        let mut other = keyed.enter('b').unwrap();
        assert!(other.acquire().now_or_never().is_some());

        drop(first);
        assert!(second.acquire().now_or_never().is_some());
        drop((second, other));
        assert!(keyed.keys().is_empty());
    }
}
