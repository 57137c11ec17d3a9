//! The limits that can be set: how much at once, and for how long.
//!
//! Limits that nobody has a reason to change are constants beside the code that they limit. This module only holds
//! the values: it must not know what they limit, because every other module reads it.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use super::describe::{Described, in_seconds};
use super::{StartupError, values};

/// The largest response, in bytes: the default maximum of gRPC clients.
pub const LARGEST_RESPONSE: usize = 4 << 20;

/// At least the largest response. The upper end only keeps sums within range.
const UNREAD_BYTES_RANGE: RangeInclusive<usize> = LARGEST_RESPONSE..=1 << 30;

/// The API contract guarantees that a request id is kept for this many hours.
const MIN_KEEP_REQUEST_IDS: u32 = 24;

/// A default in whole seconds, as text for clap and as a duration.
struct Seconds {
    text: &'static str,
    duration: Duration,
}

macro_rules! seconds {
    ($seconds:literal) => {
        Seconds {
            text: stringify!($seconds),
            duration: Duration::from_secs($seconds),
        }
    };
}

// The defaults, for clap and for `Limits::default`.
const MAX_CALLS: usize = 1_000;
const CALLS_PER_SECOND: u32 = 0;
const MAX_CONNECTIONS: usize = 4_000;
const MAX_CONNECTIONS_PER_ADDRESS: usize = 1_000;
const UNREAD_BYTES_PER_PRINCIPAL: usize = 32 << 20;
const UNREAD_BYTES: usize = 128 << 20;
const MAX_WATCHES: usize = 1_000;
const MAX_WATCHES_PER_PRINCIPAL: usize = 200;
const WATCH_BUFFER: usize = 64 << 20;
const DEFAULT_DEADLINE: Seconds = seconds!(10);
const MAX_DEADLINE: Seconds = seconds!(60);
const DRAIN: Seconds = seconds!(25);
const POSTGRES_CONNECTIONS: u32 = 16;
const SQLITE_READERS: u32 = 4;
const CONNECTION_WAIT: Seconds = seconds!(1);
const SQLITE_WRITE_WAIT: Seconds = seconds!(5);
const STATEMENT_TIME: Seconds = seconds!(10);
const KEEP_REQUEST_IDS: u32 = 48;
const KEEP_EVENTS: u32 = 30;
const REVERT_PERIOD: u32 = 7;
const RETENTION_INTERVAL: Seconds = seconds!(600);

