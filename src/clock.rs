//! Time, ids and randomness come in here and nowhere else, so that a test can hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Duration, SubsecRound, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// The time now and the ids made from it.
#[derive(Clone, Debug)]
pub struct Clock {
    /// How far a test has moved the clock on, in microseconds.
    ahead: Arc<AtomicI64>,
    /// Keeps ids made in the same millisecond in order.
    ids: Arc<std::sync::Mutex<ContextV7>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            ahead: Arc::default(),
            ids: Arc::new(std::sync::Mutex::new(ContextV7::new())),
        }
    }
}

impl Clock {
    /// The time now in UTC, cut to the microsecond: what both databases can keep.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> DateTime<Utc> {
        let ahead = Duration::microseconds(self.ahead.load(Ordering::Relaxed));
        (Utc::now() + ahead).trunc_subsecs(6)
    }

    /// Moves the clock on. For tests: nothing in the service calls it.
    pub fn advance(&self, by: Duration) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// A new UUIDv7. Ids of one process are in the order in which they were made.
    pub fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let context = self.ids.lock().unwrap_or_else(|held| held.into_inner());
        Uuid::new_v7(Timestamp::from_unix(
            &*context,
            seconds,
            now.timestamp_subsec_nanos(),
        ))
    }
}

/// 256 bits that nobody can guess.
///
/// # Panics
/// When the operating system has no randomness to give: then nothing secret can be made.
pub fn random_256_bits() -> [u8; 32] {
    let mut bytes = [0; 32];
    #[expect(
        clippy::expect_used,
        reason = "without randomness there is no safe way on"
    )]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
