//! Leadsmith's database schema, one file per change, for SQLite and PostgreSQL.
//!
//! The service's `db::migrate` takes the lock and decides when migrations run; nothing here does. This
//! crate's README has the rules for changing a schema that running replicas use.

pub use m0010_search_index::fill as fill_search_index;
pub use sea_orm_migration;
use sea_orm_migration::prelude::*;

mod m0001_operators;
mod m0002_leads;
mod m0003_opportunities;
mod m0004_orders;
mod m0005_ledgers;
mod m0006_erasure;
mod m0007_certificates;
mod m0008_order_of_creation;
mod m0009_filters;
mod m0010_search_index;
mod m0011_keys;
mod m0015_contract;
mod schema;
pub mod search_index;

/// All migrations, in the order in which they apply.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_operators::Migration),
            Box::new(m0002_leads::Migration),
            Box::new(m0003_opportunities::Migration),
            Box::new(m0004_orders::Migration),
            Box::new(m0005_ledgers::Migration),
            Box::new(m0006_erasure::Migration),
            Box::new(m0007_certificates::Migration),
            Box::new(m0008_order_of_creation::Migration),
            Box::new(m0009_filters::Migration),
            Box::new(m0010_search_index::Migration),
            Box::new(m0011_keys::Migration),
            Box::new(m0015_contract::Migration),
        ]
    }
}
