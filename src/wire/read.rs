//! Reading the parts of a request. Each function notes what is wrong and goes on, so that the caller
//! is told everything at once.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::violations::{Reason, Violations};

/// A record's id. Nil when it is not one, which the violation keeps from being used.
pub fn id(violations: &mut Violations, field: &str, text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| {
        let (reason, problem) = if text.is_empty() {
            (
                Reason::Required,
                "is required: give the record's id, a UUID",
            )
        } else {
            (Reason::FormatInvalid, "must be the record's id, a UUID")
        };
        violations.add(field, reason, problem);
        Uuid::nil()
    })
}

/// A request id, which may be left out. It is spelt anew where it stands: capitals or braces make no
/// other id, and so no other request.
pub fn request_id(violations: &mut Violations, text: &mut String) -> Option<Uuid> {
    if text.is_empty() {
        return None;
    }
    let Ok(id) = Uuid::try_parse(text) else {
        violations.add(
            "request_id",
            Reason::FormatInvalid,
            "must be a UUID of your choice, or empty",
        );
        return None;
    };
    *text = id.to_string();
    Some(id)
}

/// A record's id that may be left out.
pub fn optional_id(violations: &mut Violations, field: &str, text: &str) -> Option<Uuid> {
    (!text.is_empty()).then(|| id(violations, field, text))
}

/// Text of at most `limit` characters, without blank at its ends and without control characters
/// other than tab and newline.
pub fn text(violations: &mut Violations, field: &str, text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.chars().count() > limit {
        violations.add(
            field,
            Reason::TooLong,
            format_args!("must be at most {limit} characters long"),
        );
    }
    if has_control(text) {
        violations.add(
            field,
            Reason::CharacterInvalid,
            "must not contain control characters other than tab and newline",
        );
    }
    text.to_owned()
}

/// Whether text has characters that are neither kept nor shown.
pub fn has_control(text: &str) -> bool {
    text.chars()
        .any(|character| character.is_control() && !matches!(character, '\t' | '\n'))
}

/// An ISO 3166-1 alpha-2 code, or nothing.
pub fn country(violations: &mut Violations, field: &str, code: &str) {
    let upper = code.chars().all(|character| character.is_ascii_uppercase());
    if !code.is_empty() && (!upper || rust_iso3166::from_alpha2(code).is_none()) {
        violations.add(
            field,
            Reason::ValueUnknown,
            "must be an ISO 3166-1 alpha-2 code in upper case, such as DE",
        );
    }
}

/// A moment that may be left out.
pub fn time(
    violations: &mut Violations,
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    let time = time?;
    let read = u32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        // What google.protobuf.Timestamp allows, and PostgreSQL takes.
        .filter(|read| (1..=9999).contains(&chrono::Datelike::year(read)));
    if read.is_none() {
        violations.add(
            field,
            Reason::OutOfRange,
            "must be a moment from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z",
        );
    }
    read
}

/// How many values a list of enum values may have. No enum has as many.
const ENUMS: usize = 100;

/// Enum values without repetition; a number that is not one is noted. UNSPECIFIED, which is 0, is as if
/// it were not there, and is taken out where it stands: read these before the page, whose token is bound
/// to the request.
pub fn enums<T: Copy + Ord>(
    violations: &mut Violations,
    field: &str,
    numbers: &mut Vec<i32>,
    read: fn(i32) -> Option<T>,
) -> Vec<T> {
    if numbers.len() > ENUMS {
        violations.add(
            field,
            Reason::TooMany,
            format_args!("must be at most {ENUMS}: give each value once"),
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