/// Every limit that can be set.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Concurrent calls, 1 to 1000000; more fail with SERVER_OVERLOADED
    #[arg(
        long,
        env = "LEADSMITH_MAX_CALLS",
        default_value_t = MAX_CALLS,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_calls: usize,
    /// Calls per second for each operator or service account, at most 1000000; 0 means no limit. Calls
    /// that fail count too. More fail with RATE_LIMITED
    #[arg(
        long,
        env = "LEADSMITH_CALLS_PER_SECOND",
        default_value_t = CALLS_PER_SECOND,
        value_parser = values::number::<u32>(0..=1_000_000),
        value_name = "N"
    )]
    pub calls_per_second: u32,
    /// Concurrent connections, 1 to 1000000; more are closed
    #[arg(
        long,
        env = "LEADSMITH_MAX_CONNECTIONS",
        default_value_t = MAX_CONNECTIONS,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_connections: usize,
    /// Concurrent connections from one address (IPv6: from one /64), 1 to 1000000; more are closed
    #[arg(
        long,
        env = "LEADSMITH_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = MAX_CONNECTIONS_PER_ADDRESS,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_connections_per_address: usize,
    /// Bytes of unread responses for each operator or service account, 4194304 to 1073741824; responses
    /// up to 16384 bytes do not count. More fail with RESPONSES_UNREAD
    #[arg(
        long,
        env = "LEADSMITH_UNREAD_BYTES_PER_PRINCIPAL",
        default_value_t = UNREAD_BYTES_PER_PRINCIPAL,
        value_parser = values::number::<usize>(UNREAD_BYTES_RANGE),
        value_name = "BYTES"
    )]
    pub unread_bytes_per_principal: usize,
    /// Bytes of unread responses of all of them together, 4194304 to 1073741824
    #[arg(
        long,
        env = "LEADSMITH_UNREAD_BYTES",
        default_value_t = UNREAD_BYTES,
        value_parser = values::number::<usize>(UNREAD_BYTES_RANGE),
        value_name = "BYTES"
    )]
    pub unread_bytes: usize,
    /// Concurrent streams of EventService.Watch, 1 to 1000000; more fail with WATCH_LIMIT
    #[arg(
        long,
        env = "LEADSMITH_MAX_WATCHES",
        default_value_t = MAX_WATCHES,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_watches: usize,
    /// Concurrent streams of EventService.Watch for each operator or service account, 1 to 1000000
    #[arg(
        long,
        env = "LEADSMITH_MAX_WATCHES_PER_PRINCIPAL",
        default_value_t = MAX_WATCHES_PER_PRINCIPAL,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_watches_per_principal: usize,
    /// Bytes of recent events that are kept in memory for the streams of EventService.Watch, 1048576 to
    /// 1073741824; a stream whose client is further behind ends with WATCH_TOO_SLOW
    #[arg(
        long,
        env = "LEADSMITH_WATCH_BUFFER",
        default_value_t = WATCH_BUFFER,
        value_parser = values::number::<usize>(1 << 20..=1 << 30),
        value_name = "BYTES"
    )]
    pub watch_buffer: usize,
    /// Seconds that a call without a deadline may take, 0.01 to 3600 as all times here
    #[arg(
        long,
        env = "LEADSMITH_DEFAULT_DEADLINE",
        default_value = DEFAULT_DEADLINE.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub default_deadline: Duration,
    /// Seconds that a call may take at most, even with a longer deadline
    #[arg(
        long,
        env = "LEADSMITH_MAX_DEADLINE",
        default_value = MAX_DEADLINE.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub max_deadline: Duration,
    /// Seconds that running calls may take to finish when the server stops
    #[arg(
        long,
        env = "LEADSMITH_DRAIN",
        default_value = DRAIN.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub drain: Duration,
    /// Connections to PostgreSQL, 1 to 10000: half of them read, half of them write, at least one each
    #[arg(
        long,
        env = "LEADSMITH_POSTGRES_CONNECTIONS",
        default_value_t = POSTGRES_CONNECTIONS,
        value_parser = values::number::<u32>(1..=10_000),
        value_name = "N"
    )]
    pub postgres_connections: u32,
    /// Connections for lists and searches on SQLite, 1 to 256. Half as many more look up records by
    /// their ids, and one writes
    #[arg(
        long,
        env = "LEADSMITH_SQLITE_READERS",
        default_value_t = SQLITE_READERS,
        value_parser = values::number::<u32>(1..=256),
        value_name = "N"
    )]
    pub sqlite_readers: u32,
    /// Seconds that a call waits for a connection, and on PostgreSQL also for its place in the queue and
    /// for locks
    #[arg(
        long,
        env = "LEADSMITH_CONNECTION_WAIT",
        default_value = CONNECTION_WAIT.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub connection_wait: Duration,
    /// Seconds that a change waits in the queue to write to SQLite before it fails with UNAVAILABLE
    #[arg(
        long,
        env = "LEADSMITH_SQLITE_WRITE_WAIT",
        default_value = SQLITE_WRITE_WAIT.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub sqlite_write_wait: Duration,
    /// Seconds that one statement may take on PostgreSQL, and on SQLite one statement of a list or a
    /// search
    #[arg(
        long,
        env = "LEADSMITH_STATEMENT_TIME",
        default_value = STATEMENT_TIME.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub statement_time: Duration,
    /// Hours that the stored response for a request_id is kept for retries, 24 to 876000
    #[arg(
        long,
        env = "LEADSMITH_KEEP_REQUEST_IDS",
        default_value_t = KEEP_REQUEST_IDS,
        value_parser = values::number::<u32>(MIN_KEEP_REQUEST_IDS..=876_000),
        value_name = "HOURS"
    )]
    pub keep_request_ids: u32,
    /// Days that recorded events are kept, at most 36500; 0 means forever
    #[arg(
        long,
        env = "LEADSMITH_KEEP_EVENTS",
        default_value_t = KEEP_EVENTS,
        value_parser = values::number::<u32>(0..=36_500),
        value_name = "DAYS"
    )]
    pub keep_events: u32,
    /// Days within which a conversion can be reverted, at most 36500; 0 means never
    #[arg(
        long,
        env = "LEADSMITH_REVERT_PERIOD",
        default_value_t = REVERT_PERIOD,
        value_parser = values::number::<u32>(0..=36_500),
        value_name = "DAYS"
    )]
    pub revert_period: u32,
    /// Seconds between two deletions of expired data, varied by up to half
    #[arg(
        long,
        env = "LEADSMITH_RETENTION_INTERVAL",
        default_value = RETENTION_INTERVAL.text,
        value_parser = values::seconds(),
        value_name = "SECONDS"
    )]
    pub retention_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: MAX_CALLS,
            calls_per_second: CALLS_PER_SECOND,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            unread_bytes_per_principal: UNREAD_BYTES_PER_PRINCIPAL,
            unread_bytes: UNREAD_BYTES,
            max_watches: MAX_WATCHES,
            max_watches_per_principal: MAX_WATCHES_PER_PRINCIPAL,
            watch_buffer: WATCH_BUFFER,
            default_deadline: DEFAULT_DEADLINE.duration,
            max_deadline: MAX_DEADLINE.duration,
            drain: DRAIN.duration,
            postgres_connections: POSTGRES_CONNECTIONS,
            sqlite_readers: SQLITE_READERS,
            connection_wait: CONNECTION_WAIT.duration,
            sqlite_write_wait: SQLITE_WRITE_WAIT.duration,
            statement_time: STATEMENT_TIME.duration,
            keep_request_ids: KEEP_REQUEST_IDS,
            keep_events: KEEP_EVENTS,
            revert_period: REVERT_PERIOD,
            retention_interval: RETENTION_INTERVAL.duration,
        }
    }
}

