//! The plan of the dashboard's statement: everything is counted from indexes, and no record is read. It runs after the
//! opportunities were loaded.

use leadsmith::features::dashboard::model::{Period, Zone};
use leadsmith::features::dashboard::store::statement;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait as _};
use serde_json::Value;
use uuid::Uuid;

use super::plan::sqlite_plan;

const OWNER: &str = "01900000-0000-7000-8000-000000000001";
/// One order in 20 leads, of which one in four is in progress.
const ORDERS: &str = "INSERT INTO orders (id, lead_id, version, state, items, actions, create_time, update_time, queue_id, \
                      step) SELECT l.id, l.id, 1, CASE WHEN l.seq % 80 = 0 THEN 'PROCESSING' ELSE 'COMPLETE' END, '[]', \
                      '[]', l.create_time, l.update_time, q.id, 'processing' FROM leads AS l CROSS JOIN order_queues AS q \
                      WHERE l.seq % 20 = 0";

pub async fn every_dashboard(db: &DatabaseConnection, problems: &mut Vec<String>) {
    db.execute_unprepared(ORDERS).await.unwrap();
    // PostgreSQL reads an index without its table only where a VACUUM has been.
    let vacuum = match db.get_database_backend() == DbBackend::Postgres {
        true => "VACUUM ANALYZE",
        false => "ANALYZE",
    };
    db.execute_unprepared(vacuum).await.unwrap();
    let zone = Zone::named("Europe/Berlin").unwrap();
    let owner_id = Uuid::try_parse(OWNER).unwrap();
    for (first, last) in [("2024-01-01", "2024-12-31"), ("2024-01-02", "2024-01-02")] {
        let (first, last) = (first.parse().ok(), last.parse().ok());
        let period = Period::new(zone.clone(), first, last, last.unwrap()).unwrap();
        for owner_id in [None, Some(owner_id)] {
            let statement = statement(db.get_database_backend(), &period.spans(), owner_id);
            let outcome = match db.get_database_backend() == DbBackend::Postgres {
                true => postgres(db, statement, owner_id.is_some()).await,
                false => sqlite(db, statement, owner_id.is_some()).await,
            };
            if let Err(problem) = outcome {
                problems.push(format!("dashboard of {owner_id:?}: {problem}"));
            }
        }
    }
}

/// The indexes have all that is counted: without an owner, no row of a table is read, except those that changed since the
/// VACUUM. Without the setting PostgreSQL would read these tables, whose rows are small, as a whole.
async fn postgres(
    db: &DatabaseConnection,
    statement: Statement,
    is_of_owner: bool,
) -> Result<(), String> {
    let explain = Statement {
        sql: format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", statement.sql),
        ..statement
    };
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared("SET LOCAL enable_seqscan = off")
        .await
        .unwrap();
    let row = tx.query_one_raw(explain).await.unwrap().unwrap();
    tx.rollback().await.unwrap();
    let plan: Value = row.try_get_by_index(0).unwrap();
    let mut nodes = vec![&plan[0]["Plan"]];
    let mut read = 0;
    while let Some(node) = nodes.pop() {
        nodes.extend(
            node["Plans"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
        );
        let kind = node["Node Type"].as_str().unwrap();
        let table = node["Relation Name"].as_str().unwrap_or_default();
        if !["leads", "opportunities", "orders"].contains(&table) {
            continue;
        }
        read += 1;
        let is_allowed = kind == "Index Only Scan" || (is_of_owner && kind != "Seq Scan");
        if !is_allowed {
            return Err(format!("{kind} of {table}: {plan:#}"));
        }
    }
    match read {
        8.. => Ok(()),
        _ => Err(format!("a plan without its tables: {plan:#}")),
    }
}

async fn sqlite(
    db: &DatabaseConnection,
    statement: Statement,
    is_of_owner: bool,
) -> Result<(), String> {
    let lines = sqlite_plan(db, statement.clone()).await;
    let mut read = 0;
    for (_, _, line) in &lines {
        let mut words = line.split(' ').skip(1);
        let table = words.next().unwrap_or_default();
        // `o` and `l` are orders and leads.
        if !["leads", "opportunities", "o", "l"].contains(&table) {
            continue;
        }
        read += 1;
        let is_covered = line.contains("USING COVERING INDEX");
        // Its expressions are in the index, which SQLite's plan does not call covering then.
        let is_of_expressions = line.contains("USING INDEX opportunities_open");
        let is_of_leads = is_of_owner && (line.contains("USING INDEX leads_owner") || table == "l");
        if !(is_covered || is_of_expressions || is_of_leads) {
            return Err(format!("{line}\nin {lines:#?}\nof {statement}"));
        }
    }
    match read {
        8.. => Ok(()),
        _ => Err(format!("a plan without its tables: {lines:#?}")),
    }
}
