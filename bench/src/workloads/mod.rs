//! The workloads, one per file: its calls, the checks of their responses, and the work that each database does for
//! what the call promises.

pub mod claim;
pub mod convert;
pub mod create;
pub mod dashboard;
pub mod get;
pub mod list;
pub mod manual;
pub mod memory;
pub mod opportunity;
mod order_action;
mod run_action;
pub mod scale;
pub mod search;
pub mod sign_in;
pub mod stored;
pub mod update;
pub mod watch;

use uuid::Uuid;

use crate::data::COLUMNS;

/// A request id as callers choose it.
pub fn request_id(random: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid()
}

/// Every column of a lead.
pub fn all_columns() -> String {
    format!("{COLUMNS}, conversion_order_id")
}
