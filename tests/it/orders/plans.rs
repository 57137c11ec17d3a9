//! The plans of the lists of orders, among many that are finished: a page is found by an index, whatever the filter.

use leadsmith::features::orders::model::{Filter, OrderState};
use leadsmith::features::orders::store::list_statement;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use uuid::Uuid;

use crate::explain::{LIMIT, check};
use crate::harness::Backend;
use crate::on_both;

const ORDERS: u32 = 20_000;

/// Orders in one of four queues and two steps. One in 500 is not finished.
async fn load(db: &DatabaseConnection, backend: Backend) {
    let (numbers, id, queue) = match backend {
        Backend::Postgres => (
            format!("generate_series(1, {ORDERS}) AS t(n)"),
            "gen_random_uuid()",
            "CAST(lpad(CAST(n % 4 AS text), 32, '0') AS uuid)",
        ),
        Backend::Sqlite => (
            format!(
                "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {ORDERS}) \
                 SELECT n FROM t)"
            ),
            "randomblob(16)",
            "unhex(printf('%032d', n % 4))",
        ),
    };
    let insert = format!(
        "INSERT INTO orders (id, lead_id, version, state, items, actions, create_time, update_time, \
         queue_id, step) SELECT {id}, {id}, 1, CASE n % 500 WHEN 0 THEN 'PROCESSING' ELSE 'COMPLETE' END, \
         '[]', '[]', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', {queue}, \
         CASE n % 8 / 4 WHEN 0 THEN 'setup' ELSE 'end' END FROM {numbers}"
    );
    db.execute_unprepared(&insert).await.unwrap();
    if backend == Backend::Postgres {
        db.execute_unprepared("ANALYZE orders").await.unwrap();
    }
}

/// The rows of a page, and those of other queues and steps between them.
const MOST_READ: u64 = LIMIT * 8;

/// Each filter with the indexes that SQLite may use. That of all orders in a state is short when they are open.
fn filters() -> [(Filter, &'static [&'static str]); 6] {
    let filter = |queue: bool, step: &str, states: &[OrderState]| Filter {
        lead_id: None,
        queue_id: queue.then_some(Uuid::nil()),
        step: step.into(),
        open_action: String::new(),
        states: states.to_vec(),
    };
    let open = &[OrderState::Processing][..];
    [
        (filter(true, "", &[]), &["orders_queue"]),
        (filter(true, "setup", &[]), &["orders_queue_step"]),
        (filter(false, "setup", &[]), &["orders_step"]),
        (filter(true, "", open), &["orders_open", "orders_state_seq"]),
        (
            filter(true, "setup", open),
            &["orders_open_step", "orders_state_seq"],
        ),
        (filter(false, "", open), &["orders_state_seq"]),
    ]
}

async fn plan(db: &DatabaseConnection, statement: Statement) -> String {
    let explain = Statement {
        sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
        ..statement
    };
    let rows = db.query_all_raw(explain).await.unwrap();
    let lines = rows
        .iter()
        .map(|row| row.try_get_by_index::<String>(3).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

on_both! {
    async fn a_page_of_orders_is_found_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        load(&db, h.database.backend).await;
        for (filter, indexes) in filters() {
            for before in [None, Some(i64::from(ORDERS / 2))] {
                let statement = list_statement(db.get_database_backend(), &filter, before, LIMIT);
                if h.database.backend == Backend::Postgres {
                    check(&db, statement, MOST_READ).await.unwrap();
                    continue;
                }
                let plan = plan(&db, statement).await;
                let is_used = |index: &&str| plan.contains(&format!("USING INDEX {index} "));
                assert!(indexes.iter().any(is_used), "{filter:?}: {plan}");
                assert!(!plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
            }
        }
    }
}
