//! PostgreSQL: where the server is, and what its connections are set to.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, SqlxError,
    Statement,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{IDLE, is_busy, pooled, runtime};
use crate::config::{Limits, Refusal};
use crate::db::hosts;
use crate::db::reader::Lost;

/// How PostgreSQL plans what is prepared.
#[derive(Clone, Copy)]
pub enum Plans {
    /// It decides from time to time whether a plan for the values at hand is worth its making. What
    /// is read differs by how selective a filter is.
    Considered,
    /// Once, by keys. What is written is found by its key, always: a plan for arrays of the length
    /// at hand would look cheaper each time and cost more than it saves, and one that was made while
    /// a table was empty must still be good when it is not.
    ByKeys,
}

impl Plans {
    fn settings(self) -> Vec<(&'static str, String)> {
        // Queries here are short: to compile one takes longer than to run it.
        let mut settings = vec![("jit", "off")];
        if let Self::ByKeys = self {
            settings.extend([
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                // A commit that waits for its standby must not be cut short: PostgreSQL would answer
                // it all the same. What may wait for others has its own limit (lock_timeout).
                ("statement_timeout", "0"),
            ]);
        }
        settings
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    }
}

/// Where PostgreSQL is.
pub struct Server {
    options: PgConnectOptions,
    pub hosts: Vec<hosts::Host>,
}

impl Server {
    /// Reads the URL; where it names several servers, finds the one that takes changes.
    pub async fn find(url: &SecretString) -> Result<Self, Refusal> {
        let (options, hosts) = hosts::parse(url)?;
        let is_local =
            options.get_socket().is_some() || hosts.iter().all(|(host, _)| hosts::is_local(host));
        let mut options = if names_ssl_mode(url.expose_secret()) || is_local {
            options
        } else {
            options.ssl_mode(PgSslMode::VerifyFull)
        };
        if hosts.len() > 1
            && let Some(((host, port), _)) = hosts::find(&options, &hosts, passed_over).await
        {
            options = options.host(&host).port(port);
        }
        Ok(Self { options, hosts })
    }

    pub fn options(&self, connections: u32, limits: &Limits, plans: Plans) -> ConnectOptions {
        let lock_wait = match plans {
            // Who only looks soon gives the connection to somebody else.
            Plans::Considered => limits.connection_wait / 4,
            Plans::ByKeys => limits.connection_wait / 2,
        };
        // What a call waits for, one after the other, is together what it may wait.
        let wait = limits.connection_wait.saturating_sub(lock_wait);
        let statement_time = limits.statement_time;
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let settings = [
            ("statement_timeout", milliseconds(statement_time)),
            // A table that is locked for long is as a database that is away.
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
            .options(plans.settings());
        let mut pooled = pooled("postgres://".into(), connections, wait);
        pooled.map_sqlx_postgres_opts(move |_| options.clone().application_name("leadsmith"));
        pooled
    }
}

/// A host that is mistyped would never be used, and nobody would know.
fn passed_over((host, port): &hosts::Host, why: &str) {
    tracing::warn!(
        host,
        port,
        why,
        "a host of the database URL is not used now"
    );
}

/// Connections that were opened before one was found dead are not used again. Only of the others those
/// that were idle for long are asked whether they live: a host that froze would not answer.
pub fn condemned(mut options: ConnectOptions, lost: Arc<Lost>) -> ConnectOptions {
    let idle = Arc::clone(&lost);
    options.map_sqlx_postgres_before_acquire(move |connection, known| {
        let usable = !idle.condemns(known.age);
        Box::pin(async move {
            if usable && known.idle_for > IDLE {
                connection.ping().await?;
            }
            Ok(usable)
        })
    });
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let lost = Arc::clone(&lost);
        // By an error it is dropped without a word, which would have to be waited for.
        pool.after_release(move |_, known| {
            let condemned = lost.condemns(known.age);
            let end = || SqlxError::Io(std::io::ErrorKind::ConnectionAborted.into());
            Box::pin(std::future::ready(
                (!condemned).then_some(true).ok_or_else(end),
            ))
        })
    });
    options
}

/// Whether a URL says itself how the connection is to be encrypted. Only a parameter counts: a
/// password may hold the same letters.
fn names_ssl_mode(url: &str) -> bool {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    parameters
        .split('&')
        .any(|parameter| parameter.starts_with("sslmode=") || parameter.starts_with("ssl-mode="))
}

/// Settings of the server under which an answered change could be lost, or text mangled.
pub async fn check(pool: &DatabaseConnection) -> Result<(), Refusal> {
    let unreadable =
        |error| Refusal::new(format!("the database's settings cannot be read: {error}"));
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
               current_setting('full_page_writes'), current_setting('synchronous_commit'), \
               current_setting('server_encoding')";
    let row = pool
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .map_err(unreadable)?
        .ok_or_else(|| Refusal::new("the database answers nothing about its settings"))?;
    let version: i32 = row.try_get_by_index(0).map_err(unreadable)?;
    if version < 150_000 {
        return Err(Refusal::new(
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
            return Err(Refusal::new(format!(
                "the database has {setting} = off, under which an answered change can be lost: set \
                 it to on in postgresql.conf (or for the user or database) and reload"
            )));
        }
    }
    let encoding: String = row.try_get_by_index(4).map_err(unreadable)?;
    if encoding != "UTF8" {
        return Err(Refusal::new(format!(
            "the database's encoding is {encoding}: create one with ENCODING 'UTF8'"
        )));
    }
    Ok(())
}

/// Connects to a server. At the start there is more time than a call has: the database, too, may be just
/// starting, or the machine busy with all that does.
pub async fn connect(options: ConnectOptions) -> Result<DatabaseConnection, Refusal> {
    let last = Instant::now() + OPENING;
    loop {
        match Database::connect(options.clone()).await {
            Err(error) if is_busy(&error) && Instant::now() < last => {}
            connected => return connected.map_err(unopened),
        }
    }
}

/// How long a server may take to let the first in.
const OPENING: Duration = Duration::from_secs(5);

fn unopened(error: DbErr) -> Refusal {
    let why = match runtime(&error) {
        Some(SqlxError::PoolTimedOut) => "nothing answers".to_owned(),
        Some(SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    };
    Refusal::new(format!(
        "the database cannot be opened ({why}): check that it runs where the database URL says \
             and that the URL names a user and password it takes"
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
