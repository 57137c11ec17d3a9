//! Leads, and their search index.

use crate::schema::*;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// One index for each order of List. The state comes first because every List filters by states; the id
/// comes last because it breaks ties.
const INDEXES: &[&str] = &[
    "CREATE INDEX leads_state_create_time ON leads (state, create_time, id)",
    "CREATE INDEX leads_state_update_time ON leads (state, update_time, id)",
    "CREATE INDEX leads_state_last_name ON leads (state, last_name_key, id)",
    "CREATE INDEX leads_state_company ON leads (state, company_key, id)",
    "CREATE INDEX leads_owner ON leads (owner_id, state, create_time, id) WHERE owner_id <> ''",
    "CREATE INDEX leads_email ON leads (email_key, create_time) WHERE email_key <> ''",
    "CREATE INDEX leads_converted ON leads (conversion_time, id) WHERE conversion_time IS NOT NULL",
];

/// FTS5 finds any substring of three or more characters by its trigrams. The texts are already folded, so
/// the tokenizer does not fold them.
const SEARCH_ON_SQLITE: &[&str] =
    &["CREATE VIRTUAL TABLE lead_search USING fts5(text, tokenize = 'trigram case_sensitive 1')"];

/// PostgreSQL's trigram extension recognises only the letters of the database's locale. So the service
/// computes the trigrams, and a GIN index on an array contains them.
const SEARCH_ON_POSTGRES: &[&str] = &[
    r#"CREATE TABLE lead_search (seq bigint PRIMARY KEY REFERENCES leads (seq) ON DELETE CASCADE,
         text text COLLATE "C" NOT NULL, trigrams integer[] NOT NULL)"#,
    "CREATE INDEX lead_search_trigrams ON lead_search USING gin (trigrams)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "leads",
            [
                // Increases in the order of creation, which is the order of Search.
                sequence("seq"),
                id("id").unique_key().take(),
                integer("version"),
                text("state"),
                text("first_name"),
                text("last_name"),
                text("company"),
                text("email"),
                text("phone"),
                text("fax"),
                text("vat_id"),
                text("street"),
                text("city"),
                text("region"),
                text("postal_code"),
                text("country_code"),
                text("language"),
                text("owner_id"),
                text("source"),
                json("custom_fields"),
                sort_key(manager, "last_name_key"),
                sort_key(manager, "company_key"),
                text("email_key"),
                optional(time("deactivation_time")),
                optional(json("deactivation_actor")),
                optional(text("deactivation_reason")),
                optional(time("conversion_time")),
                optional(json("conversion_actor")),
                optional(id("conversion_order_id")),
                time("create_time"),
                time("update_time"),
            ],
        )
        .await?;
        run(manager, INDEXES).await?;
        run(
            manager,
            if postgres(manager) {
                SEARCH_ON_POSTGRES
            } else {
                SEARCH_ON_SQLITE
            },
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["lead_search", "leads"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
