//! The indexes of the dashboard, which contain all that its figures are counted from.
//!
//! - `leads_conversions`: only converted leads, so only a conversion, its reversal, and on PostgreSQL an erasure write it.
//! - `opportunities_open`: only open opportunities. On SQLite it has the values in the order in which they are grouped, so
//!   that nothing is sorted. PostgreSQL reads an index without its table only if it has the columns themselves. There its
//!   key is a column by which no list filters, because the planner would take it for lists too, which it does not sort.
//! - `orders_open_age`: only orders in progress.

use crate::schema::*;
use sea_orm_migration::prelude::*;

const INDEXES: &[&str] = &["leads_conversions", "opportunities_open", "orders_open_age"];

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["orders", "opportunities", "leads"]).await?;
        let open_opportunities = match postgres(manager) {
            true => {
                "CREATE INDEX opportunities_open ON opportunities (win_probability) \
                 INCLUDE (stage, amount, probability, owner_id) WHERE state = 'OPEN'"
            }
            false => {
                "CREATE INDEX opportunities_open ON opportunities \
                 (stage, amount ->> '$.currency_code', coalesce(win_probability, nullif(probability, 0)), \
                 amount ->> '$.units', amount ->> '$.nanos', owner_id) WHERE state = 'OPEN'"
            }
        };
        run(
            manager,
            &[
                "CREATE INDEX leads_conversions ON leads (conversion_time, create_time, owner_id) \
                 WHERE conversion_time IS NOT NULL",
                open_opportunities,
                "CREATE INDEX orders_open_age ON orders (queue_id, step, create_time, lead_id) \
                 WHERE state = 'PROCESSING'",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        lock_tables(manager, &["orders", "opportunities", "leads"]).await?;
        for index in INDEXES {
            run(manager, &[&format!("DROP INDEX {index}")]).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
