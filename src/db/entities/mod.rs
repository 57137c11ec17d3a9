//! The tables, as SeaORM sees them. They never leave a room's `store.rs`; a test holds them against
//! the migrated schema.

pub mod action_run;
pub mod api_key;
pub mod event;
pub mod history;
pub mod idempotency_record;
pub mod lead;
pub mod operator;
pub mod opportunity;
pub mod order;
pub mod password_attempt;
pub mod server_key;
pub mod service_account;
pub mod session;
