//! The indexes that find leads by source and by country, in the order of creation.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                "CREATE INDEX leads_source ON leads (source, state, create_time, id) \
                 WHERE source <> ''",
                "CREATE INDEX leads_country ON leads (country_code, state, create_time, id) \
                 WHERE country_code <> ''",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &["DROP INDEX leads_country", "DROP INDEX leads_source"],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
