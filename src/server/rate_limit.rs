//! The rate limit: how many calls a second each principal may make. It knows a principal only by its id.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use crate::error::Result;

/// Above this number of principals, those that have not called recently are removed from memory.
const MAX_PRINCIPALS: usize = 10_000;

/// Counts the calls of each principal. It counts none where the settings set no limit.
pub struct PrincipalRateLimit {
    limiter: Option<DefaultKeyedRateLimiter<Uuid>>,
    clock: DefaultClock,
}

impl PrincipalRateLimit {
    /// Allows each principal `per_second` calls a second and bursts of the same size; 0 means no limit.
    pub fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self {
            limiter: quota.map(RateLimiter::keyed),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// `RATE_LIMITED` when the principal has made too many.
    pub fn check(&self, principal: Uuid) -> Result<()> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let outcome = limiter.check_key(&principal);
        if limiter.len() > MAX_PRINCIPALS {
            limiter.retain_recent();
        }
        outcome.map_err(|exceeded| {
            let wait = exceeded.wait_time_from(self.clock.now());
            super::errors::rate_limited(wait.max(Duration::from_millis(1)))
        })
    }
}
