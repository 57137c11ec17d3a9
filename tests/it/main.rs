//! The tests: the real server on a free port and a real client, with the same tests on SQLite and on PostgreSQL.
//! `scripts/test` installs what they need.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is outside of what it tests"
)]

/// The repository's root.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

mod auth;
mod backup;
mod bulk;
mod cli;
mod cli_names;
mod clocks;
mod codec;
mod commands;
mod connecting;
mod connections;
mod contract;
mod conversion;
mod crash;
mod dashboard;
mod deploy;
mod documents;
mod errors;
mod events;
mod explain;
mod failover;
mod files;
mod fuzz;
mod harness;
mod healthcheck;
mod hosts;
mod idempotency;
mod language;
mod layers;
mod leads;
mod lifecycle;
mod limits;
mod lists;
mod loader;
mod locks;
mod log;
mod matrix;
mod metrics;
mod model;
mod opportunities;
mod order_queues;
mod orders;
mod outage;
mod people;
mod pooler;
mod program;
mod proportion;
mod races;
mod raw;
mod readiness;
mod reference;
mod replication;
mod retention;
mod schema;
mod secrets;
mod service_manager;
mod slow;
mod stop;
mod story;
mod strangers;
mod tls;
mod traces;
mod wire;
