//! Settings and limits, checked once at the start. Nothing here opens or binds anything.

pub mod values;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::server::LARGEST_RESPONSE;
use crate::server::tls::TlsSettings;
use crate::text;

/// Why the program does not start: one sentence that says what to do.
#[derive(Debug)]
pub struct Refusal(String);

impl Refusal {
    /// `sentence` says what is wrong and what to do.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::printable(&self.0))
    }
}

impl std::error::Error for Refusal {}

impl From<crate::error::Error> for Refusal {
    fn from(error: crate::error::Error) -> Self {
        use crate::error::Error as E;
        // A command may say what the log of a server would.
        if let E::Internal(cause) | E::DatabaseUnavailable(cause) | E::DatabaseLost(cause) = error {
            return Self(cause);
        }
        Self(error.answer().message)
    }
}

/// Which database, for every command that uses one.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// The database: sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE. Give one with a
    /// password by the environment, where other users of the machine do not see it
    #[arg(
        long,
        env = "LEADSMITH_DATABASE_URL",
        default_value = "sqlite:leadsmith.db",
        hide_env_values = true,
        value_parser = values::secret(),
        value_name = "URL"
    )]
    pub database_url: SecretString,
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, for every command.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// What to log: error, warn, info, debug or trace. Other libraries' logs stay at warn at most,
    /// because theirs may show what passes through them
    #[arg(
        long,
        env = "LEADSMITH_LOG",
        default_value = "info",
        value_parser = values::level(),
        value_name = "LEVEL",
        global = true
    )]
    pub log: tracing::Level,
    /// How to log
    #[arg(
        long,
        env = "LEADSMITH_LOG_FORMAT",
        default_value = "text",
        value_parser = values::word::<LogFormat>(),
        value_name = "FORMAT",
        global = true
    )]
    pub log_format: LogFormat,
}

impl LogSettings {
    /// The settings in force, one a line.
    pub fn describe(&self) -> String {
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let level = self.log.to_string().to_lowercase();
        lines(&[("log", level), ("log-format", format.to_owned())])
    }
}

/// What `serve` needs to know.
#[derive(Args, Clone, Debug)]
pub struct ServeSettings {
    /// Which database
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Where to listen
    #[arg(
        long,
        env = "LEADSMITH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_parser = values::address(),
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Listen without TLS where others than this machine can reach it
    #[arg(
        long,
        env = "LEADSMITH_INSECURE",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_parser = values::boolean(),
        value_name = "BOOL"
    )]
    pub insecure: bool,
    /// TLS
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Apply pending migrations at the start. Without it, a schema that lacks some is refused
    #[arg(
        long,
        env = "LEADSMITH_MIGRATE",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_parser = values::boolean(),
        value_name = "BOOL"
    )]
    pub migrate: bool,
    /// How much at once and for how long
    #[command(flatten)]
    pub limits: Limits,
}

