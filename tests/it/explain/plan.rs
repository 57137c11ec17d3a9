//! Checks of a statement's plan: no table is scanned, and few rows are sorted.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::Value;

use super::LIMIT;

/// Checks a statement's plan: no table is scanned, and at most `rows` rows are sorted.
pub async fn check(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let plan = if db.get_database_backend() == DbBackend::Postgres {
        postgres(db, statement.clone(), rows).await
    } else {
        sqlite(db, statement.clone(), rows).await
    };
    plan.map_err(|problem| format!("{problem}\nof {statement}"))
}

/// Checks the rows that PostgreSQL did read and sort, not only its estimates.
async fn postgres(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let explain = Statement {
        sql: format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", statement.sql),
        ..statement
    };
    let row = db.query_one_raw(explain).await.unwrap().unwrap();
    let plan: Value = row.try_get_by_index(0).unwrap();
    let mut nodes = vec![&plan[0]["Plan"]];
    let mut seen = 0;
    while let Some(node) = nodes.pop() {
        seen += 1;
        let children = node["Plans"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        nodes.extend(children);
        let kind = node["Node Type"].as_str().unwrap();
        let table = node["Relation Name"].as_str().unwrap_or_default();
        // The event log has one row that describes it.
        if kind == "Seq Scan" && table != "event_log" {
            return Err(format!("scans {table}: {plan:#}"));
        }
        // Rows that a node removes by its filter have been read too.
        let read = total(node, "Actual Rows") + total(node, "Rows Removed by Filter");
        if kind.contains("Index Scan") && read > rows {
            return Err(format!("reads {read} rows of {table}: {plan:#}"));
        }
        let sorted: u64 = children
            .iter()
            .map(|child| total(child, "Actual Rows"))
            .sum();
        if kind.contains("Sort") && sorted > rows {
            return Err(format!("sorts {sorted} rows: {plan:#}"));
        }
    }
    assert!(seen > 1, "a plan: {plan:#}");
    Ok(())
}

/// The number of rows over all loops.
fn total(node: &Value, what: &str) -> u64 {
    node[what].as_u64().unwrap_or(0) * node["Actual Loops"].as_u64().unwrap_or(1)
}

/// The lines of a plan: the id, the parent's id and the text of each.
pub async fn sqlite_plan(db: &DatabaseConnection, statement: Statement) -> Vec<(i32, i32, String)> {
    let explain = Statement {
        sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
        ..statement
    };
    let lines: Vec<(i32, i32, String)> = db
        .query_all_raw(explain)
        .await
        .unwrap()
        .iter()
        .map(|row| {
            (
                row.try_get_by_index(0).unwrap(),
                row.try_get_by_index(1).unwrap(),
                row.try_get_by_index(3).unwrap(),
            )
        })
        .collect();
    assert!(!lines.is_empty(), "a plan");
    lines
}

async fn sqlite(db: &DatabaseConnection, statement: Statement, rows: u64) -> Result<(), String> {
    let sql = statement.sql.clone();
    let lines = sqlite_plan(db, statement).await;
    let whole: Vec<&str> = lines.iter().map(|(_, _, line)| line.as_str()).collect();
    let whole = whole.join("\n");
    // A later page starts where the previous one ended and does not read the rows before it.
    let later = is_later(&sql);
    for (_, parent, line) in &lines {
        let walk = line.starts_with("SEARCH leads USING") && line.contains("INDEX leads_state");
        if later && walk && !line.contains("(state=? AND (") {
            return Err(format!("walks from the beginning: {whole}"));
        }
        if line.starts_with("SCAN leads") || line.starts_with("SCAN lead_search") {
            return Err(format!("scans: {whole}"));
        }
        // Only the rows of a subquery that ends at the limit are sorted, never those of a table.
        let beside = lines.iter().filter(|(_, other, _)| other == parent);
        let merge = rows > LIMIT
            && beside.into_iter().all(|(_, _, line)| {
                !line.starts_with("SEARCH lead") && !line.starts_with("SCAN lead")
            });
        if line.contains("TEMP B-TREE") && !merge {
            return Err(format!("sorts: {whole}"));
        }
    }
    Ok(())
}

pub fn is_later(sql: &str) -> bool {
    ["\"id\") <", "\"id\") >"]
        .iter()
        .any(|there| sql.contains(there))
}

/// The check rejects statements that scan a table or sort it.
pub async fn what_scans_is_rejected(db: &DatabaseConnection) {
    let backend = db.get_database_backend();
    for sql in [
        "SELECT * FROM leads WHERE city = 'Paris'",
        "SELECT * FROM leads WHERE upper(company) = 'X' ORDER BY id LIMIT 51",
        "SELECT * FROM leads WHERE state = 'OPEN' ORDER BY country_code, id LIMIT 51",
        "SELECT * FROM lead_search WHERE text LIKE '%zqxjk%'",
    ] {
        let statement = Statement::from_string(backend, sql);
        let outcome = check(db, statement, LIMIT * 3).await;
        assert!(outcome.is_err(), "{sql} passed");
    }
}
