//! The metrics: what a server counts and measures of its work, for Prometheus.
//!
//! This module holds the metrics and their names, and no layer above it. What counts (a call, a batch, a hash) is decided
//! where it happens, by a handle: `Db` carries one, because everything that counts has a `Db`. Values that
//! exist anyway, such as the use of a limit, are not counted as they change but set when the metrics are read
//! ([`Metrics::limits`]).
//!
//! Recording is a few atomic operations on handles that are found without a search or an allocation, because every call
//! records. The number of time series is bounded: every label has a fixed set of values.
//!
//! It uses the crate `prometheus` and not `prometheus-client`: that one writes the OpenMetrics format only, which
//! `promtool check metrics` cannot check, and its histograms take a lock.

mod calls;
mod limits;
mod statements;

pub use prometheus::IntGauge;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::core::build;
pub use calls::{CallMetrics, PLACES, Rpc};
pub use limits::{Limit, LimitMetrics};
pub use statements::{Operation, StatementMetrics};

/// The error of the library: a name that is invalid or used twice.
pub type MetricsError = prometheus::Error;

/// The upper bounds of the buckets for times, in seconds: 100 µs to 10 s.
const SECONDS: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Calls.
    pub calls: CallMetrics,
    /// Limits, their use, and what they refused.
    pub limits: LimitMetrics,
    /// Whether the server reports to health checks that it is ready to serve calls.
    pub ready: IntGauge,
    /// Accepted connections.
    pub connections_accepted: IntCounter,
    /// TLS handshakes that failed or timed out.
    pub tls_handshakes_failed: IntCounter,
    /// When the first of the server's certificates expires, in seconds since 1970; 0 without TLS.
    pub tls_certificate_expiry: IntGauge,
    /// The changes of each group commit.
    pub batch_changes: Histogram,
    /// How long changes waited until a batch took them.
    pub batch_wait: Histogram,
    /// How long write transactions took, with the wait for a connection.
    pub transaction_seconds: Histogram,
    /// Statements.
    pub statements: StatementMetrics,
    /// The connections of the pools, by pool and state.
    pub pool_connections: IntGaugeVec,
    /// Whether the database responded when the metrics were read.
    pub database_up: IntGauge,
    /// The size of the database, in bytes.
    pub database_bytes: IntGauge,
    /// The size of SQLite's write-ahead log, in bytes.
    pub wal_bytes: IntGauge,
    /// Look-ups in the identity cache that found an identity.
    pub identity_hits: IntCounter,
    /// Look-ups in the identity cache that found none.
    pub identity_misses: IntCounter,
    /// How long hashing or verifying a password took.
    pub password_hash_seconds: Histogram,
    /// How long a password waited for a processor core.
    pub password_wait_seconds: Histogram,
    /// Events that were sent to the streams of EventService.Watch.
    pub events_delivered: IntCounter,
    /// How long after an event was written a stream got it, for events that are new to the server.
    pub event_delay_seconds: Histogram,
    /// Streams of EventService.Watch that ended, by cause.
    pub watches_ended: IntCounterVec,
    /// When the retention job last ended without an error, in seconds since 1970.
    pub retention_last_success: IntGauge,
    /// Runs of the retention job that failed.
    pub retention_failures: IntCounter,
    /// The rows that the retention job deleted, by table.
    pub retention_deleted: IntCounterVec,
}

/// Creates the metrics of one registry.
struct Builder(Registry);

impl Builder {
    fn register<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: Result<M, MetricsError>,
    ) -> Result<M, MetricsError> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::new(name, help))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }
}

