//! What became of a transaction whose commit was not answered, because the connection died first.
//!
//! It may have come about or not, and on PostgreSQL it may still be on its way: waiting for the disk
//! or for a standby. So it is first waited out, by its number; then a row it wrote tells. The number
//! alone would not: after a failover the new primary may give it to another transaction.
//!
//! What is found there is not on the standby for sure: who dies while waiting for it leaves a commit
//! that the primary shows at once ([`Tx::settled`]).

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::idempotency::Name;
use crate::db::entities::{action_run, history, idempotency_record};
use crate::db::{Db, Tx, Verdict};
use crate::error::Result;

/// How long the database is asked.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What tells later whether a transaction came about.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its number, on PostgreSQL.
    pub transaction: String,
    /// A row it wrote.
    pub witness: Witness,
}

/// A row that a transaction writes and nobody else does.
#[derive(Clone, Copy, Debug)]
pub enum Witness {
    /// Of a change.
    History(Uuid),
    /// Of an attempt that changed nothing.
    Run(Uuid),
    /// Of an answer to keep, where nothing else was to be written.
    Answer(Name),
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

/// In a transaction that writes: it has a number itself, and only a primary takes it.
async fn ask(db: &Db, trace: &Trace) -> Result<Option<Fate>> {
    let trace = trace.clone();
    db.write(move |tx| {
        Box::pin(async move {
            let fate = if is_under_way(tx, &trace.transaction).await? {
                None
            } else if is_there(tx, trace.witness).await? {
                tx.settled().await?;
                Some(Fate::Committed)
            } else {
                Some(Fate::Gone)
            };
            Ok(Verdict::Done(fate))
        })
    })
    .await
}

/// Whether a transaction with this number has begun and not ended. A new primary may not have come to
/// it yet, which is an error to ask about: there every number given out is below the next.
async fn is_under_way(tx: &Tx, number: &str) -> Result<bool> {
    let sql = "SELECT CASE WHEN $1::xid8 < pg_current_xact_id() \
               THEN pg_xact_status($1::xid8) = 'in progress' ELSE FALSE END";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [number.into()]);
    let row = tx.query_one_raw(statement).await?;
    let answer: Option<Option<bool>> = row.map(|row| row.try_get_by_index(0)).transpose()?;
    // Too old to be known is not under way.
    Ok(answer.flatten().unwrap_or(false))
}

/// A statement of its own: it sees what was committed before it.
async fn is_there(tx: &Tx, witness: Witness) -> Result<bool> {
    let db = &**tx;
    Ok(match witness {
        Witness::History(id) => history::Entity::find_by_id(id).one(db).await?.is_some(),
        Witness::Run(id) => action_run::Entity::find_by_id(id).one(db).await?.is_some(),
        Witness::Answer(name) => {
            let kept = idempotency_record::Entity::find_by_id(name);
            kept.one(db).await?.is_some()
        }
    })
}
