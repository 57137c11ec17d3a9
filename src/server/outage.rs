//! Logs an outage of the database: when it began, how many calls failed, and when it ended. A line for each call would
//! fill the log with one and the same fact.
//!
//! An outage begins with the first call that fails because the database cannot be reached in time, or when the regular
//! check of the database fails. It has ended when neither has happened for a while. The module must not know calls or the
//! database: both report to it.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::milliseconds;

/// How long nothing may fail until the outage has ended. A call can fail this late for a cause that lasts, so a shorter
/// time would report one outage as many.
const QUIET: Duration = Duration::from_secs(10);

/// Whether the database is unavailable, as its users experience it.
#[derive(Default)]
pub struct Outage(Mutex<Option<Current>>);

struct Current {
    began: Instant,
    last_failure: Instant,
    failed_calls: u64,
}

impl Outage {
    /// A call failed because the database could not be reached in time.
    pub fn call_failed(&self, cause: &str) {
        self.failed(cause, Instant::now(), 1);
    }

    /// The result of the regular check of the database: why it is not available, if it is not.
    pub fn checked(&self, availability: &Result<(), String>) {
        let now = Instant::now();
        match availability {
            Ok(()) => self.end_if_quiet(now),
            Err(why) => self.failed(why, now, 0),
        }
    }

    /// The server stops. An outage that lasts is logged as far as it is known.
    pub fn stop(&self) {
        if let Some(outage) = self.lock().take() {
            tracing::warn!(
                failed_calls = outage.failed_calls,
                elapsed_ms = outage.elapsed_ms(),
                "stops while the database is unavailable"
            );
        }
    }

    fn failed(&self, cause: &str, now: Instant, calls: u64) {
        let mut current = self.lock();
        let outage = current.get_or_insert_with(|| {
            tracing::warn!(cause, "the database is unavailable");
            Current {
                began: now,
                last_failure: now,
                failed_calls: 0,
            }
        });
        outage.failed_calls += calls;
        outage.last_failure = now;
    }

    fn end_if_quiet(&self, now: Instant) {
        let mut current = self.lock();
        let is_over = |outage: &mut Current| now.duration_since(outage.last_failure) >= QUIET;
        if let Some(outage) = current.take_if(is_over) {
            tracing::warn!(
                failed_calls = outage.failed_calls,
                elapsed_ms = outage.elapsed_ms(),
                "the database is available again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Current {
    /// From the first failure to the last one.
    fn elapsed_ms(&self) -> f64 {
        milliseconds(self.last_failure - self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_when_nothing_has_failed_for_a_while() {
        let (outage, begin) = (Outage::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let failed = || outage.lock().as_ref().map(|current| current.failed_calls);
        outage.end_if_quiet(at(0));
        assert_eq!(failed(), None);
        outage.failed("no connection", at(1), 1);
        outage.end_if_quiet(at(10));
        outage.failed("no connection", at(10), 1);
        outage.end_if_quiet(at(19));
        assert_eq!(
            failed(),
            Some(2),
            "one outage, whose last failure was at 10"
        );
        let elapsed = outage.lock().as_ref().map(Current::elapsed_ms);
        assert_eq!(elapsed, Some(9_000.0));
        outage.end_if_quiet(at(20));
        assert_eq!(failed(), None);
        outage.failed("the check failed", at(21), 0);
        assert_eq!(failed(), Some(0));
    }
}
