//! Loading SQLite: large transactions without any care for crashes, as the file is thrown away if
//! the load does not come to its end, and the indexes as they were afterwards.

use std::path::Path;

use anyhow::Result;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, params, params_from_iter};

use super::{COLUMNS, Cell, details, progress, row};

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

pub fn load(file: &Path, leads: u64) -> Result<()> {
    let db = Connection::open(file)?;
    db.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;",
    )?;
    let indexes = strip(&db)?;
    let places = ["?"; 30].join(", ");
    for first in (1..=leads).step_by(CHUNK as usize) {
        db.execute_batch("BEGIN")?;
        let mut insert = db.prepare(&format!("INSERT INTO leads ({COLUMNS}) VALUES ({places})"))?;
        let mut search = db.prepare("INSERT INTO lead_search (rowid, text) VALUES (?, ?)")?;
        for number in first..=leads.min(first + CHUNK - 1) {
            let details = details(number, leads);
            insert.execute(params_from_iter(row(number, &details)?))?;
            search.execute(params![number as i64, details.search_text()])?;
            progress("written", number, leads);
        }
        db.execute_batch("COMMIT")?;
    }
    eprintln!("  indexes");
    for index in indexes {
        db.execute_batch(&index)?;
    }
    db.execute_batch("ANALYZE; PRAGMA journal_mode = WAL;")?;
    Ok(())
}

/// Drops the indexes and gives the statements that make them again.
fn strip(db: &Connection) -> Result<Vec<String>> {
    let mut indexes = db.prepare(
        "SELECT name, sql FROM sqlite_master
          WHERE type = 'index' AND tbl_name = 'leads' AND sql IS NOT NULL",
    )?;
    let found = indexes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, String)> = found.collect::<rusqlite::Result<_>>()?;
    for (name, _) in &found {
        db.execute_batch(&format!("DROP INDEX \"{name}\""))?;
    }
    Ok(found.into_iter().map(|(_, sql)| sql).collect())
}
