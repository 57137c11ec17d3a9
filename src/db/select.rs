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

/// Where a page ends before its number of rows, in bytes of its large columns: as much as a response
/// may have (`wire::page`). The row that crosses the line is the last one.
const LARGEST_PAGE: u64 = 3 << 20;
/// Rows are taken for small up to this size, however many a page has. A page of small rows is read by
/// one plain query, of at most 1,001 × 8 KiB.
const SMALL_ROW: u64 = 8 << 10;

/// Reads a row's fields, which come in the order of the entity's columns.
pub type Read<E> = fn(&mut Fields<'_>) -> Option<<E as EntityTrait>::Model>;

/// The first rows of a page.
#[derive(Debug)]
pub struct Part<T> {
    /// At least one, where the page has one.
    pub rows: Vec<T>,
    /// Whether the page's size in bytes ended it before its last row.
    pub cut: bool,
    /// How many bytes were read for it.
    bytes: u64,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            cut: false,
            bytes: 0,
        }
    }
}

impl<T> Part<T> {
    /// The rows that follow, which another statement found, where these were not cut.
    pub fn append(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.bytes += more.bytes;
        self.cut = more.cut;
    }

    /// Cuts it here, where its size ends it.
    pub fn cut_when_full(&mut self) -> bool {
        self.cut |= self.bytes >= LARGEST_PAGE;
        self.cut
    }

    /// The same rows as something else.
    pub fn map<U>(self, change: impl FnMut(T) -> Result<U>) -> Result<Part<U>> {
        Ok(Part {
            rows: self.rows.into_iter().map(change).collect::<Result<_>>()?,
            cut: self.cut,
            bytes: self.bytes,
        })
    }
}

/// The rows that `select`, which asks for every column, finds.
pub async fn rows<E: EntityTrait>(
    db: &impl ConnectionTrait,
    mut select: Statement,
    read: Read<E>,
) -> Result<Vec<E::Model>> {
    let backend = select.db_backend;
    let together = together(backend, &whole::<E>(backend), None);
    select.sql = format!("SELECT {together} FROM ({}) AS t", select.sql);
    let Some(row) = db.query_one_raw(select).await? else {
        return Ok(Vec::new());
    };
    cut::<E>(row.try_get_by_index(0)?, read)
}

/// The rows of a page: those that `select` finds, which asks for every column of at most `limit` rows,
/// until the columns that may be `large` come to `LARGEST_PAGE`. The database does not put together
/// what is not part of the page.
pub async fn page<E: EntityTrait>(
    db: &impl ConnectionTrait,
    select: Statement,
    limit: u64,
    large: &[E::Column],
    read: Read<E>,
) -> Result<Part<E::Model>> {
    let largest = (LARGEST_PAGE / limit.max(1)).max(SMALL_ROW);
    let statement = small_page::<E>(select.clone(), large, largest);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Err(Error::internal("an aggregate has no row"));
    };
    let (text, all): (Option<String>, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let bytes = length(text.as_ref());
    let rows = cut::<E>(text, read)?;
    if i64::try_from(rows.len()) == Ok(all) {
        let cut = false;
        return Ok(Part { rows, cut, bytes });
    }
    let statement = large_page::<E>(select, large);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Err(Error::internal("an aggregate has no row"));
    };
    let text: Option<String> = row.try_get_by_index(0)?;
    let cut_short: Option<bool> = row.try_get_by_index(1)?;
    Ok(Part {
        bytes: length(text.as_ref()),
        rows: cut::<E>(text, read)?,
        cut: cut_short.unwrap_or(false),
    })
}

fn length(text: Option<&String>) -> u64 {
    text.map_or(0, |text| text.len() as u64)
}

/// Puts those rows together that are not large, and counts them all.
fn small_page<E: EntityTrait>(
    mut select: Statement,
    large: &[E::Column],
    largest: u64,
) -> Statement {
    let backend = select.db_backend;
    let size = size(backend, large, Some(largest));
    let row = format!(
        "CASE WHEN {size} <= {largest} THEN {} END",
        whole::<E>(backend)
    );
    let together = together(backend, &row, None);
    select.sql = format!("SELECT {together}, count(*) FROM ({}) AS t", select.sql);
    select
}

