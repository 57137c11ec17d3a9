//! Events: a stream of every accepted change, for other programs, and a list of the past ones, for people.
//!
//! The order of the events, and that none is skipped, is the task of `db::event_log`. This feature reads the log once for
//! all streams ([`hub`]), completes each event with its record before and after (`rebuild`), and serves each stream at
//! the pace of its client ([`watch`]). A list finds its events by their numbers, and completes them in the same way
//! ([`list`]).

pub mod api;
mod errors;
pub mod hub;
pub mod list;
pub mod model;
mod past;
mod rebuild;
mod ring;
pub mod store;
mod versions;
pub mod watch;
