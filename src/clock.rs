//! Time, ids and randomness come in here and nowhere else, so that a test can hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Duration, SubsecRound, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// The time now and the ids made from it.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// How much time a test has let pass, in microseconds.
    passed: Arc<AtomicI64>,
    /// By how much a test has the clock be wrong, in microseconds.
    wrong: Arc<AtomicI64>,
    /// Keeps ids made in the same millisecond in order.
    ids: Arc<std::sync::Mutex<ContextV7>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            passed: Arc::default(),
            wrong: Arc::default(),
            ids: Arc::new(std::sync::Mutex::new(ContextV7::new())),
        }
    }
}

impl Clock {
    /// The time now in UTC, cut to the microsecond: what both databases can keep.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> DateTime<Utc> {
        let wrong = Duration::microseconds(self.wrong.load(Ordering::Relaxed));
        (Utc::now() + self.passed() + wrong).trunc_subsecs(6)
    }

    /// How much time has passed since the process started. Setting the clock does not change it.
    pub fn uptime(&self) -> Duration {
        let uptime = Duration::from_std(self.started.elapsed()).unwrap_or(Duration::MAX);
        uptime + self.passed()
    }

    /// What another clock that shows `time` would show if the time that a test has let pass here had
    /// passed there too.
    pub fn passed_since(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        time + self.passed()
    }

    fn passed(&self) -> Duration {
        Duration::microseconds(self.passed.load(Ordering::Relaxed))
    }

    /// Lets time pass. For tests: nothing in the service calls it.
    pub fn advance(&self, by: Duration) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.passed.fetch_add(by, Ordering::Relaxed);
    }

    /// Has the clock be wrong by this much. For tests: nothing in the service calls it.
    pub fn set_wrong(&self, by: Duration) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.wrong.store(by, Ordering::Relaxed);
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
