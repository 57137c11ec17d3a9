//! The tests: the real server on a port of its own, a real client, the same tests on SQLite and on
//! PostgreSQL. `scripts/test` sets up what they need.

mod bulk;
mod crash;
mod harness;
mod harness;
mod lifecycle;
mod lifecycle;
mod lists;
mod model;
mod outage;
mod races;
mod stop;
mod story;