impl Metrics {
    /// New metrics, all at zero.
    ///
    /// # Errors
    /// Only if this module is wrong: a name is invalid or used twice. The tests would fail.
    pub fn new() -> Result<Self, MetricsError> {
        let new = Builder(Registry::new());
        let info = new.gauges(
            "leadsmith_build_info",
            "1, with the version and the commit of the program as labels",
            &["version", "commit"],
        )?;
        info.get_metric_with_label_values(&[build::PACKAGE_VERSION, build::COMMIT])?
            .set(1);
        let sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        let lookups = new.counters(
            "leadsmith_identity_cache_lookups_total",
            "Look-ups of credentials in the identity cache, by result (hit or miss)",
            &["result"],
        )?;
        Ok(Self {
            calls: CallMetrics::new(&new)?,
            limits: LimitMetrics::new(&new)?,
            ready: new.gauge(
                "leadsmith_ready",
                "1 if the server is ready to serve calls, as it reports to health checks, else 0",
            )?,
            connections_accepted: new.counter(
                "leadsmith_connections_accepted_total",
                "Connections that were accepted",
            )?,
            tls_handshakes_failed: new.counter(
                "leadsmith_tls_handshakes_failed_total",
                "TLS handshakes that failed or timed out",
            )?,
            tls_certificate_expiry: new.gauge(
                "leadsmith_tls_certificate_expiry_timestamp_seconds",
                "When the first of the server's certificates expires, in seconds since 1970; 0 without TLS",
            )?,
            batch_changes: new.histogram(
                "leadsmith_commit_batch_changes",
                "Changes that were committed together, for each group commit",
                &sizes,
            )?,
            batch_wait: new.histogram(
                "leadsmith_commit_wait_seconds",
                "How long a change waited until a group commit took it",
                &SECONDS,
            )?,
            transaction_seconds: new.histogram(
                "leadsmith_database_transaction_seconds",
                "How long write transactions took, with the wait for a connection",
                &SECONDS,
            )?,
            statements: StatementMetrics::new(&new)?,
            pool_connections: new.gauges(
                "leadsmith_database_connections",
                "Open connections to the database, by pool (read or write) and state (idle or used)",
                &["pool", "state"],
            )?,
            database_up: new.gauge(
                "leadsmith_database_up",
                "1 if the database responded when the metrics were read, else 0",
            )?,
            database_bytes: new.gauge(
                "leadsmith_database_size_bytes",
                "The size of the database, when it last responded",
            )?,
            wal_bytes: new.gauge(
                "leadsmith_database_wal_bytes",
                "The size of SQLite's write-ahead log; 0 on PostgreSQL",
            )?,
            identity_hits: lookups.get_metric_with_label_values(&["hit"])?,
            identity_misses: lookups.get_metric_with_label_values(&["miss"])?,
            password_hash_seconds: new.histogram(
                "leadsmith_password_hash_seconds",
                "How long hashing or verifying a password with argon2id took",
                &SECONDS,
            )?,
            password_wait_seconds: new.histogram(
                "leadsmith_password_wait_seconds",
                "How long a password waited for a processor core before it was hashed",
                &SECONDS,
            )?,
            events_delivered: new.counter(
                "leadsmith_events_delivered_total",
                "Events that were sent to streams of EventService.Watch",
            )?,
            event_delay_seconds: new.histogram(
                "leadsmith_event_delay_seconds",
                "How long after an event's time the server had it ready for the streams of EventService.Watch",
                &SECONDS,
            )?,
            watches_ended: new.counters(
                "leadsmith_watches_ended_total",
                "Streams of EventService.Watch that the server ended, by cause (complete or the reason of the error)",
                &["cause"],
            )?,
            retention_last_success: new.gauge(
                "leadsmith_retention_last_success_timestamp_seconds",
                "When the retention job of this server last ended without an error, in seconds since 1970; 0 if never",
            )?,
            retention_failures: new.counter(
                "leadsmith_retention_failures_total",
                "Runs of the retention job that failed or were postponed",
            )?,
            retention_deleted: new.counters(
                "leadsmith_retention_deleted_rows_total",
                "Rows that the retention job of this server deleted, by table",
                &["table"],
            )?,
            registry: new.0,
        })
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If one of them cannot be written as text.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
