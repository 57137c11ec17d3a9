//! The request id of the call that made a change, in its history row. The nil UUID stands for none, also in rows that an
//! earlier version writes. No stored row is rewritten.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["history"]).await?;
        let none = match postgres(manager) {
            true => "'00000000-0000-0000-0000-000000000000'",
            false => "x'00000000000000000000000000000000'",
        };
        let mut column = id("request_id");
        column.default(Expr::cust(none));
        let mut statement = Table::alter();
        statement.table("history").add_column(column);
        manager.alter_table(statement).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["history"]).await?;
        run(manager, &["ALTER TABLE history DROP COLUMN request_id"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
