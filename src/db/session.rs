//! What each session with PostgreSQL must be: durable, in UTF-8, set up as the service needs it, and its own.
//!
//! A server's settings decide whether an acknowledged change can be lost. They may differ after a restart, a failover or
//! an `ALTER ROLE`, so every new connection is checked, and the probe of the failover is checked again every second. The
//! settings of the service are made by a statement and read back by another one, because startup parameters are
//! refused or ignored by poolers, and because a pooler may give the second statement another session.
//!
//! The statements are sent without being prepared: behind a pooler that shares sessions, a prepared statement could be
//! executed in a session that does not know it, and the check would fail for a reason that says nothing.

use sea_orm::SqlxError;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{AssertSqlSafe, PgConnection, Row as _, raw_sql};

/// The oldest version that the service works with, as PostgreSQL writes it.
const OLDEST_VERSION: i32 = 150_000;

/// What is read in each check, in the order of [`Session::read`].
const REPORT: &str = "SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('server_version_num')::int, \
                      current_setting('fsync'), current_setting('full_page_writes'), \
                      current_setting('synchronous_commit'), current_setting('server_encoding'), \
                      current_setting('client_encoding')";
/// The settings among them that must not be `off`, with their index.
const DURABILITY: [(usize, &str); 3] = [
    (3, "fsync"),
    (4, "full_page_writes"),
    (5, "synchronous_commit"),
];
const REPORTED: usize = 8;

const SHARED: &str = "its sessions are shared between clients, as by PgBouncer with pool_mode = transaction or \
                      statement, which would mix up the locks and settings of this service with those of others: set \
                      pool_mode = session for this database in the pooler, or connect to PostgreSQL itself";

/// Why a session cannot be used.
#[derive(Debug)]
pub enum SessionError {
    /// The server or the session is not as it must be. A clause that says what is wrong and how to fix it.
    Unfit(String),
    /// The check itself failed.
    Failed(SqlxError),
}

impl From<SqlxError> for SessionError {
    fn from(error: SqlxError) -> Self {
        Self::Failed(error)
    }
}

impl From<SessionError> for SqlxError {
    /// The only kind of error that a hook of the pool can return.
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unfit(why) => Self::Configuration(why.into()),
            SessionError::Failed(error) => error,
        }
    }
}

/// A session that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id of the server's process, which is the same for the life of a session.
    pub pid: i32,
    /// Whether the server accepts changes.
    pub is_writable: bool,
}

impl Session {
    /// Checks that nothing can be lost or corrupted by the settings of the server and of the session.
    ///
    /// # Errors
    /// If it can, if the server is too old, or if the connection fails.
    pub async fn check(connection: &mut PgConnection) -> Result<Self, SessionError> {
        Self::read(&raw_sql(REPORT).fetch_one(connection).await?)
    }

    fn read(row: &PgRow) -> Result<Self, SessionError> {
        if row.try_get::<i32, _>(2)? < OLDEST_VERSION {
            return Err(unfit("it is older than PostgreSQL 15: upgrade it"));
        }
        for (index, setting) in DURABILITY {
            if row.try_get::<&str, _>(index)? == "off" {
                return Err(unfit(format!(
                    "it has {setting} = off, so a confirmed change can be lost: set it to on in postgresql.conf (or for \
                     the user or database) and reload the configuration"
                )));
            }
        }
        let encoding: &str = row.try_get(6)?;
        if encoding != "UTF8" {
            return Err(unfit(format!(
                "its encoding is {encoding}: create a database with ENCODING 'UTF8'"
            )));
        }
        if row.try_get::<&str, _>(7)? != "UTF8" {
            return Err(not_kept("client_encoding"));
        }
        Ok(Self {
            pid: row.try_get(0)?,
            is_writable: !row.try_get::<bool, _>(1)?,
        })
    }

    /// Checks the session again, and that it is still the same one.
    ///
    /// # Errors
    /// As [`check`](Self::check); if the connection leads to another session now.
    pub async fn check_again(self, connection: &mut PgConnection) -> Result<Self, SessionError> {
        let now = Self::check(connection).await?;
        if now.pid != self.pid {
            return Err(unfit(SHARED));
        }
        Ok(now)
    }
}

/// The settings that the service makes in a session.
pub struct SessionSettings {
    names: Vec<&'static str>,
    set: String,
    read: String,
}

impl SessionSettings {
    /// `settings` are names, each once, and values, which contain no quotes.
    pub fn new(settings: &[(&'static str, String)]) -> Self {
        let mut set = "SELECT pg_backend_pid()".to_owned();
        let mut read = REPORT.to_owned();
        for (name, value) in settings {
            set.push_str(&format!(", set_config('{name}', '{value}', false)"));
            read.push_str(&format!(", current_setting('{name}')"));
        }
        let names = settings.iter().map(|(name, _)| *name).collect();
        Self { names, set, read }
    }

    /// Makes the settings, reads them back, and checks the session, in two round trips.
    ///
    /// # Errors
    /// As [`Session::check`]; if a setting was not kept.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), SessionError> {
        let set = raw_sql(AssertSqlSafe(self.set.clone()));
        let set = set.fetch_one(&mut *connection).await?;
        let read = raw_sql(AssertSqlSafe(self.read.clone()));
        let read = read.fetch_one(connection).await?;
        if Session::read(&read)?.pid != set.try_get::<i32, _>(0)? {
            return Err(unfit(SHARED));
        }
        for (index, name) in self.names.iter().enumerate() {
            let made: &str = set.try_get(1 + index)?;
            if read.try_get::<&str, _>(REPORTED + index)? != made {
                return Err(not_kept(name));
            }
        }
        Ok(())
    }
}

/// Checks that two open connections have a session each, which no other client uses between their statements.
///
/// A pooler that shares sessions gives an idle one to the next statement: either the one that was returned last, which
/// the other connection then gets, or each in turn, so that the same connection gets another one.
///
/// # Errors
/// If they do not, or if a connection fails.
pub async fn require_own(connections: [&mut PgConnection; 2]) -> Result<(), SessionError> {
    let [first, second] = connections;
    let one = Session::check(first).await?;
    one.check_again(first).await?;
    let two = Session::check(second).await?;
    if two.pid == one.pid {
        return Err(unfit(SHARED));
    }
    two.check_again(second).await?;
    one.check_again(first).await?;
    Ok(())
}

fn unfit(why: impl Into<String>) -> SessionError {
    SessionError::Unfit(why.into())
}

fn not_kept(name: &str) -> SessionError {
    unfit(format!(
        "a session does not keep the setting {name} that the service made: check what is between the service and \
         PostgreSQL, such as a pooler"
    ))
}
