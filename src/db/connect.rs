//! Opens the database with the settings its defaults get wrong, and refuses an unsafe one.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, RuntimeErr,
    SqlxError, Statement,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::file::OpenFile;
use super::reader::{Lost, Reader};
use super::{Db, hosts};
use crate::clock::Clock;
use crate::config::{Limits, Refusal};
use crate::seeded::{Bug, sown};

/// Which database a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file.
    Sqlite(std::path::PathBuf),
    /// A server.
    Postgres,
}

impl Target {
    /// Reads a database URL: `sqlite:FILE` (also `sqlite://FILE`) or `postgres://…`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, without the URL, which may hold a password.
    pub fn parse(secret: &SecretString) -> Result<Self, Refusal> {
        let url = secret.expose_secret();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            hosts::parse(secret)?;
            return Ok(Self::Postgres);
        }
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Err(Refusal::new(
                "the database URL must begin with sqlite: or postgres://, \
                 as in sqlite:leadsmith.db or postgres://leadsmith@localhost/leadsmith",
            ));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.is_empty() || file.contains(":memory:") || file.contains('?') {
            return Err(Refusal::new(
                "the database URL must name a file behind sqlite:, without parameters: a database \
                 in memory would lose every lead at the end",
            ));
        }
        let path = Path::new(file).to_path_buf();
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                Err(Refusal::new(format!(
                    "the folder {} of the database file does not exist: create it first",
                    folder.display()
                )))
            }
            _ => Ok(Self::Sqlite(path)),
        }
    }
}

/// Opens the database for serving.
///
/// # Errors
/// When it cannot be reached, or is set up so that an acknowledged change could be lost.
pub async fn open(url: &SecretString, limits: &Limits, clock: Clock) -> Result<Db, Refusal> {
    let lost = Arc::<Lost>::default();
    let (mut hosts, mut opened) = (Vec::new(), None);
    let (readers, writer) = match Target::parse(url)? {
        Target::Sqlite(file) => {
            opened = Some(create_private(&file)?);
            let wait = limits.connection_wait;
            let writer = sqlite(&file, 1, limits.sqlite_write_wait, false);
            let writer = connect_to_file(&file, writer, wait).await?;
            let readers = sqlite(&file, limits.sqlite_readers, wait, true);
            let readers = connect_to_file(&file, readers, wait).await?;
            (readers, writer)
        }
        Target::Postgres => {
            let writers = (limits.postgres_connections / 2).max(1);
            let readers = (limits.postgres_connections - writers).max(1);
            let server = Server::find(url).await?;
            let options = |connections, plans| {
                condemned(
                    server.options(connections, limits, plans),
                    Arc::clone(&lost),
                )
            };
            let readers = connect(options(readers, Plans::Considered)).await?;
            check_postgres(&readers).await?;
            let writer = connect(options(writers, Plans::ByKeys)).await?;
            hosts = server.hosts;
            (readers, writer)
        }
    };
    let pool = readers;
    let readers = Reader { pool, lost };
    Ok(Db::new(readers, writer, hosts, opened, clock))
}

/// One connection without a limit on a statement's time, for migrations.
///
/// # Errors
/// When the database cannot be reached.
pub async fn open_for_migration(url: &SecretString) -> Result<DatabaseConnection, Refusal> {
    let wait = Duration::from_secs(10);
    match Target::parse(url)? {
        Target::Sqlite(file) => {
            create_private(&file)?;
            connect_to_file(&file, sqlite(&file, 1, wait, false), wait).await
        }
        Target::Postgres => {
            let limits = Limits {
                statement_time: Duration::ZERO,
                connection_wait: wait,
                ..Limits::default()
            };
            let server = Server::find(url).await?;
            let db = connect(server.options(1, &limits, Plans::Considered)).await?;
            // Before anything is created in it.
            check_postgres(&db).await?;
            Ok(db)
        }
    }
}

/// One connection to a file of SQLite's as it lies there: nothing is created, and its journal stays
/// what it is. `read` takes it for a file that nobody changes, and leaves a log beside it alone.
pub(super) async fn open_file(file: &Path, read: bool) -> Result<DatabaseConnection, Refusal> {
    let mut options = pooled("sqlite::memory:".into(), 1, Duration::from_secs(10));
    let name = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        let log = defaults;
        SqliteConnectOptions::clone(&log)
            .filename(&name)
            .in_memory(false)
            .shared_cache(false)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(1))
            .read_only(read)
            .immutable(read)
    });
    let connected = Database::connect(options).await;
    connected.map_err(|error| unopened_file(file, &error))
}

fn unopened_file(file: &Path, error: &DbErr) -> Refusal {
    let why = match runtime(error) {
        Some(SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    };
    Refusal::new(format!(
        "the file {} cannot be opened ({why}): check that it is a database of Leadsmith's, and that the \
         service's user may write to it and to its folder",
        file.display()
    ))
}

/// Creates the database's file, if need be, so that only its owner reads it: it holds the leads, and
/// SQLite gives the files beside it the same rights.
fn create_private(file: &Path) -> Result<OpenFile, Refusal> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .and_then(|_| OpenFile::new(file))
        .map_err(|error| {
            Refusal::new(format!(
                "the database file {} cannot be written ({error}): give the service's user the \
                 right to, or name another file",
                file.display()
            ))
        })
}

