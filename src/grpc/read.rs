//! Parses the fields of requests. Each function adds violations and continues, so that the caller receives
//! all violations at once.

use std::fmt::Display;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use uuid::Uuid;

use super::enums::WireEnum as _;
use crate::core::role::Role;
use crate::core::text::{self, Limit};
use crate::core::violations::{Reason, Violations};

/// Parses a record's id. Returns the nil UUID if it is invalid; the violation prevents its use.
pub fn id(violations: &mut Violations, field: &str, text: &str) -> Uuid {
    match Uuid::try_parse(text) {
        Ok(id) if !id.is_nil() => id,
        _ => {
            let (reason, problem) = if text.is_empty() {
                (
                    Reason::Required,
                    "is required: send the record's id, a UUID",
                )
            } else {
                (Reason::FormatInvalid, "must be the record's id, a UUID")
            };
            violations.add(field, reason, problem);
            Uuid::nil()
        }
    }
}

/// Parses an optional request id, and normalises it in the request: upper-case letters or braces do not
/// make a different id, and so not a different request.
pub fn request_id(violations: &mut Violations, text: &mut String) -> Option<Uuid> {
    if text.is_empty() {
        return None;
    }
    let read = Uuid::try_parse(text).ok();
    // Clients may use the nil and the max UUID for "none". A client that sends one of them with every call
    // would get the response of its first call each time.
    let Some(id) = read.filter(|id| !id.is_nil() && !id.is_max()) else {
        violations.add(
            "request_id",
            Reason::FormatInvalid,
            "must be a UUID of your choice, except the nil and the max UUID, or empty",
        );
        return None;
    };
    *text = id.to_string();
    Some(id)
}

/// Parses an optional id of a record.
pub fn optional_id(violations: &mut Violations, field: &str, text: &str) -> Option<Uuid> {
    if text.is_empty() {
        return None;
    }
    Some(id(violations, field, text)).filter(|id| !id.is_nil())
}

/// Parses a text of at most `limit` characters: normalises it, and refuses control characters other than
/// tab and newline.
pub fn text(violations: &mut Violations, field: &str, text: &str, limit: usize) -> String {
    let text = text::clean(text);
    check_text(violations, field, &text, Limit::Characters(limit));
    text
}

/// Adds a violation if a text exceeds `limit` or has control characters other than tab and newline.
pub fn check_text(violations: &mut Violations, field: impl Display, text: &str, limit: Limit) {
    if limit.is_exceeded_by(text) {
        violations.add(
            &field,
            Reason::TooLong,
            format_args!("must be at most {limit} long"),
        );
    }
    if text::has_control(text) {
        violations.add(
            field,
            Reason::CharacterInvalid,
            "must not contain control characters other than tab and newline",
        );
    }
}

/// Kosovo's code is one of those that ISO reserves for private use. The European Union and many others use
/// it.
const KOSOVO: &str = "XK";

/// Checks an ISO 3166-1 alpha-2 code or XK. May be empty.
pub fn country(violations: &mut Violations, field: &str, code: &str) {
    let upper = code.chars().all(|character| character.is_ascii_uppercase());
    let known = code == KOSOVO || (upper && rust_iso3166::from_alpha2(code).is_some());
    if !code.is_empty() && !known {
        violations.add(
            field,
            Reason::ValueUnknown,
            "must be an ISO 3166-1 alpha-2 code in upper case, such as DE",
        );
    }
}

/// Parses an optional date, strictly `YYYY-MM-DD`, from 0001-01-01 to 9999-12-31.
pub fn date(violations: &mut Violations, field: &str, text: &str) -> Option<NaiveDate> {
    if text.is_empty() {
        return None;
    }
    let date = parse_date(text);
    if date.is_none() {
        violations.add(
            field,
            Reason::FormatInvalid,
            "must be a date as YYYY-MM-DD, from 0001-01-01 to 9999-12-31, or empty",
        );
    }
    date
}

/// Not with chrono's parser, which also accepts signs, spaces and years with more than four digits.
fn parse_date(text: &str) -> Option<NaiveDate> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
            Some(10 * number + digit)
        })
    };
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4]).filter(|year| *year > 0)?;
    let (month, day) = (number(&[m1, m2])?, number(&[d1, d2])?);
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

/// Parses an optional time.
pub fn time(
    violations: &mut Violations,
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    let time = time?;
    let read = u32::try_from(time.nanos)
        .ok()
        // chrono represents a leap second by more than 10^9 nanoseconds, which google.protobuf.Timestamp
        // does not allow.
        .filter(|nanos| *nanos < 1_000_000_000)
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        // The range of google.protobuf.Timestamp, which PostgreSQL supports.
        .filter(|read| (1..=9999).contains(&chrono::Datelike::year(read)));
    if read.is_none() {
        violations.add(
            field,
            Reason::OutOfRange,
            "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z, with nanos from 0 to \
             999,999,999",
        );
    }
    read
}

