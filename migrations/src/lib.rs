//! Leadsmith's database schema, one file per change, for SQLite and PostgreSQL.
//!
//! The service's `db::migrate` takes the lock and decides when migrations run; nothing here does. This
//! crate's README has the rules for changing a schema that running replicas use.

use compatibility::{contract, expand};
pub use m0010_search_index::fill as fill_search_index;
pub use sea_orm_migration;
use sea_orm_migration::prelude::*;

pub mod compatibility;
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
mod m0016_compatibility;
mod m0017_identities;
mod m0018_people;
mod m0019_opportunities;
mod m0020_order_queues;
mod m0021_claims;
mod m0022_clients;
mod m0023_outdated_texts;
mod m0024_search_texts;
mod m0025_request_ids;
mod m0026_event_log;
mod m0027_dashboard;
mod schema;
pub mod search_index;
pub mod search_text;

/// All migrations, in the order in which they apply, each with what it means for programs that do not know it.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            expand(m0001_operators::Migration),
            expand(m0002_leads::Migration),
            expand(m0003_opportunities::Migration),
            expand(m0004_orders::Migration),
            expand(m0005_ledgers::Migration),
            expand(m0006_erasure::Migration),
            expand(m0007_certificates::Migration),
            // Drops the indexes of the order in which older programs list.
            contract(
                m0008_order_of_creation::Migration,
                "m0008_order_of_creation",
            ),
            expand(m0009_filters::Migration),
            // Drops the FTS5 index in which older programs search on SQLite.
            contract(m0010_search_index::Migration, "m0010_search_index"),
            // Older programs compute other keys, and would not find duplicates by them.
            contract(m0011_keys::Migration, "m0011_keys"),
            expand(m0015_contract::Migration),
            expand(m0016_compatibility::Migration),
            expand(m0017_identities::Migration),
            expand(m0018_people::Migration),
            expand(m0019_opportunities::Migration),
            expand(m0020_order_queues::Migration),
            expand(m0021_claims::Migration),
            expand(m0022_clients::Migration),
            expand(m0023_outdated_texts::Migration),
            expand(m0024_search_texts::Migration),
            expand(m0025_request_ids::Migration),
            expand(m0026_event_log::Migration),
            expand(m0027_dashboard::Migration),
        ]
    }
}
