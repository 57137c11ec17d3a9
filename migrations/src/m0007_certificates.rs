//! The client certificate name of a service account.

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
                "ALTER TABLE service_accounts ADD COLUMN certificate_name TEXT",
                "CREATE UNIQUE INDEX service_accounts_certificate_name \
                 ON service_accounts (certificate_name)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                "DROP INDEX service_accounts_certificate_name",
                "ALTER TABLE service_accounts DROP COLUMN certificate_name",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
