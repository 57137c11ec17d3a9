//! How many calls a second each principal may make.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Above how many principals those who have not called lately are forgotten.
const PRINCIPALS: usize = 10_000;

/// Counts calls; of nobody's where there is no limit.
pub struct Rates {
    calls: Option<DefaultKeyedRateLimiter<Uuid>>,
    clock: DefaultClock,
}

impl Rates {
    /// At most so many a second each, and as many at once; 0 is no limit.
    pub fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self {
            calls: quota.map(RateLimiter::keyed),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when the principal has made too many.
    pub fn count(&self, principal: Uuid) -> Result<()> {
        let Some(calls) = &self.calls else {
            return Ok(());
        };
        let counted = calls.check_key(&principal);
        if calls.len() > PRINCIPALS {
            calls.retain_recent();
        }
        counted.map_err(|full| Error::RateLimited {
            retry_after: full
                .wait_time_from(self.clock.now())
                .max(Duration::from_millis(1)),
        })
    }
}
