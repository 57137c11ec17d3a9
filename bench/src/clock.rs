//! The system clock.

/// The current time.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark has no other clock"
)]
pub fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}