/// Connects to a server. At the start there is more time than a call has: the database, too, may be just
/// starting, or the machine busy with all that does.
async fn connect(options: ConnectOptions) -> Result<DatabaseConnection, Refusal> {
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

/// Opens a file. Where two processes turn a new file's journal into a write-ahead log at the same
/// moment, SQLite tells one that it is locked, whatever the busy timeout: it is asked again.
async fn connect_to_file(
    file: &Path,
    options: ConnectOptions,
    wait: Duration,
) -> Result<DatabaseConnection, Refusal> {
    let last = Instant::now() + wait;
    loop {
        match Database::connect(options.clone()).await {
            Err(error) if is_locked(&error) && Instant::now() < last => {
                tokio::time::sleep(LOCKED_POLL).await;
            }
            connected => return connected.map_err(|error| unopened_file(file, &error)),
        }
    }
}

/// After how long a locked file is asked for again.
const LOCKED_POLL: Duration = Duration::from_millis(20);

/// Whether another connection keeps SQLite from doing this now.
pub(super) fn is_locked(error: &DbErr) -> bool {
    let code = runtime(error)
        .and_then(|error| error.as_database_error())
        .and_then(|error| error.code());
    // SQLITE_BUSY and what extends it (SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT).
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

/// Whether all connections were in use.
pub fn is_busy(error: &DbErr) -> bool {
    matches!(runtime(error), Some(SqlxError::PoolTimedOut))
        || matches!(error, DbErr::ConnectionAcquire(_))
}

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

/// What the driver said.
fn runtime(error: &DbErr) -> Option<&SqlxError> {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else {
        return None;
    };
    match runtime {
        RuntimeErr::SqlxError(error) => Some(error),
        RuntimeErr::Internal(_) => None,
    }
}

/// What both databases share: quiet logs, bounded waits, and no ping before each use. Connections stay,
/// however old or idle: the task by which sqlx 0.9.0 ends those can keep a thread busy for ever
/// (transact-rs/sqlx#3645, mended after it).
fn pooled(url: String, connections: u32, wait: Duration) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(wait)
        .connect_timeout(wait)
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging_level(tracing::log::LevelFilter::Debug)
        .test_before_acquire(false);
    options
}

/// After how long a connection that nobody used is asked whether it lives before it is used.
const IDLE: Duration = Duration::from_secs(5);

fn sqlite(file: &Path, connections: u32, wait: Duration, read: bool) -> ConnectOptions {
    let mut options = pooled("sqlite::memory:".into(), connections, wait);
    options.test_before_acquire_if_idle_for(IDLE);
    let file = file.to_path_buf();
    options.map_sqlx_sqlite_opts(move |defaults| {
        let log = defaults;
        SqliteConnectOptions::clone(&log)
                .filename(&file)
                .in_memory(false)
                .shared_cache(false)
                .create_if_missing(!read)
                .busy_timeout(Duration::from_secs(5))
                .journal_mode(SqliteJournalMode::Wal)
                // An OK is on disk: the log is synced at every commit.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .pragma("journal_size_limit", "67108864")
                // 8 MiB a connection: what leads to the rows of millions of leads stays in memory.
                .pragma("cache_size", "-8192")
                // What is deleted or overwritten is gone from the file: people may ask to be forgotten.
                .pragma("secure_delete", "ON")
                .pragma("query_only", if read { "ON" } else { "OFF" })
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_done(connection)))
    });
    options
}

/// Whether a connection that is given back may be used again. When a COMMIT fails, by a full or a failing
/// disk, SQLite rolls the transaction back by itself, and sqlx 0.9.0 goes on counting it: to it the next
/// transactions are savepoints inside, and what is answered OK then is never committed. Such a connection
/// is closed.
async fn is_done(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    if sown(Bug::SpoiltConnection) {
        return Ok(true);
    }
    if connection.is_in_transaction() {
        // A ROLLBACK may be on its way: what is asked now is answered after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// How PostgreSQL plans what is prepared.
#[derive(Clone, Copy)]
enum Plans {
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
struct Server {
    options: PgConnectOptions,
    hosts: Vec<hosts::Host>,
}

impl Server {
    /// Reads the URL; where it names several servers, finds the one that takes changes.
    async fn find(url: &SecretString) -> Result<Self, Refusal> {
        let (first, hosts) = hosts::parse(url)?;
        let options = PgConnectOptions::from_str(&first)
            .map_err(|_| Refusal::new("the database URL is not a PostgreSQL URL"))?;
        let is_local = |host: &str| {
            matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]") || host.starts_with('/')
        };
        let local = options.get_socket().is_some() || hosts.iter().all(|(host, _)| is_local(host));
        let mut options = if names_ssl_mode(&first) || local {
            options
        } else {
            options.ssl_mode(PgSslMode::VerifyFull)
        };
        if hosts.len() > 1
            && let Some(((host, port), _)) = hosts::find(&options, &hosts).await
        {
            options = options.host(&host).port(port);
        }
        Ok(Self { options, hosts })
    }

    fn options(&self, connections: u32, limits: &Limits, plans: Plans) -> ConnectOptions {
        let lock_wait = match plans {
            // Who only looks soon gives the connection to somebody else.
            Plans::Considered => limits.connection_wait / 4,
            Plans::ByKeys => limits.connection_wait / 2,
        };
        // What a call waits for, one after the other, is together what it may wait.
        let wait = limits.connection_wait.saturating_sub(lock_wait);
        let (statement_time, lock_wait) = match sown(Bug::PatientPool) {
            true => (Duration::from_secs(60), Duration::from_secs(30)),
            false => (limits.statement_time, lock_wait),
        };
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

/// Connections that were opened before one was found dead are not used again. Only of the others those
/// that were idle for long are asked whether they live: a host that froze would not answer.
fn condemned(mut options: ConnectOptions, lost: Arc<Lost>) -> ConnectOptions {
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
async fn check_postgres(pool: &DatabaseConnection) -> Result<(), Refusal> {
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
