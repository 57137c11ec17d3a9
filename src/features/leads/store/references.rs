//! What refers to a lead: its newest opportunities and orders, and how many there are. One statement, which scans the
//! index of each table by lead.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

use crate::error::Result;
use crate::features::leads::model::{MAX_REPORTED, References};

/// What refers to a lead.
///
/// # Errors
/// If the database cannot be read.
pub async fn references(db: &impl ConnectionTrait, lead_id: Uuid) -> Result<References> {
    read(db, references_statement(db.get_database_backend(), lead_id)).await
}

/// The statement of [`references`]. The rows have the number of the kind, an id, and the number of all.
pub fn references_statement(backend: DbBackend, lead_id: Uuid) -> Statement {
    let of = |kind: i32, table: &str| {
        format!(
            "SELECT * FROM (SELECT {kind} AS kind, id, \
             (SELECT count(*) FROM {table} WHERE lead_id = $1) AS total, seq \
             FROM {table} WHERE lead_id = $1 ORDER BY seq DESC LIMIT {MAX_REPORTED}) AS {table}_of"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY kind, seq DESC",
        of(0, "opportunities"),
        of(1, "orders")
    );
    Statement::from_sql_and_values(backend, sql, [lead_id.into()])
}

async fn read(db: &impl ConnectionTrait, statement: Statement) -> Result<References> {
    let mut found = References::default();
    for row in db.query_all_raw(statement).await? {
        let kind: i32 = row.try_get_by_index(0)?;
        let (id, total): (Uuid, i64) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        let (ids, count) = match kind {
            0 => (&mut found.opportunity_ids, &mut found.opportunity_count),
            _ => (&mut found.order_ids, &mut found.order_count),
        };
        ids.push(id);
        *count = total;
    }
    Ok(found)
}
