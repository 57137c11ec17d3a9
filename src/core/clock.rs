//! The only source of time, ids and randomness, so that a test can control them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Duration, SubsecRound, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// The maximum difference of the replicas' clocks for which a record's times still increase.
const MAX_SKEW: Duration = Duration::seconds(60);

/// The current time and the ids derived from it.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// By how much a test has advanced the clock, in microseconds.
    advanced: Arc<AtomicI64>,
    /// The error that a test has set for the clock, in microseconds.
    skew: Arc<AtomicI64>,
    /// Orders ids that are created in the same millisecond.
    ids: Arc<std::sync::Mutex<ContextV7>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            advanced: Arc::default(),
            skew: Arc::default(),
            ids: Arc::new(std::sync::Mutex::new(ContextV7::new())),
        }
    }
}

impl Clock {
    /// The current time in UTC, truncated to microseconds, which both databases support.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that reads the system clock"
    )]
    pub fn now(&self) -> DateTime<Utc> {
        let skew = Duration::microseconds(self.skew.load(Ordering::Relaxed));
        (Utc::now() + self.advanced() + skew).trunc_subsecs(6)
    }

    /// The time of a change to a record that was last changed at `before`: now, but later than `before`, so
    /// that small differences between clocks do not reverse a record's history. If `before` is more than a
    /// minute in the future, a clock was wrong at that time, and the result is now, so that the record does
    /// not keep a wrong future time. The order of a record's changes is the order of their versions.
    pub fn time_after(&self, before: DateTime<Utc>) -> DateTime<Utc> {
        let now = self.now();
        if before > now + MAX_SKEW {
            return now;
        }
        now.max(before + Duration::microseconds(1))
    }

    /// The time since the process started. It does not change when the system clock is set.
    pub fn uptime(&self) -> Duration {
        let uptime = Duration::from_std(self.started.elapsed()).unwrap_or(Duration::MAX);
        uptime + self.advanced()
    }

    /// The reading of another clock, advanced by as much as a test has advanced this one.
    pub fn passed_since(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        time + self.advanced()
    }

    fn advanced(&self) -> Duration {
        Duration::microseconds(self.advanced.load(Ordering::Relaxed))
    }

    /// Advances the clock. For tests only: the service never calls it.
    pub fn advance(&self, by: Duration) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.advanced.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets the error of the clock. For tests only: the service never calls it.
    pub fn set_wrong(&self, by: Duration) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.skew.store(by, Ordering::Relaxed);
    }

    /// A new UUIDv7. The ids of one process increase in the order of their creation.
    pub fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let context = self
            .ids
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Uuid::new_v7(Timestamp::from_unix(
            &*context,
            seconds,
            now.timestamp_subsec_nanos(),
        ))
    }
}

/// 256 cryptographically secure random bits.
///
/// # Panics
/// If the operating system provides no randomness: without it, no secret can be created.
pub fn random_256_bits() -> [u8; 32] {
    let mut bytes = [0; 32];
    #[expect(
        clippy::expect_used,
        reason = "without randomness, no secret can be created"
    )]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
