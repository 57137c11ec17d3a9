//! An amount of money, shaped as google.type.Money.

use serde::{Deserialize, Serialize};

use super::proto;
use super::violations::{Reason, Violations};

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// An ISO 4217 code.
    pub currency_code: String,
    /// Whole units.
    pub units: i64,
    /// Billionths of a unit, of the same sign as the units.
    pub nanos: i32,
}

impl Money {
    /// Reads an amount. `negative` says whether it may be below zero.
    pub fn parse(
        violations: &mut Violations,
        field: &str,
        money: proto::Money,
        negative: bool,
    ) -> Self {
        if iso_currency::Currency::from_code(&money.currency_code).is_none() {
            violations.add(
                format_args!("{field}.currency_code"),
                match money.currency_code.as_str() {
                    "" => Reason::Required,
                    _ => Reason::ValueUnknown,
                },
                "must be an ISO 4217 code in upper case, such as EUR",
            );
        }
        let signs_agree = match money.units {
            0 => true,
            units => units.signum() * i64::from(money.nanos.signum()) >= 0,
        };
        if money.nanos.unsigned_abs() > 999_999_999 || !signs_agree {
            violations.add(
                format_args!("{field}.nanos"),
                Reason::OutOfRange,
                "must be from -999,999,999 to 999,999,999 and of the same sign as the units",
            );
        }
        if !negative && (money.units < 0 || money.nanos < 0) {
            violations.add(
                format_args!("{field}.units"),
                Reason::OutOfRange,
                "must not be negative",
            );
        }
        Self {
            currency_code: money.currency_code,
            units: money.units,
            nanos: money.nanos,
        }
    }

    /// As the wire has it.
    pub fn render(self) -> proto::Money {
        proto::Money {
            currency_code: self.currency_code,
            units: self.units,
            nanos: self.nanos,
        }
    }
}