/// Every limit that can be set. Those that nobody has reason to change are constants beside what
/// they limit.
#[derive(Args, Clone, Debug)]
pub struct Limits {
    /// Calls worked on at once, 1 to 1000000; more are refused with RESOURCE_EXHAUSTED
    #[arg(
        long,
        env = "LEADSMITH_MAX_CALLS",
        default_value_t = 1_000,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_calls: usize,
    /// Calls a second that each operator or service account may make, refused ones too, at most
    /// 1000000; 0 is no limit. More are refused with RATE_LIMITED
    #[arg(
        long,
        env = "LEADSMITH_CALLS_PER_SECOND",
        default_value_t = 0,
        value_parser = values::number::<u32>(0..=1_000_000),
        value_name = "N"
    )]
    pub calls_per_second: u32,
    /// Connections at once, 1 to 1000000; more are closed
    #[arg(
        long,
        env = "LEADSMITH_MAX_CONNECTIONS",
        default_value_t = 4_000,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6, from 64 bits of it), 1 to 1000000; more are closed
    #[arg(
        long,
        env = "LEADSMITH_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = 1_000,
        value_parser = values::number::<usize>(1..=1_000_000),
        value_name = "N"
    )]
    pub max_connections_per_address: usize,
    /// Bytes of responses that each operator or service account may leave unread at once, 4194304 to
    /// 1073741824; responses up to 16384 bytes do not count. More are refused with RESPONSES_UNREAD
    #[arg(
        long,
        env = "LEADSMITH_UNREAD_BYTES_PER_PRINCIPAL",
        default_value_t = 32 << 20,
        value_parser = values::number::<usize>(UNREAD_BYTES),
        value_name = "BYTES"
    )]
    pub unread_bytes_per_principal: usize,
    /// Bytes of responses that all of them together may leave unread at once, 4194304 to 1073741824
    #[arg(
        long,
        env = "LEADSMITH_UNREAD_BYTES",
        default_value_t = 128 << 20,
        value_parser = values::number::<usize>(UNREAD_BYTES),
        value_name = "BYTES"
    )]
    pub unread_bytes: usize,
    /// Seconds a call without a deadline of its own may take, 0.01 to 3600 as all times here
    #[arg(long, env = "LEADSMITH_DEFAULT_DEADLINE", default_value = "10", value_parser = values::seconds(), value_name = "SECONDS")]
    pub default_deadline: Duration,
    /// Seconds a call may take at most, whatever its deadline
    #[arg(long, env = "LEADSMITH_MAX_DEADLINE", default_value = "60", value_parser = values::seconds(), value_name = "SECONDS")]
    pub max_deadline: Duration,
    /// Seconds that calls under way get to finish when the service is told to stop
    #[arg(long, env = "LEADSMITH_DRAIN", default_value = "25", value_parser = values::seconds(), value_name = "SECONDS")]
    pub drain: Duration,
    /// Connections to PostgreSQL, 1 to 10000: half of them read, half of them write, at least one each
    #[arg(
        long,
        env = "LEADSMITH_POSTGRES_CONNECTIONS",
        default_value_t = 16,
        value_parser = values::number::<u32>(1..=10_000),
        value_name = "N"
    )]
    pub postgres_connections: u32,
    /// Connections for lists and searches on SQLite, 1 to 256; half as many more look records up, one
    /// writes
    #[arg(
        long,
        env = "LEADSMITH_SQLITE_READERS",
        default_value_t = 4,
        value_parser = values::number::<u32>(1..=256),
        value_name = "N"
    )]
    pub sqlite_readers: u32,
    /// Seconds a call waits for a connection, and on PostgreSQL for its turn and for locks as well
    #[arg(long, env = "LEADSMITH_CONNECTION_WAIT", default_value = "1", value_parser = values::seconds(), value_name = "SECONDS")]
    pub connection_wait: Duration,
    /// Seconds a change waits for its turn to write to SQLite before it answers UNAVAILABLE
    #[arg(long, env = "LEADSMITH_SQLITE_WRITE_WAIT", default_value = "5", value_parser = values::seconds(), value_name = "SECONDS")]
    pub sqlite_write_wait: Duration,
    /// Seconds one statement may take on PostgreSQL, and on SQLite one of a list or a search
    #[arg(long, env = "LEADSMITH_STATEMENT_TIME", default_value = "10", value_parser = values::seconds(), value_name = "SECONDS")]
    pub statement_time: Duration,
    /// Hours that the answer to a request_id is kept for repeats, 24 to 876000
    #[arg(
        long,
        env = "LEADSMITH_KEEP_REQUEST_IDS",
        default_value_t = 48,
        value_parser = values::number::<u32>(KEEP_REQUEST_IDS..=876_000),
        value_name = "HOURS"
    )]
    pub keep_request_ids: u32,
    /// Days that recorded events are kept, at most 36500; 0 keeps them for ever
    #[arg(
        long,
        env = "LEADSMITH_KEEP_EVENTS",
        default_value_t = 30,
        value_parser = values::number::<u32>(0..=36_500),
        value_name = "DAYS"
    )]
    pub keep_events: u32,
    /// Seconds between two times that what was kept long enough is deleted, give or take half
    #[arg(long, env = "LEADSMITH_RETENTION_INTERVAL", default_value = "600", value_parser = values::seconds(), value_name = "SECONDS")]
    pub retention_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: 1_000,
            calls_per_second: 0,
            max_connections: 4_000,
            max_connections_per_address: 1_000,
            unread_bytes_per_principal: 32 << 20,
            unread_bytes: 128 << 20,
            default_deadline: Duration::from_secs(10),
            max_deadline: Duration::from_secs(60),
            drain: Duration::from_secs(25),
            postgres_connections: 16,
            sqlite_readers: 4,
            connection_wait: Duration::from_secs(1),
            sqlite_write_wait: Duration::from_secs(5),
            statement_time: Duration::from_secs(10),
            keep_request_ids: 48,
            keep_events: 30,
            retention_interval: Duration::from_secs(600),
        }
    }
}

