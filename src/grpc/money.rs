//! Conversion of amounts of money.

use leadsmith_proto as proto;

use crate::core::money::Money;
use crate::core::violations::{Reason, Violations};

/// Parses an amount. `negative` allows amounts below zero.
pub fn parse(
    violations: &mut Violations,
    field: &str,
    money: proto::Money,
    negative: bool,
) -> Money {
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
            "must be from -999,999,999 to 999,999,999, with the same sign as the units",
        );
    }
    if !negative && (money.units < 0 || money.nanos < 0) {
        violations.add(
            format_args!("{field}.units"),
            Reason::OutOfRange,
            "must not be negative",
        );
    }
    Money {
        currency_code: money.currency_code,
        units: money.units,
        nanos: money.nanos,
    }
}

/// Renders an amount as a message.
pub fn render(money: Money) -> proto::Money {
    proto::Money {
        currency_code: money.currency_code,
        units: money.units,
        nanos: money.nanos,
    }
}
