//! Migrations: up and down, a migration that fails, and several programs that migrate concurrently.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;

use super::{MIGRATIONS, applied, connect_to_new, down, schema, tables, up};
use crate::harness::{Backend, TestDatabase, count};
use crate::on_both_empty;
use crate::program::leadsmith;

/// For each migration a name: while a table has it, the last statement of the migration fails. None where a
/// migration does not change the schema of this database.
fn obstacles(backend: Backend) -> [Option<&'static str>; MIGRATIONS as usize] {
    let on = |database: Backend, name| (backend == database).then_some(name);
    [
        Some("password_attempts_bucket"),
        on(Backend::Sqlite, "lead_search").or(Some("lead_search_trigrams")),
        Some("opportunities_owner"),
        Some("action_runs_order"),
        Some("idempotency_records_create_time"),
        Some("password_attempts_expire"),
        Some("service_accounts_certificate_name"),
        Some("action_runs_order_seq"),
        Some("leads_country"),
        on(Backend::Sqlite, "search_pending"),
        Some("operators_by_username_key"),
        Some("leads_owner_converted"),
        Some("schema_compatibility"),
        on(Backend::Postgres, "action_runs_seq_before"),
        Some("sessions_id"),
        Some("opportunities_state_date"),
        Some("orders_open_step"),
        Some("orders_unlisted"),
        Some("leads_client"),
        Some("lead_search_outdated"),
        None,
        None,
        on(Backend::Postgres, "events_transaction").or(Some("event_log")),
        Some("orders_open_age"),
    ]
}

// The tests connect for each query only: on SQLite nothing is reverted while another connection is open.

/// Creates SQLite's file.
async fn create(database: &TestDatabase) {
    connect_to_new(database).await.close().await.unwrap();
}

async fn execute(database: &TestDatabase, sql: &str) {
    let db = database.connect().await;
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

async fn schema_of(database: &TestDatabase) -> BTreeSet<String> {
    let db = database.connect().await;
    let found = schema(&db).await;
    db.close().await.unwrap();
    found
}

async fn tables_of(database: &TestDatabase) -> BTreeSet<String> {
    let db = database.connect().await;
    let found = tables(&db).await;
    db.close().await.unwrap();
    found
}

on_both_empty! {
    async fn migrations_go_up_and_down_to_nothing_and_up_again(database: TestDatabase) {
        create(&database).await;
        assert_eq!(applied(&database).await, 0);
        up(&database).await.unwrap();
        assert_eq!(applied(&database).await, MIGRATIONS as usize);
        let whole = schema_of(&database).await;
        up(&database).await.expect("nothing left to do");
        assert_eq!(schema_of(&database).await, whole);
        for left in (0..MIGRATIONS as usize).rev() {
            down(&database, 1).await.unwrap();
            assert_eq!(applied(&database).await, left);
        }
        let only_the_list = BTreeSet::from(["seaql_migrations".to_owned()]);
        assert_eq!(tables_of(&database).await, only_the_list);
        up(&database).await.unwrap();
        assert_eq!(schema_of(&database).await, whole);
        down(&database, MIGRATIONS).await.unwrap();
        assert_eq!(tables_of(&database).await, only_the_list);
    }

    async fn a_migration_that_fails_leaves_nothing_behind(database: TestDatabase) {
        create(&database).await;
        for (before, obstacle) in obstacles(database.backend).into_iter().enumerate() {
            let Some(obstacle) = obstacle else { continue };
            execute(&database, &format!("CREATE TABLE {obstacle} (x integer)")).await;
            let refusal = up(&database).await.unwrap_err().to_string();
            assert!(refusal.contains("a migration failed and was rolled back"), "{refusal}");
            assert!(refusal.contains(obstacle), "{refusal}");
            assert_eq!(applied(&database).await, before, "{obstacle}");
            execute(&database, &format!("DROP TABLE {obstacle}")).await;
            let left = schema_of(&database).await;

            // Without the obstacle the migration continues where it stopped.
            up(&database).await.unwrap();
            assert_eq!(applied(&database).await, MIGRATIONS as usize);
            down(&database, MIGRATIONS - u32::try_from(before).unwrap()).await.unwrap();
            assert_eq!(schema_of(&database).await, left, "{obstacle}");
            if before > 0 {
                down(&database, u32::try_from(before).unwrap()).await.unwrap();
            }
        }
    }

    async fn several_that_migrate_at_once_do_it_once(database: TestDatabase) {
        let mut runs = JoinSet::new();
        for _ in 0..6 {
            runs.spawn(leadsmith("migrate up").quiet().database(&database.url).run());
        }
        for ended in runs.join_all().await {
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(ended.out.matches("applied  m").count(), MIGRATIONS as usize, "{ended:?}");
            assert_eq!(ended.err, "");
        }
        let db = database.connect().await;
        assert_eq!(count(&db, "SELECT count(*) FROM seaql_migrations").await, i64::from(MIGRATIONS));
        let alone = TestDatabase::create(database.backend).await;
        up(&alone).await.unwrap();
        assert_eq!(schema(&db).await, schema(&alone.connect().await).await);
    }
}
