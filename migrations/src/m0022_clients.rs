//! Conversion into a client that exists: the client that a lead was joined to and what it got from the lead, the
//! leads that were joined to a client, and the client that an order names.
//!
//! Every column is nullable, and NULL means what a previous version does: a converted lead is its own client, and nothing
//! is joined to it.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// In the order in which the service locks them.
const LOCKED: [&str; 2] = ["orders", "leads"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        for (table, column) in [
            ("leads", id("conversion_client_id")),
            ("leads", json("conversion_carried")),
            ("leads", json("joined_lead_ids")),
            ("orders", id("client_id")),
        ] {
            let mut statement = Table::alter();
            statement.table(table).add_column(optional(column));
            manager.alter_table(statement).await?;
        }
        run(
            manager,
            &["CREATE INDEX leads_client ON leads (conversion_client_id) \
                 WHERE conversion_client_id IS NOT NULL"],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        run(
            manager,
            &[
                "DROP INDEX leads_client",
                "ALTER TABLE orders DROP COLUMN client_id",
                "ALTER TABLE leads DROP COLUMN joined_lead_ids",
                "ALTER TABLE leads DROP COLUMN conversion_carried",
                "ALTER TABLE leads DROP COLUMN conversion_client_id",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
