//! Orders to run the action of: one for each of the first leads in [`super::shuffled`]'s order.

use anyhow::Result;
use rusqlite::{Connection, params};
use sea_orm::sqlx::postgres::PgPoolCopyExt;

use super::{DataSet, lead_id, order_id, shuffled};
use crate::place::Place;

const ITEMS: &str = r#"[{"description":"Virtual server, per month","quantity":2,"unit_price":{"currency_code":"EUR","units":19,"nanos":900000000}}]"#;
const COLUMNS: &str = "id, lead_id, version, state, items, actions, create_time, update_time";
const TIME: &str = "2024-06-01T00:00:00+00:00";

/// An order's actions when its only one is in this state.
pub fn actions(state: &str) -> String {
    format!(
        r#"[{{"key":"provision-client","type":"PROVISION_CLIENT","name":"Provision Client","automatic":false,"prerequisites":[],"state":"{state}"}}]"#
    )
}

/// Writes `count` orders.
pub async fn load(data: &DataSet, count: u64) -> Result<()> {
    let actions = actions("PENDING");
    let numbers = (0..count).map(|turn| shuffled(turn, data.open()));
    match &data.place {
        Place::Sqlite(file) => {
            let db = Connection::open(file)?;
            db.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
            let mut insert = db.prepare(&format!(
                "INSERT INTO orders ({COLUMNS}) VALUES (?, ?, 1, 'PROCESSING', ?, ?, ?, ?)"
            ))?;
            for number in numbers {
                let (id, lead) = (order_id(number), lead_id(number));
                let (id, lead) = (id.as_bytes(), lead.as_bytes());
                insert.execute(params![id, lead, ITEMS, actions, TIME, TIME])?;
            }
            db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE); ANALYZE orders")?;
        }
        Place::Postgres(..) => {
            let db = data.place.connect().await?;
            let pool = db.get_postgres_connection_pool();
            let sql = format!("COPY orders ({COLUMNS}) FROM STDIN");
            let mut copy = pool.copy_in_raw(&sql).await?;
            for number in numbers {
                let (id, lead) = (order_id(number), lead_id(number));
                let line =
                    format!("{id}\t{lead}\t1\tPROCESSING\t{ITEMS}\t{actions}\t{TIME}\t{TIME}\n");
                copy.send(line.into_bytes()).await?;
            }
            copy.finish().await?;
            db.close().await?;
            data.place.execute("VACUUM (ANALYZE) orders").await?;
        }
    }
    Ok(())
}
