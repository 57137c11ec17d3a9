//! What became of a transaction whose commit was not answered, because the connection died first.
//!
//! It may have come about or not, and on PostgreSQL it may still be on its way: waiting for the disk
//! or for a standby. So it is first waited out, by its number; then its history tells. The number
//! alone would not: after a failover the new primary may give it to another transaction.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use crate::db::Db;
use crate::db::entities::history;
use crate::error::Result;

/// How long the database is asked.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What tells later whether a transaction came about.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its number, on PostgreSQL.
    pub transaction: String,
    /// A history row it wrote.
    pub history: Uuid,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on disk.
    Committed,
    /// It left nothing behind and never will.
    Gone,
}

/// Finds out, for as long as somebody waits for it. None when the database does not come back.
pub async fn learn(db: &Db, trace: &Trace, mut awaited: impl FnMut() -> bool) -> Option<Fate> {
    let last = Instant::now() + PATIENCE;
    while awaited() && Instant::now() < last {
        match ask(db, trace).await {
            Ok(Some(fate)) => return Some(fate),
            // Still on its way, or nobody there to ask.
            Ok(None) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
    None
}

async fn ask(db: &Db, trace: &Trace) -> Result<Option<Fate>> {
    // On the new primary a number it has not reached yet is an error: the transaction was lost.
    let sql = "SELECT CASE WHEN $1::xid8 < pg_snapshot_xmax(pg_current_snapshot()) \
               THEN pg_xact_status($1::xid8) END";
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        sql,
        [trace.transaction.as_str().into()],
    );
    let row = db.read().query_one_raw(statement).await?;
    let status: Option<String> = row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .flatten();
    if status.as_deref() == Some("in progress") {
        return Ok(None);
    }
    // A statement of its own: it sees what was committed before it.
    let row = history::Entity::find_by_id(trace.history)
        .one(db.read())
        .await?;
    Ok(Some(if row.is_some() {
        Fate::Committed
    } else {
        Fate::Gone
    }))
}
