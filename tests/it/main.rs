//! The tests: the real server on a port of its own, a real client, the same tests on SQLite and on
//! PostgreSQL. `scripts/test` sets up what they need.

mod bulk;
mod harness;
mod lifecycle;
mod lists;
