//! The cells of the tables: texts, amounts, times.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use leadsmith_proto as proto;

use crate::core::money::Money;
use crate::core::text::printable;

/// A text in this many columns, the last of which is blank.
pub(super) fn cell(text: &str, width: usize) -> String {
    let text = printable(text);
    let cut: String = match text.chars().count() < width {
        true => text,
        false => text
            .chars()
            .take(width.saturating_sub(2))
            .chain(['~'])
            .collect(),
    };
    format!("{cut:<width$}")
}

/// A name, or another text if it is empty.
pub(super) fn name_or(name: &str, other: &str) -> String {
    match name.is_empty() {
        true => other.to_owned(),
        false => name.to_owned(),
    }
}

/// An exact amount with its currency.
pub(super) fn amount(money: &proto::Money) -> String {
    let money = Money {
        currency_code: printable(&money.currency_code),
        units: money.units,
        nanos: money.nanos,
    };
    money.to_string()
}

/// A time.
pub(super) fn time(time: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

/// A duration by its two largest units. Example: `3 d 4 h`.
pub(super) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut shown = String::new();
    let mut parts = 0;
    for (size, unit) in units {
        let number = rest / size;
        rest %= size;
        if number == 0 && !(parts == 0 && size == 1) {
            if parts > 0 {
                break;
            }
            continue;
        }
        let separator = if parts > 0 { " " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(shown, "{separator}{number} {unit}");
        parts += 1;
        if parts == 2 {
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_by_its_two_largest_units() {
        for (seconds, shown) in [
            (-5, "0 s"),
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min 59 s"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (86_460, "1 d"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(duration(seconds), shown, "{seconds}");
        }
    }
}
