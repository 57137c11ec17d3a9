//! Caches the identities of recent callers, so that most calls need no database query to authenticate.
//!
//! An entry is valid for `TTL`, counted from before its query began. A revoked token is therefore refused on
//! every replica within that time. On the replica that revokes it, it is refused at once: a lookup that was in
//! flight during the revocation is not cached ([`LookupEpoch`]). After `REFRESH_AFTER`, the next caller still
//! gets the cached identity, and the entry is refreshed in the background: a caller with steady traffic never
//! waits for a query.
//!
//! This module never queries the database: [`super::look_up`] does, and inserts the result here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use uuid::Uuid;

use super::Identity;
use crate::core::call::TokenHash;

/// How long an entry is valid. The API contract promises 5 s for a revocation.
const TTL: Duration = Duration::from_secs(4);
/// The age at which an entry is refreshed in the background.
const REFRESH_AFTER: Duration = Duration::from_secs(2);
/// The maximum number of entries. The least recently used are evicted.
const MAX_ENTRIES: usize = 10_000;

/// The identities of recent callers, by token hash.
#[derive(Debug)]
pub struct IdentityCache {
    entries: Cache<TokenHash, Arc<Entry>>,
    /// The number of invalidations so far. The lock is held while an entry is inserted or invalidated, so that
    /// an invalidation cannot run between the check and the insertion.
    invalidations: Mutex<u64>,
}

/// The state of the cache when a lookup began. The result of a lookup that began before an invalidation may
/// have been read before the token was revoked, so it is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupEpoch {
    begin_time: Instant,
    invalidations: u64,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// When the session expires. None for an API key.
    expire_time: Option<DateTime<Utc>>,
    lookup_time: Instant,
    /// Whether a caller is refreshing the entry.
    is_refreshing: AtomicBool,
}

/// The result of a cache lookup.
pub enum Lookup {
    /// There is no valid entry.
    Miss,
    /// There is a valid entry.
    Hit {
        /// The owner of the token.
        identity: Identity,
        /// Whether this caller must refresh the entry in the background.
        refresh_due: bool,
    },
}

impl Default for IdentityCache {
    fn default() -> Self {
        Self {
            entries: Cache::new(MAX_ENTRIES),
            invalidations: Mutex::new(0),
        }
    }
}

impl IdentityCache {
    /// The owner of a token, if a valid entry exists. Only one caller at a time gets `refresh_due`.
    pub fn get(&self, hash: &TokenHash, now: DateTime<Utc>) -> Lookup {
        let Some(entry) = self.entries.get(hash) else {
            return Lookup::Miss;
        };
        let age = entry.lookup_time.elapsed();
        if age >= TTL || entry.expire_time.is_some_and(|time| time <= now) {
            return Lookup::Miss;
        }
        Lookup::Hit {
            identity: entry.identity.clone(),
            refresh_due: age >= REFRESH_AFTER && !entry.is_refreshing.swap(true, Ordering::Relaxed),
        }
    }

    /// Whether the token was valid at its last lookup, even if the entry has expired since.
    pub fn was_valid(&self, hash: &TokenHash) -> bool {
        self.entries.get(hash).is_some()
    }

    /// Must be called before the query of a lookup begins.
    pub fn begin_lookup(&self) -> LookupEpoch {
        LookupEpoch {
            invalidations: *self.lock(),
            begin_time: Instant::now(),
        }
    }

    /// Whether nothing was invalidated since a lookup began. If so, a call that arrives now can share its
    /// result.
    pub fn is_current(&self, epoch: LookupEpoch) -> bool {
        *self.lock() == epoch.invalidations
    }

    /// Caches the result of a lookup, unless something was invalidated since the lookup began.
    pub fn insert(
        &self,
        hash: TokenHash,
        identity: Identity,
        expire_time: Option<DateTime<Utc>>,
        epoch: LookupEpoch,
    ) {
        let entry = Entry {
            identity,
            expire_time,
            lookup_time: epoch.begin_time,
            is_refreshing: AtomicBool::new(false),
        };
        let invalidations = self.lock();
        if *invalidations == epoch.invalidations {
            self.entries.insert(hash, Arc::new(entry));
        }
    }

    /// Makes the next call refresh the entry again, after a background refresh failed.
    pub fn retry_refresh(&self, hash: &TokenHash) {
        if let Some(entry) = self.entries.get(hash) {
            entry.is_refreshing.store(false, Ordering::Relaxed);
        }
    }

    /// Removes a token. Must be called after the token is revoked in the database.
    pub fn invalidate(&self, hash: &TokenHash) {
        let mut invalidations = self.lock();
        *invalidations += 1;
        self.entries.remove(hash);
    }

    /// Removes all tokens of a principal. Must be called after they are revoked in the database.
    pub fn invalidate_principal(&self, id: Uuid) {
        let mut invalidations = self.lock();
        *invalidations += 1;
        self.entries
            .retain(|_, entry| entry.identity.principal.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.invalidations
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::call::{Principal, PrincipalKind};
    use crate::core::role::Role;

    const TOKEN: TokenHash = [7; 32];

    fn identity() -> Identity {
        Identity {
            principal: Arc::new(Principal {
                kind: PrincipalKind::Operator,
                id: Uuid::from_u128(1),
                name: "ada".to_owned(),
            }),
            role: Role::Sales,
            session: Some(TOKEN),
        }
    }

    fn is_cached(cache: &IdentityCache, hash: &TokenHash) -> bool {
        matches!(
            cache.get(hash, crate::core::clock::Clock::default().now()),
            Lookup::Hit { .. }
        )
    }

    #[test]
    fn a_result_read_before_a_revocation_is_not_cached_after_it() {
        let revocations: [fn(&IdentityCache); 2] = [
            |cache| cache.invalidate(&TOKEN),
            |cache| cache.invalidate_principal(Uuid::from_u128(1)),
        ];
        for revoke in revocations {
            let cache = IdentityCache::default();
            let epoch = cache.begin_lookup();
            cache.insert(TOKEN, identity(), None, epoch);
            assert!(is_cached(&cache, &TOKEN));
            // Two lookups are in flight while the token is revoked.
            let in_flight = [cache.begin_lookup(), cache.begin_lookup()];
            assert!(in_flight.iter().all(|epoch| cache.is_current(*epoch)));
            revoke(&cache);
            for epoch in in_flight {
                assert!(!cache.is_current(epoch));
                cache.insert(TOKEN, identity(), None, epoch);
                assert!(!is_cached(&cache, &TOKEN));
            }
            // A lookup that begins afterwards reads the current state.
            let epoch = cache.begin_lookup();
            cache.insert(TOKEN, identity(), None, epoch);
            assert!(is_cached(&cache, &TOKEN));
        }
    }
}
