//! The writer for SQLite.
//!
//! SQLite runs in the process and has no arrays: the rows are passed as VALUES, in a few fixed numbers of rows, so
//! that its statements are prepared once.

use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{CHUNKS, Rows, Verb, check_count};
use crate::db::Tx;
use crate::error::Result;

/// The maximum number of tables that one change writes to.
const TABLES: usize = 8;

/// Writes all rows.
pub(super) async fn write(tx: &Tx, all: Vec<Rows>) -> Result<()> {
    let mut statements: Vec<(usize, Statement)> = all.into_iter().flat_map(statements).collect();
    if statements.iter().all(|(count, _)| *count == 1) && statements.len() <= TABLES {
        statements = vec![join(statements)];
    }
    for (count, statement) in statements {
        let written = tx.execute_raw(statement).await?.rows_affected();
        check_count(count as u64, written)?;
    }
    Ok(())
}

/// The statements that write the rows of one table, each with the number of rows that it writes.
pub(super) fn statements(rows: Rows) -> Vec<(usize, Statement)> {
    let (table, names) = (&rows.table, rows.names());
    let placeholders = format!("({})", vec!["?"; rows.columns.len()].join(", "));
    let text = |count: usize| {
        let values = vec![placeholders.as_str(); count].join(", ");
        match rows.verb {
            Verb::Insert => format!("INSERT INTO {table} ({names}) VALUES {values}"),
            Verb::Replace => {
                format!("INSERT OR REPLACE INTO {table} ({names}) VALUES {values}")
            }
            Verb::Update => format!(
                "UPDATE {table} AS t SET {} FROM (VALUES {values}) AS v \
                 WHERE t.id = v.column1 AND t.version = v.column2",
                rows.assignments(|index, _| format!("v.column{}", index + 1))
            ),
        }
    };
    let mut statements = Vec::new();
    let mut rest = rows.rows.as_slice();
    for size in CHUNKS {
        while rest.len() >= size {
            let (chunk, others) = rest.split_at(size);
            rest = others;
            let cells: Vec<Value> = chunk.iter().flatten().cloned().collect();
            let statement = Statement::from_sql_and_values(DbBackend::Sqlite, text(size), cells);
            statements.push((size, statement));
        }
    }
    statements
}

/// Joins the statements of one change on SQLite into one text: a round trip to the connection's
/// thread costs as much as a small statement. With more rows there would be too many different
/// texts to keep prepared.
fn join(statements: Vec<(usize, Statement)>) -> (usize, Statement) {
    let count = statements.len();
    let (mut texts, mut values) = (Vec::new(), Vec::new());
    for (_, statement) in statements {
        texts.push(statement.sql);
        values.extend(statement.values.into_iter().flat_map(|values| values.0));
    }
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, texts.join("; "), values);
    (count, statement)
}
