//! An optional probability, and the index of an operator's clients.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["opportunities", "leads"]).await?;
        // A second column beside `probability`, which is NOT NULL and which the previous version reads.
        let column = ColumnDef::new("win_probability").integer().null().take();
        let mut statement = Table::alter();
        statement.table("opportunities").add_column(column);
        manager.alter_table(statement).await?;
        run(
            manager,
            &[
                "CREATE INDEX leads_owner_converted ON leads (owner_id, conversion_time, id) WHERE conversion_time IS NOT NULL",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["opportunities", "leads"]).await?;
        run(
            manager,
            &[
                "DROP INDEX leads_owner_converted",
                "ALTER TABLE opportunities DROP COLUMN win_probability",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
