//! When sessions and API keys were last used: exact to a minute, without a write for each call.
//!
//! A use is noted only when the credential is looked up in the database, because calls in between are answered by
//! the identity cache, which is at most 4 seconds old, and only if the stored time is `NOTE_AFTER` old. What is
//! noted is stored every [`STORE_INTERVAL`], all credentials in one transaction. So the stored time is at most
//! 4 + 20 + 2 × 10 seconds behind.
//!
//! This module must not decide whether a credential is valid.

mod store;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration as StdDuration;

use chrono::{DateTime, Duration, Utc};

use super::tokens::TokenKind;
use crate::core::call::TokenHash;
use crate::db::{Db, Verdict};
use crate::error::Result;

/// The age of the stored time from which on a use is noted.
const NOTE_AFTER: Duration = Duration::seconds(20);
/// How often the noted uses are stored.
pub const STORE_INTERVAL: StdDuration = StdDuration::from_secs(10);
/// The maximum number of uses that are noted at once. Further ones are noted after the next store.
const MAX_NOTED: usize = 10_000;

/// The uses that are not stored yet: the credentials, and the earliest of the times.
#[derive(Debug, Default)]
pub struct LastUse(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    credentials: HashMap<TokenHash, TokenKind>,
    since: Option<DateTime<Utc>>,
}

impl LastUse {
    /// Notes a use, unless the stored time is recent.
    pub fn note(
        &self,
        kind: TokenKind,
        hash: TokenHash,
        now: DateTime<Utc>,
        stored: Option<DateTime<Utc>>,
    ) {
        // A stored time in the future was written by a clock that was wrong.
        let is_recent = |stored: DateTime<Utc>| (now - stored).abs() < NOTE_AFTER;
        if stored.is_some_and(is_recent) {
            return;
        }
        let mut noted = self.lock();
        if noted.credentials.len() < MAX_NOTED {
            noted.credentials.insert(hash, kind);
            noted.since.get_or_insert(now);
        }
    }

    /// Stores what is noted.
    ///
    /// # Errors
    /// If the database is not available. The uses are then noted again by later calls.
    pub async fn store(&self, db: &Db) -> Result<()> {
        let noted = std::mem::take(&mut *self.lock());
        let Some(time) = noted.since else {
            return Ok(());
        };
        let (mut sessions, mut keys) = (Vec::new(), Vec::new());
        for (hash, kind) in noted.credentials {
            match kind {
                TokenKind::Session => sessions.push(hash),
                TokenKind::ApiKey => keys.push(hash),
            }
        }
        db.write(move |tx| {
            Box::pin(async move {
                store::set_sessions_used(tx, &sessions, time).await?;
                store::set_keys_used(tx, &keys, time).await?;
                Ok(Verdict::Done(()))
            })
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
