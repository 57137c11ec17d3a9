//! An amount of money in the form of google.type.Money.

use std::fmt;

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

/// The exact amount in decimals, followed by the currency. Example: `1200.5 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 || self.nanos < 0 {
            "-"
        } else {
            ""
        };
        let (units, nanos) = (self.units.unsigned_abs(), self.nanos.unsigned_abs());
        let decimals = format!("{nanos:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{sign}{units} {}", self.currency_code),
            decimals => write!(f, "{sign}{units}.{decimals} {}", self.currency_code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_shown_exactly() {
        for (units, nanos, shown) in [
            (0, 0, "0 EUR"),
            (1_200, 500_000_000, "1200.5 EUR"),
            (0, 1, "0.000000001 EUR"),
            (19, 90_000_000, "19.09 EUR"),
            (-3, -250_000_000, "-3.25 EUR"),
            (0, -10_000_000, "-0.01 EUR"),
            (i64::MIN, -999_999_999, "-9223372036854775808.999999999 EUR"),
        ] {
            let currency_code = "EUR".to_owned();
            let money = Money {
                currency_code,
                units,
                nanos,
            };
            assert_eq!(money.to_string(), shown);
        }
    }
}
