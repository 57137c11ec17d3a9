//! Who called lately, so that a call need not ask the database who makes it.
//!
//! What was found out is trusted for `TRUSTED`, counted from before the question was put. So a
//! token that is revoked, anywhere, is refused on every replica within that time; on the replica
//! that revokes it, at once. In the second half of it the next caller is still let in, and the
//! question is put anew in the background: who calls all the time never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use uuid::Uuid;

use super::Identity;
use super::tokens::TokenHash;

/// For how long what was found out about a token is trusted. The contract says 5 s.
const TRUSTED: Duration = Duration::from_secs(4);
/// After which part of that the question is put anew.
const STALE: Duration = Duration::from_secs(2);
/// How many tokens are known at once; those least used give way.
const TOKENS: usize = 10_000;

/// Who called lately.
#[derive(Debug)]
pub struct Known(Cache<TokenHash, Arc<Entry>>);

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// When the session ends by itself; never for an API key.
    expire_time: Option<DateTime<Utc>>,
    asked: Instant,
    asked_anew: AtomicBool,
}

/// What is known of a token.
pub enum Who {
    /// Nothing that can be trusted.
    Unknown,
    /// Who it is; with `stale`, this caller is to put the question anew.
    Known {
        /// Who.
        identity: Identity,
        /// Whether to ask anew.
        stale: bool,
    },
}

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(TOKENS))
    }
}

impl Known {
    /// Who a token belongs to.
    pub fn get(&self, hash: &TokenHash, now: DateTime<Utc>) -> Who {
        let Some(entry) = self.0.get(hash) else {
            return Who::Unknown;
        };
        let age = entry.asked.elapsed();
        if age >= TRUSTED || entry.expire_time.is_some_and(|time| time <= now) {
            return Who::Unknown;
        }
        Who::Known {
            identity: entry.identity.clone(),
            stale: age >= STALE && !entry.asked_anew.swap(true, Ordering::Relaxed),
        }
    }

    /// Takes in what the question put at `asked` was answered.
    pub fn put(
        &self,
        hash: TokenHash,
        identity: Identity,
        expire_time: Option<DateTime<Utc>>,
        asked: Instant,
    ) {
        let entry = Entry {
            identity,
            expire_time,
            asked,
            asked_anew: AtomicBool::new(false),
        };
        self.0.insert(hash, Arc::new(entry));
    }

    /// Forgets a token.
    pub fn forget(&self, hash: &TokenHash) {
        self.0.remove(hash);
    }

    /// Forgets every token of a principal.
    pub fn forget_principal(&self, id: Uuid) {
        self.0.retain(|_, entry| entry.identity.principal.id != id);
    }
}
