//! Failover of PostgreSQL: finds the server that accepts writes, and replaces connections that lead elsewhere.
//!
//! When PostgreSQL restarts or fails over, its connections are dead, but the driver reports nothing: each one is
//! detected by the next query on it. The first detection marks every connection that was opened before that moment
//! as stale ([`ConnectionEpoch`]), so that the others are replaced before they are used ([`reject_stale`]).
//!
//! A host that froze or lost power sends nothing at all. A query on it would wait for minutes and keep its
//! connection. So [`PrimaryWatch`] checks the server over a connection of its own, the probe. Work on the old
//! connections is aborted when a server is found that responds ([`ConnectionEpoch::abort_pending`]).
//!
//! # States of the connection to PostgreSQL
//!
//! They are the fields `probe` and `timed_out` of [`PrimaryWatch`].
//!
//! | State | `probe` | `timed_out` | Health |
//! |---|---|---|---|
//! | Disconnected | none | no | SERVING before the first check, NOT_SERVING afterwards |
//! | Connected | open | no | SERVING |
//! | Unresponsive | open | yes | NOT_SERVING |
//! | Lost | none | yes | NOT_SERVING |
//!
//! Each call of [`PrimaryWatch::check`] is one event. `server/` makes one every second. The probe *responds*
//! (the server accepts writes), *fails* (an error, the server is a standby, its settings could lose an acknowledged
//! change, or the session is not the probe's own: `session.rs`) or *times out* (after 1 s). If it
//! does not respond, a server that accepts writes is searched, first on the host in use, then on the other hosts
//! of the URL: *same* host, *other* host or *none* is found.
//!
//! | State | Probe | Found | Next state | Callers |
//! |---|---|---|---|---|
//! | Disconnected | – | same | Connected | normal |
//! | Disconnected | – | other | Connected | aborted; the pools switch |
//! | Disconnected | – | none | Disconnected | unavailable |
//! | Connected | responds | – | Connected | normal |
//! | Connected | fails | same | Connected | replaced |
//! | Connected | fails | other | Connected | aborted; the pools switch |
//! | Connected | fails | none | Disconnected | unavailable |
//! | Connected, Unresponsive | times out | same, the old probe responds now | Connected | replaced |
//! | Connected, Unresponsive | times out | same, the old probe does not | Connected | aborted |
//! | Connected, Unresponsive | times out | other | Connected | aborted; the pools switch |
//! | Connected, Unresponsive | times out | none | Unresponsive | unavailable |
//! | Unresponsive | responds | – | Connected | normal |
//! | Unresponsive | fails | same | Connected | aborted |
//! | Unresponsive | fails | other | Connected | aborted; the pools switch |
//! | Unresponsive | fails | none | Lost | unavailable |
//! | Lost | – | same | Connected | aborted |
//! | Lost | – | other | Connected | aborted; the pools switch |
//! | Lost | – | none | Lost | unavailable |
//!
//! What callers see meanwhile:
//!
//! - *normal*: nothing.
//! - *replaced*: all open connections become stale. Work that is running continues. If its connection is dead, it
//!   fails and is retried: a read by `db/reader.rs`, a change by `commit/worker.rs`, which first finds out whether a
//!   COMMIT without a result was made (`commit/in_doubt.rs`). The caller waits longer.
//! - *aborted*: as *replaced*, but work that is running fails at once, and is retried in the same way.
//! - *unavailable*: open connections became stale when the probe failed or timed out. New calls retry, or wait for a
//!   connection, and then fail with DATABASE_UNAVAILABLE. Work on a host that does not respond waits until it is
//!   aborted. Its caller gets DEADLINE_EXCEEDED if its deadline passes first.
//!
//! # States of one pooled connection
//!
//! | State | Event | Next state | Callers |
//! |---|---|---|---|
//! | current | a query, BEGIN or COMMIT on any connection finds it lost | stale | that work is retried |
//! | current | the probe fails or times out | stale | nothing |
//! | current, idle | acquired after a long time, and the ping fails | closed | nothing: another one is used |
//! | stale, idle | acquired | closed | nothing: another one is used |
//! | stale, in use | its work ends | closed | nothing |
//! | stale, in use | the work is aborted | closed | the work is retried |
//!
//! The probe connection also holds the lock that keeps migrations from being reverted (`schema_lock.rs`), because
//! it is the first that is replaced.
//!
//! The folder knows neither the other settings of connections (`connect/`) nor the queries that run on them. It is
//! written by hand because sqlx connects to one host only, and does not invalidate connections as a group.

mod epoch;
pub mod hosts;
mod parameters;
mod pool_hooks;
mod primary;

pub use epoch::ConnectionEpoch;
pub use pool_hooks::{drop_stale, reject_stale};
pub use primary::{PROBE_TIMEOUT, PrimaryWatch, Skipped, find_writable};
