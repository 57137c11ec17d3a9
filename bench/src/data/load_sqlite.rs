//! Loads SQLite: large transactions without protection against crashes, because an incomplete file is recreated;
//! indexes are created afterwards.

use std::path::Path;

use anyhow::Result;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, params, params_from_iter};

use super::{
    COLUMNS, Cell, ITEMS, actions, lead_id, order_id, ordered, orders, person, progress, row, time,
};
use crate::data::BEGIN;

/// How many leads are written in one transaction.
const CHUNK: u64 = 100_000;

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Number(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Id(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes())),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

/// Fills those of the tables `leads`, `lead_search` and `orders` that exist.
pub fn load(file: &Path, leads: u64) -> Result<()> {
    let db = Connection::open(file)?;
    db.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;",
    )?;
    let indexes = strip(&db)?;
    load_leads(&db, leads)?;
    if has(&db, "orders")? {
        load_orders(&db, leads)?;
    }
    eprintln!("  indexes");
    for index in indexes {
        db.execute_batch(&index)?;
    }
    if has(&db, "lead_search")? {
        db.execute_batch("INSERT INTO lead_search (lead_search) VALUES ('optimize')")?;
    }
    db.execute_batch("PRAGMA journal_mode = WAL")?;
    Ok(())
}

fn load_leads(db: &Connection, leads: u64) -> Result<()> {
    let places = ["?"; 30].join(", ");
    let sql = format!("INSERT INTO leads ({COLUMNS}) VALUES ({places})");
    let searched = has(db, "lead_search")?;
    for first in (1..=leads).step_by(CHUNK as usize) {
        db.execute_batch("BEGIN")?;
        let mut insert = db.prepare(&sql)?;
        let mut search = match searched {
            true => Some(db.prepare("INSERT INTO lead_search (rowid, text) VALUES (?, ?)")?),
            false => None,
        };
        for number in first..=leads.min(first + CHUNK - 1) {
            let person = person(number, leads);
            insert.execute(params_from_iter(row(number, &person)?))?;
            if let Some(search) = &mut search {
                search.execute(params![number as i64, person.search_text()])?;
            }
            progress("written", number, leads);
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

fn load_orders(db: &Connection, leads: u64) -> Result<()> {
    let (actions, time) = (actions("PENDING"), time(BEGIN)?);
    db.execute_batch("BEGIN")?;
    let mut insert = db.prepare(
        "INSERT INTO orders
           (id, lead_id, version, state, items, actions, create_time, update_time)
         VALUES (?, ?, 1, 'PROCESSING', ?, ?, ?, ?)",
    )?;
    for index in 0..orders(leads) {
        let number = ordered(index, leads);
        let (id, lead) = (order_id(number), lead_id(number));
        let (id, lead) = (id.as_bytes(), lead.as_bytes());
        insert.execute(params![id, lead, ITEMS, actions, time, time])?;
    }
    Ok(db.execute_batch("COMMIT")?)
}

fn has(db: &Connection, table: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?";
    Ok(db.prepare(sql)?.exists([table])?)
}

/// Drops the indexes and returns the statements that recreate them.
fn strip(db: &Connection) -> Result<Vec<String>> {
    let mut indexes = db.prepare(
        "SELECT name, sql FROM sqlite_master
          WHERE type = 'index' AND tbl_name IN ('leads', 'orders') AND sql IS NOT NULL",
    )?;
    let found = indexes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, String)> = found.collect::<rusqlite::Result<_>>()?;
    for (name, _) in &found {
        db.execute_batch(&format!("DROP INDEX \"{name}\""))?;
    }
    Ok(found.into_iter().map(|(_, sql)| sql).collect())
}
