//! PostgreSQL that publishes all tables: every statement that changes rows still works.

use std::time::Duration;

use leadsmith_proto::{self as proto, Lead};
use sea_orm::{ConnectionTrait, Statement};

use crate::harness::{Backend, Harness, PASSWORD, eventually, sign_in, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_can_be_published() {
    let h = Harness::start(Backend::Postgres).await;
    let db = h.database.connect().await;
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = 'public' AND c.relkind = 'r' AND NOT EXISTS \
               (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let without: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect();
    assert_eq!(
        without,
        Vec::<String>::new(),
        "tables without a primary key"
    );

    // FOR ALL TABLES needs a superuser. Listing the existing tables has the same effect.
    db.execute_unprepared(
        "DO $$ BEGIN EXECUTE (SELECT 'CREATE PUBLICATION everything FOR TABLE ' || \
         string_agg(format('%I', tablename), ', ') FROM pg_tables WHERE schemaname = 'public'); END $$",
    )
    .await
    .unwrap();
    let published = "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'everything'";
    assert!(h.count(published).await > 10);

    let lead = h.sales.create_lead("Published").await;
    let mut change = update(
        Lead {
            id: lead.id.clone(),
            email: "ada@example.com".into(),
            ..Lead::default()
        },
        &["email"],
    );
    change.current_password = PASSWORD.into();
    change.request_id = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e57".into();
    h.sales.leads().update(change).await.unwrap();
    let order = h.sales.create_order(&lead.id, Vec::new()).await;
    h.sales.deactivate(&lead.id).await.unwrap();
    h.sales
        .run(&order.id, "provision-client")
        .await
        .unwrap_err();
    let request = proto::CreateOpportunityRequest {
        opportunity: Some(proto::Opportunity {
            lead_id: lead.id.clone(),
            name: "A sale".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    h.sales.opportunities().create(request).await.unwrap();
    sign_in(h.channel(), "sales", "not the password")
        .await
        .unwrap_err();
    h.admin.erase(&lead.id).await.unwrap();
    h.viewer
        .auth()
        .sign_out(proto::SignOutRequest::default())
        .await
        .unwrap();

    let server = h
        .another_server(|settings| {
            settings.limits.retention_interval = Duration::from_millis(20);
        })
        .await;
    h.clock.advance(chrono::Duration::days(31));
    for table in [
        "idempotency_records",
        "password_attempts",
        "sessions",
        "events",
    ] {
        let count = format!("SELECT count(*) FROM {table}");
        eventually(table, async || h.count(&count).await == 0).await;
    }
    server.stop().await.unwrap();
}