/// Adds up the rows of a page until their size is reached, and puts these together. Both databases know
/// the size of most values without reading them; PostgreSQL does not of compressed JSON, so it goes from
/// row to row and stops.
fn large_page<E: EntityTrait>(mut select: Statement, large: &[E::Column]) -> Statement {
    let backend = select.db_backend;
    let (table, size) = (E::default(), size(backend, large, None));
    let table = table.table_name();
    let together = together(backend, &whole::<E>(backend), Some("step.n"));
    let page = &select.sql;
    select.sql = if backend == DbBackend::Postgres {
        format!(
            "WITH RECURSIVE page AS MATERIALIZED (SELECT array_agg(w.id) AS ids FROM ({page}) AS w), \
             step(n, bytes) AS (SELECT 0, CAST(0 AS bigint) UNION ALL \
               SELECT step.n + 1, step.bytes + {size} FROM step CROSS JOIN page \
               JOIN {table} AS t ON t.id = page.ids[step.n + 1] WHERE step.bytes < {LARGEST_PAGE}) \
             SELECT {together}, max(step.n) < (SELECT cardinality(ids) FROM page) \
             FROM step CROSS JOIN page JOIN {table} AS t ON t.id = page.ids[step.n]"
        )
    } else {
        format!(
            "WITH page AS MATERIALIZED \
               (SELECT row_number() OVER () AS n, w.id AS id FROM ({page}) AS w), \
             step AS (SELECT page.n AS n, page.id AS id, \
               sum({size}) OVER (ORDER BY page.n) - ({size}) AS done \
               FROM page CROSS JOIN {table} AS t ON t.id = page.id) \
             SELECT {together}, count(*) < (SELECT count(*) FROM page) \
             FROM step CROSS JOIN {table} AS t ON t.id = step.id WHERE step.done < {LARGEST_PAGE}"
        )
    };
    select
}

/// How many bytes the columns that may be large have in a row of `t`. Where it is more than `enough`, it
/// may be any number above that. On SQLite it is only the first column's size where that is above
/// [`SMALL_ROW`].
fn size<C: ColumnTrait>(backend: DbBackend, large: &[C], enough: Option<u64>) -> String {
    let sizes = large.iter().map(|column| {
        let name = format!("t.{}", column.as_str());
        let definition = column.def();
        let json = matches!(
            definition.get_column_type(),
            ColumnType::Json | ColumnType::JsonBinary
        );
        if backend == DbBackend::Sqlite || !json {
            return format!("coalesce(octet_length({name}), 0)");
        }
        // PostgreSQL knows what JSON takes as it is stored. Where that is compressed, it has to be read,
        // unless there is so much of it that it is taken for large.
        let stored = format!("pg_column_size({name})");
        let large = enough.map_or(String::new(), |enough| {
            format!("WHEN {stored} > {} THEN {}", enough / 8, enough + 1)
        });
        format!(
            "coalesce(CASE WHEN pg_column_compression({name}) IS NULL THEN {stored} {large} \
             ELSE octet_length(CAST({name} AS text)) END, 0)"
        )
    });
    let sizes: Vec<String> = sizes.collect();
    let all = sizes.join(" + ");
    match sizes.first() {
        // The columns behind a large value are at the end of a chain of pages, which SQLite would walk.
        Some(first) if backend == DbBackend::Sqlite => {
            format!("CASE WHEN {first} > {SMALL_ROW} THEN {first} ELSE {all} END")
        }
        _ => all,
    }
}

/// A row of `t` as a text.
fn whole<E: EntityTrait>(backend: DbBackend) -> String {
    let columns: Vec<String> = E::Column::iter()
        .map(|column| as_text(backend, &column))
        .collect();
    let unit = if backend == DbBackend::Postgres {
        "E'\\x01'"
    } else {
        "char(1)"
    };
    format!("concat_ws({unit}, {})", columns.join(", "))
}

/// The texts of all rows, put together.
fn together(backend: DbBackend, row: &str, order: Option<&str>) -> String {
    let order = order.map_or(String::new(), |by| format!(" ORDER BY {by}"));
    if backend == DbBackend::Postgres {
        format!("string_agg({row}, E'\\x02'{order})")
    } else {
        format!("group_concat({row}, char(2){order})")
    }
}

/// Cuts rows that were put together.
fn cut<E: EntityTrait>(text: Option<String>, read: Read<E>) -> Result<Vec<E::Model>> {
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

/// A column as [`Field`] reads it. NULL becomes an empty text: there would be no place for it.
fn as_text(backend: DbBackend, column: &impl ColumnTrait) -> String {
    let definition = column.def();
    let name = format!("t.{}", column.as_str());
    if backend == DbBackend::Sqlite && *definition.get_column_type() == ColumnType::Uuid {
        // Stored as 16 bytes.
        format!("hex({name})")
    } else if definition.is_null() {
        format!("coalesce(CAST({name} AS text), '')")
    } else {
        name
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

impl Field for i32 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for bool {
    /// SQLite keeps a number, PostgreSQL writes the first letter.
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
