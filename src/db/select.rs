//! Reads whole rows of an entity, all of them as one text.
//!
//! The drivers hand values over one by one, each copied and its type checked again, and SQLite's
//! hands rows from its thread one by one. For a page of 50 leads that costs several times what the
//! database needs to find them. So the database puts the rows together, and here they are cut again.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sea_query::ColumnType;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, Iterable, Statement};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Sets the columns of a row apart, and the next one rows. No text that is kept has control
/// characters other than tab and newline, and JSON escapes them.
const UNIT: char = '\u{1}';
const ROW: char = '\u{2}';

/// The rows that `select`, which asks for every column, finds. `read` takes their fields in the
/// order of the entity's columns.
pub async fn rows<E: EntityTrait>(
    db: &impl ConnectionTrait,
    mut select: Statement,
    read: fn(&mut Fields<'_>) -> Option<E::Model>,
) -> Result<Vec<E::Model>> {
    select.sql = format!(
        "{} FROM ({}) AS t",
        together::<E>(select.db_backend),
        select.sql
    );
    let Some(row) = db.query_one_raw(select).await? else {
        return Ok(Vec::new());
    };
    let text: Option<String> = row.try_get_by_index(0)?;
    let text = text.unwrap_or_default();
    let rows = text.split_terminator(ROW).map(|row| {
        let mut fields = Fields(row.split(UNIT));
        let row = read(&mut fields).filter(|_| fields.0.next().is_none());
        let table = E::default();
        row.ok_or_else(|| {
            Error::internal(format!("a row of {} cannot be read", table.table_name()))
        })
    });
    rows.collect()
}

/// All rows of `t`, put together.
fn together<E: EntityTrait>(backend: DbBackend) -> String {
    let columns: Vec<String> = E::Column::iter()
        .map(|column| as_text(backend, &column))
        .collect();
    let columns = columns.join(", ");
    if backend == DbBackend::Postgres {
        format!("SELECT string_agg(concat_ws(E'\\x01', {columns}), E'\\x02')")
    } else {
        format!("SELECT group_concat(concat_ws(char(1), {columns}), char(2))")
    }
}

/// A column as [`Field`] reads it. NULL becomes an empty text: there would be no place for it.
fn as_text(backend: DbBackend, column: &impl ColumnTrait) -> String {
    let definition = column.def();
    let name = column.as_str();
    if backend == DbBackend::Sqlite && *definition.get_column_type() == ColumnType::Uuid {
        // Stored as 16 bytes.
        format!("hex({name})")
    } else if definition.is_null() {
        format!("coalesce(CAST({name} AS text), '')")
    } else {
        name.to_owned()
    }
}

/// The fields of a row.
#[derive(Debug)]
pub struct Fields<'a>(std::str::Split<'a, char>);

impl Fields<'_> {
    /// The next one; none when there is none or it is something else.
    pub fn take<T: Field>(&mut self) -> Option<T> {
        T::from_text(self.0.next()?)
    }
}

/// What a field can be.
pub trait Field: Sized {
    /// From how both databases write it.
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
    /// `2026-03-01T09:30:00.123456+00:00`, or with a blank in the middle and a shorter offset: the
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
