//! The actor and time of an erasure of personal data, and the indexes that find the data to erase or delete.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// By default FTS5 only marks a text as deleted and keeps its trigrams until a later merge. With this
/// option it removes them immediately. Existing ones are removed by one merge here.
const SEARCH_ON_SQLITE: &[&str] = &[
    "INSERT INTO lead_search (lead_search, rank) VALUES ('secure-delete', 1)",
    "INSERT INTO lead_search (lead_search) VALUES ('optimize')",
];

const SEARCH_ON_SQLITE_DOWN: &[&str] =
    &["INSERT INTO lead_search (lead_search, rank) VALUES ('secure-delete', 0)"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in [
            optional(time("erasure_time")),
            optional(json("erasure_actor")),
        ] {
            let mut statement = Table::alter();
            statement.table("leads").add_column(column);
            manager.alter_table(statement).await?;
        }
        if !postgres(manager) {
            run(manager, SEARCH_ON_SQLITE).await?;
        }
        run(
            manager,
            &[
                "CREATE INDEX idempotency_records_lead ON idempotency_records (lead_id)",
                "CREATE INDEX password_attempts_expire ON password_attempts (expire_time)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                "DROP INDEX password_attempts_expire",
                "DROP INDEX idempotency_records_lead",
            ],
        )
        .await?;
        if !postgres(manager) {
            run(manager, SEARCH_ON_SQLITE_DOWN).await?;
        }
        run(
            manager,
            &[
                "ALTER TABLE leads DROP COLUMN erasure_actor",
                "ALTER TABLE leads DROP COLUMN erasure_time",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
