//! The order of the events. On PostgreSQL `seq` is assigned before the commit, so an event can become visible after events
//! with higher numbers. So each event also has the id of its transaction, by which readers tell what they have not read
//! yet. Events from before this migration have the id 0. No stored row is rewritten. SQLite has a single writer: there
//! `seq` is the order of the commits, and the column is not used.
//!
//! The table `event_log` has one row: which log this is, and what retention has deleted from it.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["events"]).await?;
        let mut column = integer("transaction_id");
        column.default(0);
        let mut statement = Table::alter();
        statement.table("events").add_column(column);
        manager.alter_table(statement).await?;
        create(
            manager,
            "event_log",
            [
                integer("id").primary_key().take(),
                id("incarnation"),
                text("cluster"),
                integer("deleted_seq"),
                integer("deleted_transaction"),
            ],
        )
        .await?;
        let random = match postgres(manager) {
            true => "gen_random_uuid()",
            false => "randomblob(16)",
        };
        let insert = format!(
            "INSERT INTO event_log (id, incarnation, cluster, deleted_seq, deleted_transaction) \
             VALUES (1, {random}, '', 0, 0)"
        );
        run(manager, &[&insert]).await?;
        if !postgres(manager) {
            return Ok(());
        }
        run(
            manager,
            &[
                // Apart from the constant default, which fills the stored rows without writing them.
                "ALTER TABLE events ALTER COLUMN transaction_id \
                 SET DEFAULT (pg_current_xact_id()::text::bigint)",
                "CREATE INDEX events_transaction ON events (transaction_id, seq)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["events", "event_log"]).await?;
        drop_tables(manager, &["event_log"]).await?;
        if postgres(manager) {
            run(manager, &["DROP INDEX events_transaction"]).await?;
        }
        run(manager, &["ALTER TABLE events DROP COLUMN transaction_id"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
