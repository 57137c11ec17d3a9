//! The tests: the real server on a port of its own, a real client, the same tests on SQLite and on
//! PostgreSQL. `scripts/test` sets up what they need.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and it may stand beside the service's own doors"
)]

mod bulk;
mod explain;
mod harness;
mod lifecycle;
mod lists;
mod orders;
