//! The stage in which an opportunity was closed, and the indexes of the filters of lists: its owner and state, its
//! stage, its expected date.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["opportunities"]).await?;
        let mut statement = Table::alter();
        statement
            .table("opportunities")
            .add_column(optional(text("close_stage")));
        manager.alter_table(statement).await?;
        run(
            manager,
            &[
                // Beside `opportunities_owner_seq`, by which the previous version lists.
                "CREATE INDEX opportunities_owner_state_seq ON opportunities (owner_id, state, seq) \
                 WHERE owner_id <> ''",
                "CREATE INDEX opportunities_stage_seq ON opportunities (stage, seq)",
                "CREATE INDEX opportunities_state_date ON opportunities (state, expected_close_date)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["opportunities"]).await?;
        run(
            manager,
            &[
                "DROP INDEX opportunities_state_date",
                "DROP INDEX opportunities_stage_seq",
                "DROP INDEX opportunities_owner_state_seq",
                "ALTER TABLE opportunities DROP COLUMN close_stage",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
