//! Events: a stream of every accepted change, for other programs.
//!
//! The order of the events, and that none is skipped, is the task of `db::event_log`. This feature reads the log once for
//! all streams ([`hub`]), completes each event with its record before and after (`rebuild`), and serves each stream at
//! the pace of its client ([`watch`]).

pub mod api;
mod errors;
pub mod hub;
pub mod model;
mod rebuild;
mod ring;
mod store;
mod versions;
pub mod watch;
