//! PostgreSQL: finds the server, and sets up its connections.
//!
//! The settings of a connection are made here and nowhere else, because each of them decides what a
//! change can lose or how long a query can hold a connection. `session.rs` makes and checks them when a connection is
//! opened.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection as _, PgConnection};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, SqlxError};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{PING_AFTER_IDLE, driver_error, is_pool_exhausted, pooled};
use crate::config::{Limits, StartupError};
use crate::db::connect_failure::{self, ConnectFailure};
use crate::db::failover::{self, ConnectionEpoch, Skipped, hosts};
use crate::db::session::{self, SessionError, SessionSettings};

/// How PostgreSQL plans prepared statements.
#[derive(Clone, Copy)]
pub enum PlanMode {
    /// PostgreSQL decides whether a custom plan for the current values pays. This is for reads,
    /// whose filters differ in selectivity.
    Auto,
    /// One generic plan by key. This is for writes, which always find their rows by key. A custom
    /// plan for arrays of the current length would look cheaper each time and cost more than it
    /// saves. A plan that was made while a table was empty must still be good when it is not.
    GenericByKey,
}

impl PlanMode {
    /// The settings of its sessions, each once.
    fn settings(self, limits: &Limits) -> Vec<(&'static str, String)> {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let (statement_timeout, plans) = match self {
            Self::Auto => (limits.statement_time, &[][..]),
            // A commit that waits for its standby must not be interrupted: PostgreSQL would
            // acknowledge it anyway. Waiting for locks has a limit of its own (lock_timeout).
            Self::GenericByKey => (Duration::ZERO, GENERIC_BY_KEY),
        };
        let mut settings = vec![
            ("statement_timeout", milliseconds(statement_timeout)),
            // A table that stays locked for a long time is as unavailable as the database itself.
            ("lock_timeout", milliseconds(self.lock_wait(limits))),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(limits.statement_time * 2),
            ),
        ];
        settings.extend(
            ALWAYS
                .iter()
                .chain(plans)
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        settings
    }

    /// How long a statement waits for a lock. A call waits for a connection and then for a lock. Together they must not
    /// exceed the limit.
    fn lock_wait(self, limits: &Limits) -> Duration {
        match self {
            // A read returns its connection early, so that others can use it.
            Self::Auto => limits.connection_wait / 4,
            Self::GenericByKey => limits.connection_wait / 2,
        }
    }
}

const ALWAYS: &[(&str, &str)] = &[
    ("default_transaction_isolation", "read committed"),
    ("TimeZone", "UTC"),
    // Compiling these short queries takes longer than running them.
    ("jit", "off"),
];
const GENERIC_BY_KEY: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The PostgreSQL server that accepts writes, and the connection options for it.
pub struct Server {
    options: PgConnectOptions,
    pub hosts: Vec<hosts::Host>,
}

