//! Finds the texts of leads that an older version has written: during an upgrade or after a rollback, and all of them
//! until the next migration. The index has no rows otherwise.

use sea_orm_migration::prelude::*;

use crate::schema::*;
use crate::search_text::{IS_OUTDATED_ON_POSTGRES, IS_OUTDATED_ON_SQLITE};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["lead_search"]).await?;
        let condition = match postgres(manager) {
            true => IS_OUTDATED_ON_POSTGRES,
            false => IS_OUTDATED_ON_SQLITE,
        };
        let index =
            format!("CREATE INDEX lead_search_outdated ON lead_search (seq) WHERE {condition}");
        run(manager, &[&index]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["lead_search"]).await?;
        run(manager, &["DROP INDEX lead_search_outdated"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
