//! The features: one folder for each term of the business, with those of these files that it needs.
//! `api.rs` converts between messages and domain types, `mod.rs` contains the use cases, `model.rs` the
//! rules (pure functions), and `store.rs` the queries.

pub mod clients;
pub mod dashboard;
pub mod events;
pub mod leads;
pub mod operators;
pub mod opportunities;
pub mod order_queues;
pub mod orders;
pub mod service_accounts;
pub mod sessions;

use crate::auth::operators::Operator;
use crate::commit::Kind;
use leads::model::Lead;
use opportunities::model::Opportunity;
use order_queues::model::OrderQueue;
use orders::model::Order;
use service_accounts::model::ServiceAccount;

/// The kinds of records that can be changed, in lock order. A kind comes before the kinds that its records
/// refer to.
pub const RECORDS: &[Kind] = &[
    Kind::of::<Order>(),
    Kind::of::<Opportunity>(),
    Kind::of::<Lead>(),
    Kind::of::<Operator>(),
    Kind::of::<ServiceAccount>(),
    Kind::of::<OrderQueue>(),
];