/// From the largest response on; the upper end only keeps sums within range.
const UNREAD_BYTES: RangeInclusive<usize> = LARGEST_RESPONSE..=1 << 30;

/// How many hours every request id is good for, by the contract.
const KEEP_REQUEST_IDS: u32 = 24;

impl ServeSettings {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// A sentence that names the setting and what it may be.
    pub fn check(&self) -> Result<(), Refusal> {
        crate::db::connect::Target::parse(&self.database.database_url)?;
        let limits = &self.limits;
        if limits.default_deadline > limits.max_deadline {
            return Err(Refusal::new(
                "--default-deadline must not be longer than --max-deadline",
            ));
        }
        self.tls.check()?;
        if !self.tls.is_on() && !self.insecure && !self.listen.ip().is_loopback() {
            return Err(Refusal::new(format!(
                "others can reach {}, and passwords would be sent in clear: give \
                 --tls-certificate and --tls-key, or --insecure where something before the service \
                 speaks TLS",
                self.listen
            )));
        }
        Ok(())
    }

    /// The settings in force, one a line, with secrets hidden.
    pub fn describe(&self) -> String {
        let limits = &self.limits;
        let lines = [
            ("database-url", redact_url(&self.database.database_url)),
            ("listen", self.listen.to_string()),
            ("insecure", self.insecure.to_string()),
            ("tls-certificate", file(&self.tls.tls_certificate)),
            ("tls-key", file(&self.tls.tls_key)),
            ("tls-client-ca", file(&self.tls.tls_client_ca)),
            (
                "tls-client-certificates",
                format!("{:?}", self.tls.tls_client_certificates).to_lowercase(),
            ),
            ("migrate", self.migrate.to_string()),
            ("max-calls", limits.max_calls.to_string()),
            ("calls-per-second", limits.calls_per_second.to_string()),
            ("max-connections", limits.max_connections.to_string()),
            (
                "max-connections-per-address",
                limits.max_connections_per_address.to_string(),
            ),
            (
                "unread-bytes-per-principal",
                limits.unread_bytes_per_principal.to_string(),
            ),
            ("unread-bytes", limits.unread_bytes.to_string()),
            ("default-deadline", in_seconds(limits.default_deadline)),
            ("max-deadline", in_seconds(limits.max_deadline)),
            ("drain", in_seconds(limits.drain)),
            (
                "postgres-connections",
                limits.postgres_connections.to_string(),
            ),
            ("sqlite-readers", limits.sqlite_readers.to_string()),
            ("connection-wait", in_seconds(limits.connection_wait)),
            ("sqlite-write-wait", in_seconds(limits.sqlite_write_wait)),
            ("statement-time", in_seconds(limits.statement_time)),
            ("keep-request-ids", format!("{} h", limits.keep_request_ids)),
            (
                "keep-events",
                match limits.keep_events {
                    0 => "for ever".to_owned(),
                    days => format!("{days} d"),
                },
            ),
            ("retention-interval", in_seconds(limits.retention_interval)),
        ];
        self::lines(&lines)
    }
}

fn lines(settings: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{name:<30}{}\n", text::printable(value));
    settings.iter().map(line).collect()
}

/// A database URL whose user's password and parameters, which may hold secrets, are hidden.
fn redact_url(url: &SecretString) -> String {
    let url = url.expose_secret();
    let (url, parameters) = match url.split_once('?') {
        Some((url, _)) => (url, "?…"),
        None => (url, ""),
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // The last @ divides: a password may hold one that was not encoded.
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user
                .split_once(':')
                .map_or(user.to_owned(), |(name, _)| format!("{name}:…"));
            format!("{scheme}://{user}@{host}{parameters}")
        }
        None => format!("{scheme}://{rest}{parameters}"),
    }
}

fn file(path: &Option<std::path::PathBuf>) -> String {
    path.as_ref()
        .map_or_else(String::new, |path| path.display().to_string())
}

fn in_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
