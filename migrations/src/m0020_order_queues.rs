//! Queues, which are the templates of orders; the queue and the steps of an order; and what the ledger of an
//! order has besides runs.
//!
//! The new columns have constant defaults. So both databases add them without rewriting a row, whatever the
//! size of the table, and the orders that are there, like those that a previous version still creates, belong
//! to the queue `default`.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// In the order in which the service locks them.
const LOCKED: [&str; 2] = ["orders", "action_runs"];

const STEPS: &str = r#"[{"key": "processing", "name": "Processing"}]"#;
const ACTIONS: &str = r#"[{"key": "provision-client", "type": "PROVISION_CLIENT", "name": "Provision Client",
    "step": "processing", "automatic": false, "repeatable": false, "prerequisites": []}]"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        create(
            manager,
            "order_queues",
            [
                id("id").primary_key().take(),
                integer("version"),
                text("name"),
                text("name_key"),
                // In JSON, because a queue is read and changed as a whole, under its version.
                json("steps"),
                json("actions"),
                optional(time("archive_time")),
                time("create_time"),
                time("update_time"),
            ],
        )
        .await?;
        let (uuid, default, now) = match postgres(manager) {
            true => (
                "uuid",
                "'00000000-0000-7000-8000-000000000001'",
                "date_trunc('milliseconds', clock_timestamp())",
            ),
            false => (
                "uuid_text",
                "x'00000000000070008000000000000001'",
                "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')",
            ),
        };
        run(
            manager,
            &[
                &format!(
                    "INSERT INTO order_queues \
                     (id, version, name, name_key, steps, actions, create_time, update_time) \
                     SELECT {default}, 1, 'default', 'default', '{STEPS}', '{ACTIONS}', n.now, n.now \
                     FROM (SELECT {now} AS now) AS n"
                ),
                "CREATE UNIQUE INDEX order_queues_name ON order_queues (name_key)",
                &format!(
                    "ALTER TABLE orders ADD COLUMN queue_id {uuid} NOT NULL DEFAULT {default}"
                ),
            ],
        )
        .await?;
        for (table, column) in [
            ("orders", text("step").default("processing").take()),
            ("orders", optional(json("plan"))),
            ("action_runs", text("kind").default("RUN").take()),
            ("action_runs", text("note").default("").take()),
            ("action_runs", text("reference").default("").take()),
            ("action_runs", text("step").default("").take()),
        ] {
            let mut statement = Table::alter();
            statement.table(table).add_column(column);
            manager.alter_table(statement).await?;
        }
        run(
            manager,
            &[
                "CREATE INDEX orders_queue ON orders (queue_id, seq)",
                "CREATE INDEX orders_queue_step ON orders (queue_id, step, seq)",
                "CREATE INDEX orders_step ON orders (step, seq)",
                // Most orders are finished, and most lists are of those that are not.
                "CREATE INDEX orders_open ON orders (queue_id, seq) WHERE state = 'PROCESSING'",
                "CREATE INDEX orders_open_step ON orders (queue_id, step, seq) WHERE state = 'PROCESSING'",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        run(
            manager,
            &[
                "DROP INDEX orders_open_step",
                "DROP INDEX orders_open",
                "DROP INDEX orders_step",
                "DROP INDEX orders_queue_step",
                "DROP INDEX orders_queue",
                "ALTER TABLE action_runs DROP COLUMN step",
                "ALTER TABLE action_runs DROP COLUMN reference",
                "ALTER TABLE action_runs DROP COLUMN note",
                "ALTER TABLE action_runs DROP COLUMN kind",
                "ALTER TABLE orders DROP COLUMN plan",
                "ALTER TABLE orders DROP COLUMN step",
                "ALTER TABLE orders DROP COLUMN queue_id",
            ],
        )
        .await?;
        drop_tables(manager, &["order_queues"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
