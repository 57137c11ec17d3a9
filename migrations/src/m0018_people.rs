//! Versions of operators and service accounts, ids and last uses of sessions, last uses of keys.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const LOCKED: [&str; 4] = ["operators", "sessions", "service_accounts", "api_keys"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        for (table, column) in [
            // With a default, because the previous version inserts rows without it.
            ("operators", integer("version").default(1).take()),
            ("service_accounts", integer("version").default(1).take()),
            ("service_accounts", optional(time("update_time"))),
            ("sessions", optional(id("id"))),
            ("sessions", optional(text("peer_address"))),
            ("sessions", optional(time("last_use_time"))),
            ("api_keys", optional(time("last_use_time"))),
        ] {
            let mut statement = Table::alter();
            statement.table(table).add_column(column);
            manager.alter_table(statement).await?;
        }
        let new_id = match postgres(manager) {
            true => "gen_random_uuid()",
            false => "randomblob(16)",
        };
        run(
            manager,
            &[
                &format!("UPDATE sessions SET id = {new_id}"),
                "CREATE UNIQUE INDEX sessions_id ON sessions (id)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &LOCKED).await?;
        run(
            manager,
            &[
                "DROP INDEX sessions_id",
                "ALTER TABLE api_keys DROP COLUMN last_use_time",
                "ALTER TABLE sessions DROP COLUMN last_use_time",
                "ALTER TABLE sessions DROP COLUMN peer_address",
                "ALTER TABLE sessions DROP COLUMN id",
                "ALTER TABLE service_accounts DROP COLUMN update_time",
                "ALTER TABLE service_accounts DROP COLUMN version",
                "ALTER TABLE operators DROP COLUMN version",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