impl Limits {
    /// Checks the limits that depend on each other, which clap cannot check.
    pub(super) fn check(&self) -> Result<(), StartupError> {
        if self.default_deadline > self.max_deadline {
            return Err(StartupError::settings(
                "--default-deadline must not be longer than --max-deadline",
            ));
        }
        Ok(())
    }

    /// The limits in force.
    pub(super) fn describe(&self) -> Vec<Described> {
        vec![
            ("max-calls", self.max_calls.to_string()),
            ("calls-per-second", self.calls_per_second.to_string()),
            ("max-connections", self.max_connections.to_string()),
            (
                "max-connections-per-address",
                self.max_connections_per_address.to_string(),
            ),
            (
                "unread-bytes-per-principal",
                self.unread_bytes_per_principal.to_string(),
            ),
            ("unread-bytes", self.unread_bytes.to_string()),
            ("max-watches", self.max_watches.to_string()),
            (
                "max-watches-per-principal",
                self.max_watches_per_principal.to_string(),
            ),
            ("watch-buffer", self.watch_buffer.to_string()),
            ("default-deadline", in_seconds(self.default_deadline)),
            ("max-deadline", in_seconds(self.max_deadline)),
            ("drain", in_seconds(self.drain)),
            (
                "postgres-connections",
                self.postgres_connections.to_string(),
            ),
            ("sqlite-readers", self.sqlite_readers.to_string()),
            ("connection-wait", in_seconds(self.connection_wait)),
            ("sqlite-write-wait", in_seconds(self.sqlite_write_wait)),
            ("statement-time", in_seconds(self.statement_time)),
            ("keep-request-ids", format!("{} h", self.keep_request_ids)),
            (
                "keep-events",
                match self.keep_events {
                    0 => "for ever".to_owned(),
                    days => format!("{days} d"),
                },
            ),
            (
                "revert-period",
                match self.revert_period {
                    0 => "never".to_owned(),
                    days => format!("{days} d"),
                },
            ),
            ("retention-interval", in_seconds(self.retention_interval)),
        ]
    }
}
