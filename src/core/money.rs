//! An amount of money in the form of google.type.Money.

use serde::{Deserialize, Serialize};

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// An ISO 4217 currency code.
    pub currency_code: String,
    /// Whole units.
    pub units: i64,
    /// Billionths of a unit, with the same sign as the units.
    pub nanos: i32,
}
