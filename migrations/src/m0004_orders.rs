//! Orders with their items and actions, and the log of action runs.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The columns of an order.
pub fn columns() -> Vec<ColumnDef> {
    vec![
        id("id").primary_key().take(),
        id("lead_id"),
        optional(id("opportunity_id")),
        integer("version"),
        text("state"),
        // In JSON, because an order is read and changed as a whole, under its version.
        json("items"),
        json("actions"),
        time("create_time"),
        time("update_time"),
    ]
}

/// The columns of an action run.
pub fn run_columns() -> Vec<ColumnDef> {
    vec![
        id("id").primary_key().take(),
        id("order_id"),
        id("lead_id"),
        text("action"),
        time("time"),
        json("actor"),
        text("outcome"),
        flag("no_change"),
        flag("automatic"),
        text("error_reason"),
        text("error_message"),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, "orders", columns()).await?;
        create(manager, "action_runs", run_columns()).await?;
        run(
            manager,
            &[
                "CREATE INDEX orders_state ON orders (state, id)",
                "CREATE INDEX orders_lead ON orders (lead_id, id)",
                "CREATE INDEX action_runs_order ON action_runs (order_id, id)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["action_runs", "orders"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
