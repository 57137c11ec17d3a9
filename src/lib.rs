//! Leadsmith: the life of a sales lead as a gRPC service.
//!
//! `ARCHITECTURE.md` tells how the parts fit. In short: a request passes [`server`]'s gate, a room's
//! `api.rs` reads it and its `mod.rs` decides by `model.rs`; [`changes`] has what was decided written,
//! by the rooms' `store.rs`, with all that a change carries along.

// They panic when nobody reads or the disk is full: cli/output.rs does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod auth;
pub mod changes;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod keyed;
pub mod leads;
pub mod operators;
pub mod opportunities;
pub mod orders;
pub mod retention;
pub mod server;
pub mod service_accounts;
pub mod telemetry;
pub mod text;
pub mod wire;
