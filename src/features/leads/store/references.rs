//! What refers to leads: their newest opportunities and orders, and how many there are. One statement for many leads, so
//! that concurrent conversions share it. It scans the index of each table by lead.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::db::rows::padded_len;
use crate::error::Result;
use crate::features::leads::model::{MAX_REPORTED, References};

/// What refers to each of these leads.
///
/// # Errors
/// If the database cannot be read.
pub async fn references(
    db: &impl ConnectionTrait,
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, References>> {
    let statement = references_statement(db.get_database_backend(), ids);
    let mut found: HashMap<Uuid, References> = HashMap::new();
    for row in db.query_all_raw(statement).await? {
        let kind: i32 = row.try_get_by_index(0)?;
        let (lead_id, id): (Uuid, Uuid) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        let total: i64 = row.try_get_by_index(3)?;
        let of_lead = found.entry(lead_id).or_default();
        match kind {
            0 => {
                of_lead.opportunity_ids.push(id);
                of_lead.opportunity_count = total;
            }
            _ => {
                of_lead.order_ids.push(id);
                of_lead.order_count = total;
            }
        }
    }
    Ok(found)
}

/// The statement of [`references`]. The rows have the number of the kind, the lead, an id, and the number of all. There
/// must be at least one id.
pub fn references_statement(backend: DbBackend, ids: Vec<Uuid>) -> Statement {
    let len = padded_len(ids.len());
    let last = ids.last().copied().into_iter().cycle();
    let values: Vec<Value> = ids
        .iter()
        .copied()
        .chain(last)
        .take(len)
        .map(Value::from)
        .collect();
    let list: Vec<String> = (1..=values.len())
        .map(|number| format!("${number}"))
        .collect();
    let leads = list.join(", ");
    let of = |kind: i32, table: &str| {
        format!(
            "SELECT kind, lead_id, id, total, seq FROM (SELECT {kind} AS kind, lead_id, id, seq, \
             count(*) OVER (PARTITION BY lead_id) AS total, \
             row_number() OVER (PARTITION BY lead_id ORDER BY seq DESC) AS place \
             FROM {table} WHERE lead_id IN ({leads})) AS of_{table} WHERE place <= {MAX_REPORTED}"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY kind, seq DESC",
        of(0, "opportunities"),
        of(1, "orders")
    );
    Statement::from_sql_and_values(backend, sql, values)
}
