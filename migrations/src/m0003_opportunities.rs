//! Opportunities: possible sales. Each belongs to one lead for ever.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The columns of an opportunity.
pub fn columns() -> Vec<ColumnDef> {
    vec![
        id("id").primary_key().take(),
        id("lead_id"),
        integer("version"),
        text("name"),
        text("stage"),
        text("state"),
        optional(json("amount")),
        ColumnDef::new("probability").integer().not_null().take(),
        optional(ColumnDef::new("expected_close_date").date().take()),
        text("owner_id"),
        text("next_step"),
        text("description"),
        optional(time("close_time")),
        optional(json("close_actor")),
        optional(text("close_reason")),
        time("create_time"),
        time("update_time"),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, "opportunities", columns()).await?;
        run(
            manager,
            &[
                "CREATE INDEX opportunities_state ON opportunities (state, id)",
                "CREATE INDEX opportunities_lead ON opportunities (lead_id, id)",
                "CREATE INDEX opportunities_owner ON opportunities (owner_id, id) WHERE owner_id <> ''",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["opportunities"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
