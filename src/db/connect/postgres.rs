//! PostgreSQL: finds the server, and sets up its connections.
//!
//! The settings of a connection are made here and nowhere else, because each of them decides what a
//! change can lose or how long a query can hold a connection.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, SqlxError,
    Statement,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{driver_error, is_pool_exhausted, pooled};
use crate::config::{Limits, StartupError};
use crate::db::failover::{self, hosts};

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
    fn settings(self) -> Vec<(&'static str, String)> {
        // Compiling these short queries takes longer than running them.
        let mut settings = vec![("jit", "off")];
        if let Self::GenericByKey = self {
            settings.extend([
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                // A commit that waits for its standby must not be interrupted: PostgreSQL would
                // acknowledge it anyway. Waiting for locks has a limit of its own (lock_timeout).
                ("statement_timeout", "0"),
            ]);
        }
        settings
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    }
}

/// The PostgreSQL server that accepts writes, and the connection options for it.
pub struct Server {
    options: PgConnectOptions,
    pub hosts: Vec<hosts::Host>,
}

impl Server {
    /// Parses the URL. If it lists several servers, finds the one that accepts writes.
    pub async fn find(url: &SecretString) -> Result<Self, StartupError> {
        let (options, hosts) = hosts::parse(url)?;
        let is_local =
            options.get_socket().is_some() || hosts.iter().all(|(host, _)| hosts::is_local(host));
        let mut options = if names_ssl_mode(url.expose_secret()) || is_local {
            options
        } else {
            options.ssl_mode(PgSslMode::VerifyFull)
        };
        if hosts.len() > 1
            && let Some(((host, port), _)) =
                failover::find_writable(&options, &hosts, log_unused_host).await
        {
            options = options.host(&host).port(port);
        }
        Ok(Self { options, hosts })
    }

    pub fn options(
        &self,
        connections: u32,
        limits: &Limits,
        plan_mode: PlanMode,
    ) -> ConnectOptions {
        let lock_wait = match plan_mode {
            // A read returns its connection early, so that others can use it.
            PlanMode::Auto => limits.connection_wait / 4,
            PlanMode::GenericByKey => limits.connection_wait / 2,
        };
        // A call waits for a connection and then for a lock. Together they must not exceed the
        // limit.
        let wait = limits.connection_wait.saturating_sub(lock_wait);
        let statement_time = limits.statement_time;
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let settings = [
            ("statement_timeout", milliseconds(statement_time)),
            // A table that stays locked for a long time is as unavailable as the database itself.
            ("lock_timeout", milliseconds(lock_wait)),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(statement_time * 2),
            ),
            ("default_transaction_isolation", "read committed".into()),
        ];
        let options = self
            .options
            .clone()
            .options(settings)
            .options(plan_mode.settings());
        let mut pooled = pooled("postgres://".into(), connections, wait);
        pooled.map_sqlx_postgres_opts(move |_| options.clone().application_name("leadsmith"));
        pooled
    }
}

/// Logs each host that is not used: a mistyped host would otherwise go unnoticed.
fn log_unused_host((host, port): &hosts::Host, why: &str) {
    tracing::warn!(
        host,
        port,
        why,
        "a host of the database URL is not used now"
    );
}

/// Whether the URL itself sets how the connection is encrypted. Only a parameter counts: a password
/// may contain the same letters.
fn names_ssl_mode(url: &str) -> bool {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    parameters
        .split('&')
        .any(|parameter| parameter.starts_with("sslmode=") || parameter.starts_with("ssl-mode="))
}

/// Refuses servers whose settings could lose an acknowledged change, or corrupt text.
pub async fn check(pool: &DatabaseConnection) -> Result<(), StartupError> {
    let unreadable = |error| {
        StartupError::unavailable(format!("the database's settings cannot be read: {error}"))
    };
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
               current_setting('full_page_writes'), current_setting('synchronous_commit'), \
               current_setting('server_encoding')";
    let row = pool
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .map_err(unreadable)?
        .ok_or_else(|| StartupError::new("the database does not report its settings"))?;
    let version: i32 = row.try_get_by_index(0).map_err(unreadable)?;
    if version < 150_000 {
        return Err(StartupError::new(
            "the database is older than PostgreSQL 15: upgrade it",
        ));
    }
    for (index, setting) in [
        (1, "fsync"),
        (2, "full_page_writes"),
        (3, "synchronous_commit"),
    ] {
        let value: String = row.try_get_by_index(index).map_err(unreadable)?;
        if value == "off" {
            return Err(StartupError::new(format!(
                "the database has {setting} = off, so a confirmed change can be lost: set it to on in \
                 postgresql.conf (or for the user or database) and reload the configuration"
            )));
        }
    }
    let encoding: String = row.try_get_by_index(4).map_err(unreadable)?;
    if encoding != "UTF8" {
        return Err(StartupError::new(format!(
            "the database's encoding is {encoding}: create a database with ENCODING 'UTF8'"
        )));
    }
    Ok(())
}

/// Connects to a server. At startup this may take longer than within a call: the database may be
/// starting too, or the machine may be busy starting everything.
pub async fn connect(options: ConnectOptions) -> Result<DatabaseConnection, StartupError> {
    let deadline = Instant::now() + FIRST_CONNECT_WAIT;
    loop {
        match Database::connect(options.clone()).await {
            Err(error) if is_pool_exhausted(&error) && Instant::now() < deadline => {}
            result => return result.map_err(open_error),
        }
    }
}

/// How long the first connection to a server may take.
const FIRST_CONNECT_WAIT: Duration = Duration::from_secs(5);

fn open_error(error: DbErr) -> StartupError {
    let why = match driver_error(&error) {
        Some(SqlxError::PoolTimedOut) => "it does not respond".to_owned(),
        Some(SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    };
    StartupError::unavailable(format!(
        "the database cannot be opened ({why}): check that the server runs at the address in the database URL, and \
         that the URL has a valid user and password"
    ))
}

#[cfg(test)]
mod tests {
    use super::names_ssl_mode;

    #[test]
    fn only_a_parameter_chooses_the_encryption() {
        for url in [
            "postgres://u:sslmode=disable@db.example/leads",
            "postgres://u@db.example/sslmode=disable",
            "postgres://u@db.example/leads?application_name=sslmode=disable",
        ] {
            assert!(!names_ssl_mode(url), "{url}");
        }
        assert!(names_ssl_mode(
            "postgres://u@db.example/leads?a=b&sslmode=require"
        ));
    }
}
