//! The plans of the lists of orders, among many that are finished: a page is found by an index, whatever the filter.

use leadsmith::features::leads::store::references_statement;
use leadsmith::features::orders::model::{Claiming, Filter, OrderState};
use leadsmith::features::orders::store::claims::find_statement;
use leadsmith::features::orders::store::list_statement;
use leadsmith::features::orders::store::unlisted;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use uuid::Uuid;

use crate::explain::{LIMIT, check};
use crate::harness::Backend;
use crate::on_both;
use chrono::DateTime;

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
        client_id: None,
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

/// The leads of five orders, and of none.
async fn some_leads(db: &DatabaseConnection) -> Vec<Uuid> {
    let sql = "SELECT lead_id FROM orders ORDER BY seq LIMIT 5";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let found = rows.iter().map(|row| row.try_get_by_index(0).unwrap());
    found.chain([Uuid::nil()]).collect()
}

on_both! {
    async fn what_refers_to_a_lead_is_found_by_its_indexes(h: Harness) {
        let db = h.database.connect().await;
        load(&db, h.database.backend).await;
        let sales = "INSERT INTO opportunities (id, lead_id, version, name, stage, state, probability, owner_id, \
                     next_step, description, create_time, update_time) SELECT id, lead_id, 1, 'Sale', 'CONTACT', \
                     'OPEN', 0, '', '', '', create_time, update_time FROM orders";
        db.execute_unprepared(sales).await.unwrap();
        if h.database.backend == Backend::Postgres {
            db.execute_unprepared("ANALYZE opportunities").await.unwrap();
        }
        let leads = some_leads(&db).await;
        let statement = references_statement(db.get_database_backend(), leads);
        assert_eq!(db.query_all_raw(statement.clone()).await.unwrap().len(), 10);
        if h.database.backend == Backend::Postgres {
            check(&db, statement, LIMIT).await.unwrap();
            return;
        }
        let plan = plan(&db, statement).await;
        for index in ["orders_lead_seq (lead_id=?", "opportunities_lead_seq (lead_id=?"] {
            assert!(plan.contains(index), "{plan}");
        }
        for table in ["orders", "opportunities"] {
            let scan = format!("SCAN {table}");
            assert!(!plan.lines().any(|line| line == scan), "{plan}");
        }
    }

    async fn a_page_of_a_clients_orders_is_found_by_their_leads(h: Harness) {
        let db = h.database.connect().await;
        load(&db, h.database.backend).await;
        let leads = some_leads(&db).await;
        for (filter, _) in filters() {
            let filter = Filter { client_id: Some(leads[0]), ..filter };
            for before in [None, Some(i64::from(ORDERS / 2))] {
                let backend = db.get_database_backend();
                let statement = list_statement(backend, &filter, &leads, before, LIMIT);
                if h.database.backend == Backend::Postgres {
                    check(&db, statement, LIMIT).await.unwrap();
                    continue;
                }
                let plan = plan(&db, statement).await;
                assert!(plan.contains("INDEX orders_lead_seq (lead_id=?"), "{filter:?}: {plan}");
                assert!(!plan.contains("SCAN orders"), "{filter:?}: {plan}");
            }
        }
    }

    async fn a_page_of_orders_is_found_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        load(&db, h.database.backend).await;
        for (filter, indexes) in filters() {
            for before in [None, Some(i64::from(ORDERS / 2))] {
                let statement = list_statement(db.get_database_backend(), &filter, &[], before, LIMIT);
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

    async fn workers_find_what_they_can_claim_by_an_index(h: Harness) {
        let db = h.database.connect().await;
        let backend = h.database.backend;
        load(&db, backend).await;
        // Of each order an action of one of 8 kinds. Half of them can be claimed.
        let list = "INSERT INTO claimable_actions (order_id, action, queue_id, is_failed, claim_time) \
                    SELECT id, 'action-' || (seq % 8), queue_id, seq % 32 = 0, \
                    CASE seq % 2 WHEN 0 THEN '2026-01-01 00:00:00+00:00' ELSE '2026-03-01 00:00:00+00:00' END \
                    FROM orders";
        let list = match backend {
            Backend::Postgres => list.replace("THEN '", "THEN timestamptz '").replace("ELSE '", "ELSE timestamptz '"),
            Backend::Sqlite => list.to_owned(),
        };
        db.execute_unprepared(&list).await.unwrap();
        db.execute_unprepared("UPDATE orders SET claims_version = version").await.unwrap();
        if backend == Backend::Postgres {
            db.execute_unprepared("VACUUM ANALYZE orders").await.unwrap();
            db.execute_unprepared("VACUUM ANALYZE claimable_actions").await.unwrap();
        }
        let now = DateTime::parse_from_rfc3339("2026-02-01T00:00:00Z").unwrap().to_utc();
        for (count, retry_failed) in [(1, false), (8, false), (50, false), (8, true)] {
            let actions = (0..count).map(|number| format!("action-{number}")).collect();
            let wanted = Claiming { actions, retry_failed };
            let statement = find_statement(db.get_database_backend(), Uuid::nil(), &wanted, now);
            if backend == Backend::Postgres {
                check(&db, statement, 50 * 16).await.unwrap();
                continue;
            }
            let plan = plan(&db, statement).await;
            assert!(!plan.contains("SCAN claimable_actions"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
            assert_eq!(plan.matches("COVERING INDEX claimable_actions_time").count(), count, "{plan}");
        }
        let wanted = Claiming { actions: vec!["action-1".to_owned()], retry_failed: false };
        let of_a_queue = unlisted::find_statement(db.get_database_backend(), Uuid::nil(), &wanted);
        for statement in [of_a_queue, unlisted::any_statement(db.get_database_backend())] {
            if backend == Backend::Postgres {
                check(&db, statement, LIMIT).await.unwrap();
                continue;
            }
            let plan = plan(&db, statement).await;
            assert!(plan.contains("USING INDEX orders_unlisted"), "{plan}");
        }
    }
}
