//! Leadsmith: the life of a sales lead as a gRPC service.
//!
//! `ARCHITECTURE.md` explains how the parts fit. In short: a request passes the layers of [`server`]; the `api.rs` of a
//! feature reads it, its `mod.rs` decides by its `model.rs`, and [`commit`] commits what was decided, with everything that
//! a change carries along.
//!
//! The modules are layers: each may use only those above it in this list, which `tests/it/layers.rs` checks.

// They panic when nobody reads or the disk is full: cli/output.rs does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod core;

pub mod error;

pub mod config;

pub mod telemetry;

pub mod metrics;

pub mod db;

pub mod commit;

pub mod auth;

pub mod grpc;

pub mod features;

pub mod jobs;

pub mod server;

pub mod app;

pub mod cli;
