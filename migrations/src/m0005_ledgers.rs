//! The rows written with each change: its history row, its event, and the response stored under its request
//! id.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "history",
            [
                id("id").primary_key().take(),
                id("lead_id"),
                text("subject"),
                id("subject_id"),
                integer("version"),
                time("time"),
                json("actor"),
                text("rpc"),
                json("changes"),
            ],
        )
        .await?;
        create(
            manager,
            "events",
            [
                sequence("seq"),
                id("id"),
                id("lead_id"),
                text("type"),
                id("subject_id"),
                integer("version"),
                time("time"),
                json("actor"),
                json("record"),
            ],
        )
        .await?;
        create(
            manager,
            "idempotency_records",
            [
                id("principal_id"),
                id("request_id"),
                optional(id("lead_id")),
                bytes("fingerprint"),
                bytes("response"),
                time("create_time"),
            ],
        )
        .await?;
        run(
            manager,
            &[
                // Unique, so that a version of a record cannot occur twice.
                "CREATE UNIQUE INDEX history_subject ON history (subject_id, version)",
                "CREATE UNIQUE INDEX events_subject ON events (subject_id, version)",
                "CREATE UNIQUE INDEX idempotency_records_request ON idempotency_records (principal_id, request_id)",
                "CREATE INDEX idempotency_records_create_time ON idempotency_records (create_time)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["idempotency_records", "events", "history"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
