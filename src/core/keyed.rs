//! A concurrency limit for each key: a limited number of concurrent holders, and a bounded FIFO queue.
//! Unused keys take no memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Semaphores by key.
#[derive(Debug)]
pub struct KeyedSemaphore<K> {
    permits: usize,
    max_users: usize,
    keys: Mutex<HashMap<K, Key>>,
}

#[derive(Debug)]
struct Key {
    semaphore: Arc<Semaphore>,
    users: usize,
}

/// A place in the queue of a key, and then a permit. Dropping it releases both.
#[derive(Debug)]
pub struct Ticket<K: Eq + Hash> {
    owner: Arc<KeyedSemaphore<K>>,
    key: K,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash + Copy> KeyedSemaphore<K> {
    /// `permits` is the number of concurrent holders of a key; `max_users` limits the holders and waiters
    /// together.
    pub fn new(permits: usize, max_users: usize) -> Arc<Self> {
        Arc::new(Self {
            permits,
            max_users,
            keys: Mutex::default(),
        })
    }

    /// Enters the queue of `key`. Returns `None` if the queue is full.
    pub fn enter(self: &Arc<Self>, key: K) -> Option<Ticket<K>> {
        let mut keys = self.keys();
        let entry = keys.entry(key).or_insert_with(|| Key {
            semaphore: Arc::new(Semaphore::new(self.permits)),
            users: 0,
        });
        if entry.users >= self.max_users {
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
        self.keys
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<K: Eq + Hash> Ticket<K> {
    /// Waits for a permit, which is held until the ticket is dropped.
    ///
    /// # Errors
    /// Never, because the semaphore is not closed.
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
