//! Who called lately, so that a call need not ask the database who makes it.
//!
//! What was found out is trusted for `TRUSTED`, counted from before the question was put. So a
//! token that is revoked, anywhere, is refused on every replica within that time; on the replica
//! that revokes it, at once: a look-up that was under way then is not taken in ([`Asked`]). In the
//! second half of it the next caller is still admitted, and the
//! question is put anew in the background: who calls all the time never waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
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
pub struct Known {
    entries: Cache<TokenHash, Arc<Entry>>,
    /// How often something was forgotten. Held while an entry is taken in or forgotten, so that one
    /// cannot come between the two halves of the other.
    forgotten: Mutex<u64>,
}

/// When a question was put, and what had been forgotten until then. An answer to a question that was
/// put before something was forgotten may be about that, and is not kept: it may have been read before
/// the token was revoked and arrive after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    time: Instant,
    forgotten: u64,
}

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
        Self {
            entries: Cache::new(TOKENS),
            forgotten: Mutex::new(0),
        }
    }
}

impl Known {
    /// Who a token belongs to.
    pub fn get(&self, hash: &TokenHash, now: DateTime<Utc>) -> Who {
        let Some(entry) = self.entries.get(hash) else {
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

    /// Whether a token was good when it was last looked up, however long ago.
    pub fn was_good(&self, hash: &TokenHash) -> bool {
        self.entries.get(hash).is_some()
    }

    /// To be called before the question of whose a token is is put.
    pub fn ask(&self) -> Asked {
        Asked {
            forgotten: *self.lock(),
            time: Instant::now(),
        }
    }

    /// Whether nothing was forgotten since a question was put, so that its answer is also one to a call
    /// that comes now.
    pub fn is_current(&self, asked: Asked) -> bool {
        *self.lock() == asked.forgotten
    }

    /// Takes in what a question was answered, unless something was forgotten since it was put.
    pub fn put(
        &self,
        hash: TokenHash,
        identity: Identity,
        expire_time: Option<DateTime<Utc>>,
        asked: Asked,
    ) {
        let entry = Entry {
            identity,
            expire_time,
            asked: asked.time,
            asked_anew: AtomicBool::new(false),
        };
        let forgotten = self.lock();
        if *forgotten == asked.forgotten {
            self.entries.insert(hash, Arc::new(entry));
        }
    }

    /// Has the next call look the token up again, because the look-up in the background failed.
    pub fn ask_again(&self, hash: &TokenHash) {
        if let Some(entry) = self.entries.get(hash) {
            entry.asked_anew.store(false, Ordering::Relaxed);
        }
    }

    /// Forgets a token, once it is revoked in the database.
    pub fn forget(&self, hash: &TokenHash) {
        let mut forgotten = self.lock();
        *forgotten += 1;
        self.entries.remove(hash);
    }

    /// Forgets every token of a principal, once they are revoked in the database.
    pub fn forget_principal(&self, id: Uuid) {
        let mut forgotten = self.lock();
        *forgotten += 1;
        self.entries
            .retain(|_, entry| entry.identity.principal.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.forgotten
            .lock()
            .unwrap_or_else(|held| held.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::roles::Role;
    use crate::auth::{Principal, PrincipalKind};

    const TOKEN: TokenHash = [7; 32];

    fn identity() -> Identity {
        Identity {
            principal: Principal {
                kind: PrincipalKind::Operator,
                id: Uuid::from_u128(1),
                name: "ada".to_owned(),
            },
            role: Role::Sales,
            session: Some(TOKEN),
        }
    }

    fn is_known(known: &Known, hash: &TokenHash) -> bool {
        matches!(
            known.get(hash, crate::clock::Clock::default().now()),
            Who::Known { .. }
        )
    }

    #[test]
    fn an_answer_read_before_a_revocation_is_not_kept_after_it() {
        let forget: [fn(&Known); 2] = [
            |known| known.forget(&TOKEN),
            |known| known.forget_principal(Uuid::from_u128(1)),
        ];
        for forget in forget {
            let known = Known::default();
            let asked = known.ask();
            known.put(TOKEN, identity(), None, asked);
            assert!(is_known(&known, &TOKEN));
            // Two look-ups are under way while the token is revoked.
            let under_way = [known.ask(), known.ask()];
            assert!(under_way.iter().all(|asked| known.is_current(*asked)));
            forget(&known);
            for asked in under_way {
                assert!(!known.is_current(asked));
                known.put(TOKEN, identity(), None, asked);
                assert!(!is_known(&known, &TOKEN));
            }
            // One that begins afterwards is about what is there now.
            let asked = known.ask();
            known.put(TOKEN, identity(), None, asked);
            assert!(is_known(&known, &TOKEN));
        }
    }
}