/// Parses a required duration from `min` to `max`. Returns `min` if it is invalid; the violation prevents its use.
pub fn duration(
    violations: &mut Violations,
    field: &str,
    given: Option<prost_types::Duration>,
    min: Duration,
    max: Duration,
) -> Duration {
    let Some(given) = given else {
        let problem = format_args!(
            "is required: from {} s to {} s",
            min.num_seconds(),
            max.num_seconds()
        );
        violations.add(field, Reason::Required, problem);
        return min;
    };
    let read = u32::try_from(given.nanos)
        .ok()
        .and_then(|nanos| Duration::new(given.seconds, nanos))
        .filter(|read| (min..=max).contains(read));
    if read.is_none() {
        let problem = format_args!(
            "must be from {} s to {} s",
            min.num_seconds(),
            max.num_seconds()
        );
        violations.add(field, Reason::OutOfRange, problem);
    }
    read.unwrap_or(min)
}

/// Parses a required role. Returns VIEWER if it is invalid; the violation prevents its use.
pub fn role(violations: &mut Violations, field: &str, number: i32) -> Role {
    let role = Role::from_wire(number);
    if role.is_none() {
        let (reason, problem) = match number {
            0 => (
                Reason::Required,
                "is required: ROLE_VIEWER, ROLE_SALES or ROLE_ADMIN",
            ),
            _ => (Reason::ValueUnknown, "is not one of the enum's values"),
        };
        violations.add(field, reason, problem);
    }
    role.unwrap_or(Role::Viewer)
}

/// The maximum number of values in a list of enum values. No enum has as many.
const MAX_ENUM_VALUES: usize = 100;

/// Parses enum values without duplicates; unknown numbers are violations. UNSPECIFIED (0) counts as absent
/// and is removed from the request. Call this before reading the page, because the page token is bound to
/// the request.
pub fn enums<T: Copy + Ord>(
    violations: &mut Violations,
    field: &str,
    numbers: &mut Vec<i32>,
    read: fn(i32) -> Option<T>,
) -> Vec<T> {
    if numbers.len() > MAX_ENUM_VALUES {
        violations.add(
            field,
            Reason::TooMany,
            format_args!("must have at most {MAX_ENUM_VALUES} elements: list each value once"),
        );
        return Vec::new();
    }
    let mut values: Vec<T> = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        if *number == 0 {
            continue;
        }
        match read(*number) {
            Some(value) => values.push(value),
            None => violations.add(
                format_args!("{field}[{index}]"),
                Reason::ValueUnknown,
                "is not one of the enum's values",
            ),
        }
    }
    numbers.retain(|number| *number != 0);
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_four_two_and_two_digits_of_a_real_day() {
        for date in ["0001-01-01", "2024-02-29", "2026-11-30", "9999-12-31"] {
            assert_eq!(parse_date(date).unwrap().to_string(), date);
        }
        for wrong in [
            "0000-01-01",
            "-001-01-01",
            "+2024-1-01",
            "+99999-1-1",
            "2026- 1- 2",
            "2026-1-2",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "2026-04-31",
            " 2026-01-02",
            "2026-01-02 ",
            "20260102",
            "2026/01/02",
            "10000-01-01",
            "२०२६-01-02",
            "2026-01-0a",
            "2026-01-02T00:00:00Z",
        ] {
            assert_eq!(parse_date(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_moment_has_less_than_a_second_of_nanos() {
        let read = |seconds, nanos| {
            let mut violations = Violations::default();
            let stamp = prost_types::Timestamp { seconds, nanos };
            let read = time(&mut violations, "time", Some(stamp));
            assert_eq!(read.is_none(), violations.finish().is_err());
            read
        };
        let (first, last) = (-62_135_596_800, 253_402_300_799);
        for (seconds, nanos) in [(first, 0), (last, 999_999_999), (59, 999_999_999), (0, 0)] {
            assert!(read(seconds, nanos).is_some(), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [
            (59, 1_000_000_000),
            (59, 1_999_999_999),
            (60, 1_000_000_000),
            (0, -1),
            (first - 1, 999_999_999),
            (last + 1, 0),
            (last, 1_000_000_000),
            (i64::MAX, 0),
            (i64::MIN, 0),
            (0, i32::MIN),
            (0, i32::MAX),
        ] {
            assert!(read(seconds, nanos).is_none(), "{seconds} {nanos}");
        }
    }
}
