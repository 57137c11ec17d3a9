//! The lock on the schema in PostgreSQL: each server holds it in shared mode, and reverting migrations needs it
//! exclusively.
//!
//! It is an advisory lock of a session. A server acquires it over the connection that follows the primary
//! (`failover/primary.rs`). So it ends with the server, however that ends, and is acquired again after a restart of
//! PostgreSQL or a failover, within a second or two. A pooler that gives a session to several clients (PgBouncer in
//! transaction mode) would mix up the locks of its clients; one in session mode does not.

use sea_orm::sqlx::{self, PgConnection, Row as _};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

/// The first half of the lock's number: "lead" in ASCII. The second is a hash of the schema's name, because several
/// services may share a database, each in a schema of its own.
const LOCK: i32 = 0x6c65_6164;

/// Acquires the lock of a server for this session. False while migrations are being reverted.
///
/// # Errors
/// If the connection fails.
pub async fn try_hold(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT pg_try_advisory_lock_shared($1, hashtext(coalesce(current_schema(), '')))";
    let row = sqlx::query(sql).bind(LOCK).fetch_one(connection).await?;
    row.try_get(0)
}

/// Acquires the lock exclusively, for as long as the session exists. False while servers hold it.
///
/// # Errors
/// If the connection fails.
pub async fn try_exclude(db: &DatabaseConnection) -> Result<bool, DbErr> {
    let sql = "SELECT pg_try_advisory_lock($1, hashtext(coalesce(current_schema(), '')))";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [LOCK.into()]);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}

/// The process ids of the sessions that hold the lock, as text.
///
/// # Errors
/// If the connection fails.
pub async fn holders(db: &DatabaseConnection) -> Result<String, DbErr> {
    let sql = "SELECT coalesce(string_agg(pid::text, ', ' ORDER BY pid), 'none any more') FROM pg_locks \
               WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND pid <> pg_backend_pid() \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND classid::bigint = $1 \
               AND objid::bigint = hashtext(coalesce(current_schema(), ''))::bigint & 4294967295";
    let lock = i64::from(LOCK);
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [lock.into()]);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(String::new()), |row| row.try_get_by_index(0))
}
