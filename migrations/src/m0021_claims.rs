//! Claims of actions by workers; the list in which workers find what they can claim; and the further roots of stored
//! responses.
//!
//! The claims of an order are in a column of its own, which a previous version neither reads nor writes. The list has a
//! row for each action that can be claimed now or when its claim expires. An order that a previous version wrote last
//! has another `claims_version` than `version`, or none, and its rows may be wrong or missing: it is found by the index
//! `orders_unlisted`, and listed by a job of the service. So are those that are there now: nothing is filled here.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// In the order in which the service locks them.
const LOCKED: [&str; 3] = ["orders", "idempotency_records", "action_runs"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        for (table, column) in [
            ("orders", optional(json("claims"))),
            ("orders", optional(integer("claims_version"))),
            ("action_runs", optional(id("claim_run_id"))),
            ("action_runs", optional(time("expire_time"))),
        ] {
            let mut statement = Table::alter();
            statement.table(table).add_column(column);
            manager.alter_table(statement).await?;
        }
        let mut list = Table::create();
        list.table("claimable_actions");
        for mut column in [
            id("order_id"),
            text("action"),
            id("queue_id"),
            flag("is_failed"),
            time("claim_time"),
        ] {
            list.col(&mut column);
        }
        let mut key = Index::create();
        key.col("order_id").col("action");
        list.primary_key(&mut key);
        manager.create_table(list).await?;
        let mut roots = Table::create();
        roots.table("idempotency_roots");
        for mut column in [id("principal_id"), id("request_id"), id("lead_id")] {
            roots.col(&mut column);
        }
        let mut key = Index::create();
        key.col("principal_id").col("request_id").col("lead_id");
        roots.primary_key(&mut key);
        // The retention deletes the records.
        roots.foreign_key(
            ForeignKey::create()
                .name("idempotency_roots_record")
                .from("idempotency_roots", ("principal_id", "request_id"))
                .to("idempotency_records", ("principal_id", "request_id"))
                .on_delete(ForeignKeyAction::Cascade),
        );
        manager.create_table(roots).await?;
        let has_external = match postgres(manager) {
            true => r#"actions @> '[{"type": "EXTERNAL"}]'"#,
            false => r#"instr(actions, '"EXTERNAL"') > 0"#,
        };
        run(
            manager,
            &[
                "CREATE INDEX claimable_actions_time ON claimable_actions \
                 (queue_id, action, is_failed, claim_time, order_id)",
                "CREATE INDEX idempotency_roots_lead ON idempotency_roots (lead_id)",
                &format!(
                    "CREATE INDEX orders_unlisted ON orders (queue_id) WHERE state = 'PROCESSING' \
                     AND coalesce(claims_version, 0) <> version AND {has_external}"
                ),
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        run(
            manager,
            &[
                "DROP INDEX orders_unlisted",
                "ALTER TABLE action_runs DROP COLUMN expire_time",
                "ALTER TABLE action_runs DROP COLUMN claim_run_id",
                "ALTER TABLE orders DROP COLUMN claims_version",
                "ALTER TABLE orders DROP COLUMN claims",
            ],
        )
        .await?;
        drop_tables(manager, &["idempotency_roots", "claimable_actions"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
