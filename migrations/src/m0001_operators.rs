//! The principals: operators with their sessions, service accounts with their keys, the counted password
//! attempts, and the key that signs page tokens.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "operators",
            [
                id("id").primary_key().take(),
                text("username").unique_key().take(),
                text("display_name"),
                text("role"),
                text("password_hash"),
                optional(time("disable_time")),
                time("create_time"),
                time("update_time"),
            ],
        )
        .await?;
        create(
            manager,
            "sessions",
            [
                bytes("token_hash").primary_key().take(),
                id("operator_id"),
                time("create_time"),
                time("expire_time"),
            ],
        )
        .await?;
        create(
            manager,
            "service_accounts",
            [
                id("id").primary_key().take(),
                text("name").unique_key().take(),
                text("role"),
                optional(time("disable_time")),
                time("create_time"),
            ],
        )
        .await?;
        create(
            manager,
            "api_keys",
            [
                id("id").primary_key().take(),
                id("service_account_id"),
                bytes("key_hash").unique_key().take(),
                time("create_time"),
                optional(time("revoke_time")),
            ],
        )
        .await?;
        create(
            manager,
            "password_attempts",
            [
                id("id").primary_key().take(),
                text("bucket"),
                time("claim_time"),
                time("expire_time"),
                flag("failed"),
            ],
        )
        .await?;
        create(
            manager,
            "server_keys",
            [text("name").primary_key().take(), bytes("value")],
        )
        .await?;
        run(
            manager,
            &[
                "CREATE INDEX sessions_operator ON sessions (operator_id)",
                "CREATE INDEX sessions_expire ON sessions (expire_time)",
                "CREATE INDEX api_keys_account ON api_keys (service_account_id)",
                "CREATE INDEX password_attempts_bucket ON password_attempts (bucket, expire_time)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(
            manager,
            &[
                "server_keys",
                "password_attempts",
                "api_keys",
                "service_accounts",
                "sessions",
                "operators",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
