//! The texts that an older version has written.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::db::{Db, Verdict, rows, search};
use crate::error::Result;

/// How many texts one transaction makes again.
const OUTDATED: u64 = 100;

/// Makes texts again that an older version has written, during an upgrade or before a rollback was undone. Until then
/// Search finds these leads only by what both versions agree on. Returns their number, which is the largest one if
/// there may be more.
///
/// # Errors
/// Those of the database.
pub async fn make_outdated_again(db: &Db) -> Result<u64> {
    let found = db.read().query_one_raw(outdated(db.backend(), 1)).await?;
    if found.is_none() {
        return Ok(0);
    }
    db.write_with_retry(|tx| {
        Box::pin(async move {
            let backend = tx.get_database_backend();
            let mut numbers = Vec::new();
            // An older program that is changing one of them waits, and its text is found the next time.
            let mut locked = outdated(backend, OUTDATED);
            if backend == DbBackend::Postgres {
                locked.sql.push_str(" FOR UPDATE SKIP LOCKED");
            }
            for row in tx.query_all_raw(locked).await? {
                numbers.push(row.try_get_by_index::<i64>(0)?);
            }
            let leads = crate::features::leads::store::get_by_numbers(&**tx, numbers).await?;
            let texts = leads
                .iter()
                .map(|lead| (lead.seq, lead.details.search_text()));
            let texts: search::Texts = texts.collect();
            let count = texts.len() as u64;
            let rows = search::change(tx, texts).await?;
            rows::write(tx, rows.into_iter().collect()).await?;
            Ok(Verdict::Done(count))
        })
    })
    .await
}

fn outdated(backend: DbBackend, limit: u64) -> Statement {
    let condition = search::is_outdated(backend);
    let sql = format!("SELECT seq FROM lead_search WHERE {condition} ORDER BY seq LIMIT {limit}");
    Statement::from_string(backend, sql)
}
