//! The tables, as SeaORM entities.
//!
//! A feature uses them only in its `store.rs`. A test compares them with the migrated schema.

pub mod action_run;
pub mod api_key;
pub mod claimable_action;
pub mod event;
pub mod history;
pub mod idempotency_record;
pub mod idempotency_root;
pub mod lead;
pub mod operator;
pub mod opportunity;
pub mod order;
pub mod order_queue;
pub mod password_attempt;
pub mod server_key;
pub mod service_account;
pub mod session;