impl Server {
    /// Parses the URL and connects to the server, which is checked. If the URL lists several servers, finds the one that
    /// accepts writes.
    ///
    /// This may take longer than within a call: the database may be starting too, or the machine may be busy starting
    /// everything.
    pub async fn find(url: &SecretString) -> Result<Self, StartupError> {
        let (options, hosts) = hosts::parse(url)?;
        // A pooler would refuse this parameter, and floating-point numbers are sent in binary.
        let mut options = options.extra_float_digits(None);
        if options.get_application_name().is_none() {
            options = options.application_name("leadsmith");
        }
        let deadline = Instant::now() + FIRST_CONNECT_WAIT;
        let (host, connection) = loop {
            let wait = match hosts.len() {
                1 => deadline.saturating_duration_since(Instant::now()),
                _ => Duration::ZERO,
            };
            let wait = wait.max(failover::PROBE_TIMEOUT);
            match failover::find_writable(&options, &hosts, wait).await {
                Ok(found) => {
                    found.skipped.iter().for_each(log_unused_host);
                    break (found.host, Some(found.connection));
                }
                Err(skipped) => {
                    // A standby may be promoted soon. Until then a server reports that it is not ready.
                    if let Some(standby) = skipped.iter().find(|skipped| skipped.is_standby()) {
                        break (standby.host.clone(), None);
                    }
                    let is_temporary = skipped.iter().any(Skipped::is_temporary);
                    if !is_temporary || Instant::now() + RETRY_DELAY >= deadline {
                        return Err(none_found(&skipped));
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        };
        let options = options.host(&host.0).port(host.1);
        let server = Self { options, hosts };
        server.require_own_sessions(connection).await?;
        Ok(server)
    }

    /// Checks that each connection has a session of its own, as the settings and locks of sessions need. Nothing may be
    /// set before: it would be set for the other clients of a shared session.
    async fn require_own_sessions(&self, first: Option<PgConnection>) -> Result<(), StartupError> {
        let checked = tokio::time::timeout(FIRST_CONNECT_WAIT, async {
            let mut first = match first {
                Some(connection) => connection,
                None => PgConnection::connect_with(&self.options).await?,
            };
            let mut second = PgConnection::connect_with(&self.options).await?;
            session::require_own([&mut first, &mut second]).await?;
            first.close().await?;
            second.close().await?;
            Ok::<_, SessionError>(())
        });
        let checked = checked.await.map_or_else(
            |_| Err(ConnectFailure::TimedOut(FIRST_CONNECT_WAIT)),
            |result| result.map_err(ConnectFailure::from),
        );
        checked.map_err(|failure| self.unusable(&failure))
    }

    /// The options of a pool. `epoch`, if any, says which of its connections are stale.
    pub fn options(
        &self,
        connections: u32,
        limits: &Limits,
        plan_mode: PlanMode,
        epoch: Option<&Arc<ConnectionEpoch>>,
    ) -> ConnectOptions {
        let wait = limits.connection_wait;
        let wait = wait.saturating_sub(plan_mode.lock_wait(limits));
        let settings = Arc::new(SessionSettings::new(&plan_mode.settings(limits)));
        let options = self.options.clone();
        let mut pooled = pooled("postgres://".into(), connections, wait);
        pooled.map_sqlx_postgres_opts(move |_| options.clone());
        if let Some(epoch) = epoch {
            failover::reject_stale(&mut pooled, Arc::clone(epoch), PING_AFTER_IDLE);
        }
        let epoch = epoch.cloned();
        pooled.map_sqlx_postgres_pool_opts(move |pool| {
            let settings = Arc::clone(&settings);
            let pool = pool.after_connect(move |connection, _| {
                let settings = Arc::clone(&settings);
                Box::pin(async move { Ok(settings.apply(connection).await?) })
            });
            match &epoch {
                Some(epoch) => failover::drop_stale(pool, Arc::clone(epoch)),
                None => pool,
            }
        });
        pooled
    }

    /// Opens a pool and its first connection.
    pub async fn connect(
        &self,
        options: ConnectOptions,
    ) -> Result<DatabaseConnection, StartupError> {
        let deadline = Instant::now() + FIRST_CONNECT_WAIT;
        loop {
            match Database::connect(options.clone()).await {
                Err(error) if is_pool_exhausted(&error) && Instant::now() < deadline => {}
                Err(error) => return Err(self.not_opened(&error)),
                Ok(pool) => return Ok(pool),
            }
        }
    }

    fn not_opened(&self, error: &DbErr) -> StartupError {
        match driver_error(error) {
            Some(SqlxError::PoolTimedOut) | None => {
                self.unusable(&ConnectFailure::TimedOut(FIRST_CONNECT_WAIT))
            }
            Some(error) => {
                StartupError::unavailable(connect_failure::describe(error, &self.options))
            }
        }
    }

    fn unusable(&self, failure: &ConnectFailure) -> StartupError {
        let sentence = failure.describe(&self.options);
        match failure {
            ConnectFailure::Unfit(_) => StartupError::new(sentence),
            ConnectFailure::TimedOut(_) | ConnectFailure::Name(_) | ConnectFailure::Driver(_) => {
                StartupError::unavailable(sentence)
            }
        }
    }
}

/// How long the first connection to a server may take.
const FIRST_CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The delay before a server that may be starting is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The error if no server of the URL can be used.
fn none_found(skipped: &[Skipped]) -> StartupError {
    let sentences: Vec<&str> = skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    let sentence = sentences.join("; ");
    match skipped.iter().all(Skipped::is_unfit) {
        true => StartupError::new(sentence),
        false => StartupError::unavailable(sentence),
    }
}

/// Logs each host that is not used: a mistyped host would otherwise go unnoticed.
fn log_unused_host(skipped: &Skipped) {
    let (host, port) = &skipped.host;
    tracing::warn!(
        host,
        port,
        why = skipped.why,
        "a host of the database URL is not used now"
    );
}
