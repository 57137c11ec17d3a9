//! Decodes the fields of a row from the text form that both databases produce.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use uuid::Uuid;

/// The fields of a row.
#[derive(Debug)]
pub struct Fields<'a>(pub(super) std::str::Split<'a, char>);

impl Fields<'_> {
    /// Decodes the next field; `None` if there is none or it has another type.
    pub fn take<T: Field>(&mut self) -> Option<T> {
        T::from_text(self.0.next()?)
    }
}

/// A row that is decoded from its fields by their position. `row_by_position!` implements it.
pub trait RowByPosition: Sized {
    /// Decodes all fields; `None` if there are too few or one has another type.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self>;
}

/// Wraps the definition of an entity's model. The fields are taken in the order of the definition, from which SeaORM
/// also derives the order of the columns, so that two fields cannot be swapped.
macro_rules! row_by_position {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::db::select::RowByPosition for $name {
            fn from_fields(fields: &mut $crate::db::select::Fields<'_>) -> Option<Self> {
                Some(Self {
                    $($field: fields.take()?,)*
                })
            }
        }
    };
}

pub(in crate::db) use row_by_position;

/// A type that a field can have.
pub trait Field: Sized {
    /// Parses the text form of either database.
    fn from_text(text: &str) -> Option<Self>;
}

impl Field for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Field for i64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for i32 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for bool {
    /// SQLite stores a number, PostgreSQL writes the first letter.
    fn from_text(text: &str) -> Option<Self> {
        match text {
            "1" | "t" => Some(true),
            "0" | "f" => Some(false),
            _ => None,
        }
    }
}

impl Field for NaiveDate {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for Uuid {
    fn from_text(text: &str) -> Option<Self> {
        Self::try_parse(text).ok()
    }
}

impl Field for Value {
    fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl<T: Field> Field for Option<T> {
    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        T::from_text(text).map(Some)
    }
}

impl Field for DateTime<Utc> {
    /// `2026-03-01T09:30:00.123456+00:00`, or with a space in the middle and a shorter offset. Both
    /// databases write UTC.
    fn from_text(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
        let rest = text.get(19..)?;
        let rest = rest
            .strip_suffix(":00")
            .unwrap_or(rest)
            .strip_suffix("+00")?;
        let micros = match rest.strip_prefix('.') {
            Some(digits) if digits.len() <= 6 => {
                digits.parse::<u32>().ok()? * 10_u32.pow(6 - u32::try_from(digits.len()).ok()?)
            }
            Some(_) => return None,
            None => 0,
        };
        let year = i32::try_from(number(0, 4)?).ok()?;
        NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?
            .and_hms_micro_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, micros)
            .map(|time| time.and_utc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_databases_are_read() {
        let expected = "2026-03-01T09:30:05.120400Z".parse().ok();
        for text in [
            "2026-03-01T09:30:05.120400+00:00",
            "2026-03-01 09:30:05.1204+00",
        ] {
            assert_eq!(<DateTime<Utc>>::from_text(text), expected, "{text}");
        }
        assert_eq!(
            <DateTime<Utc>>::from_text("2026-03-01T09:30:05+00:00"),
            "2026-03-01T09:30:05Z".parse().ok()
        );
        for text in [
            "",
            "2026-03-01",
            "2026-03-01 09:30:05+01",
            "2026-13-01T09:30:05+00:00",
        ] {
            assert_eq!(<DateTime<Utc>>::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn an_empty_field_is_none() {
        assert_eq!(Option::<Uuid>::from_text(""), Some(None));
        assert_eq!(Option::<Uuid>::from_text("x"), None);
        assert_eq!(Option::<i64>::from_text("-7"), Some(Some(-7)));
    }
}
