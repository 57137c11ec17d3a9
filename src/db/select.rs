//! Reads whole rows of an entity as one text.
//!
//! The drivers return values one at a time, copy each one and check its type again, and SQLite's
//! driver passes rows from its thread one at a time. For a page of 50 leads this costs several
//! times as much as finding them in the database. So the database concatenates the rows into one
//! text, and this module splits it. It is written by hand because neither SeaORM nor sqlx can fetch
//! rows in bulk.
//!
//! It knows nothing of the entities: the caller supplies the query, and `row_by_position!` derives from an entity's
//! definition how its rows are decoded.

mod fields;

use sea_orm::sea_query::ColumnType;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, Iterable, Statement};

pub(in crate::db) use fields::row_by_position;
pub use fields::{Field, Fields, RowByPosition};

use crate::error::{Error, Result};

/// `UNIT` separates the columns of a row, `ROW` separates rows. No stored text contains control
/// characters other than tab and newline, and JSON escapes them.
const UNIT: char = '\u{1}';
const ROW: char = '\u{2}';

/// A page ends early when its large columns reach this many bytes, which is the limit of a response
/// (`grpc::page`). The row that reaches the limit is the last one.
const LARGEST_PAGE: u64 = 3 << 20;
/// Rows up to this size count as small, whatever the page size is. A page of small rows is read by
/// one plain query, of at most 1,001 × 8 KiB.
const SMALL_ROW: u64 = 8 << 10;

/// The rows of a page, up to its size limit.
#[derive(Debug)]
pub struct Part<T> {
    /// Contains at least one row unless the page is empty.
    pub rows: Vec<T>,
    /// Whether the size limit ended the page before its last row.
    pub is_truncated: bool,
    /// The number of bytes that were read for it.
    bytes: u64,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            is_truncated: false,
            bytes: 0,
        }
    }
}

impl<T> Part<T> {
    /// A page of small rows, which the size limit did not end.
    pub fn whole(rows: Vec<T>) -> Self {
        Self {
            rows,
            is_truncated: false,
            bytes: 0,
        }
    }

    /// Appends the rows of a later statement. The caller must not append to a truncated page.
    pub fn append(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.bytes += more.bytes;
        self.is_truncated = more.is_truncated;
    }

    /// Marks the page as truncated if it has reached the size limit. Returns whether it is
    /// truncated.
    pub fn truncate_if_full(&mut self) -> bool {
        self.is_truncated |= self.bytes >= LARGEST_PAGE;
        self.is_truncated
    }

    /// Converts each row.
    pub fn map<U>(self, change: impl FnMut(T) -> Result<U>) -> Result<Part<U>> {
        Ok(Part {
            rows: self.rows.into_iter().map(change).collect::<Result<_>>()?,
            is_truncated: self.is_truncated,
            bytes: self.bytes,
        })
    }
}

/// Makes SQLite use this index wherever `statement` selects from the table; a table that it joins is not
/// affected. SQLite has few statistics about its tables, and would choose another index or a full scan.
/// PostgreSQL chooses by itself.
pub fn by_index(mut statement: Statement, table: &str, index: &str) -> Statement {
    if statement.db_backend == DbBackend::Sqlite {
        let from = format!("FROM \"{table}\"");
        let indexed = format!("{from} INDEXED BY \"{index}\"");
        statement.sql = statement.sql.replace(&from, &indexed);
    }
    statement
}

/// The rows that `select` returns. It must select every column.
pub async fn rows<E>(db: &impl ConnectionTrait, mut select: Statement) -> Result<Vec<E::Model>>
where
    E: EntityTrait<Model: RowByPosition>,
{
    let backend = select.db_backend;
    let aggregate_sql = aggregate_sql(backend, &row_sql::<E>(backend), None);
    select.sql = format!("SELECT {aggregate_sql} FROM ({}) AS t", select.sql);
    let Some(row) = db.query_one_raw(select).await? else {
        return Ok(Vec::new());
    };
    split_rows::<E>(row.try_get_by_index(0)?)
}

/// The rows of a page: those that `select` returns, up to `LARGEST_PAGE` bytes in the `large`
/// columns. `select` must select every column of at most `limit` rows. The database does not
/// concatenate rows that are not part of the page.
pub async fn page<E>(
    db: &impl ConnectionTrait,
    select: Statement,
    limit: u64,
    large: &[E::Column],
) -> Result<Part<E::Model>>
where
    E: EntityTrait<Model: RowByPosition>,
{
    let largest = (LARGEST_PAGE / limit.max(1)).max(SMALL_ROW);
    let statement = small_rows_query::<E>(select.clone(), large, largest);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Err(Error::internal("an aggregate has no row"));
    };
    let (text, count): (Option<String>, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let bytes = text_bytes(text.as_ref());
    let rows = split_rows::<E>(text)?;
    if i64::try_from(rows.len()) == Ok(count) {
        return Ok(Part {
            rows,
            is_truncated: false,
            bytes,
        });
    }
    let statement = large_page_query::<E>(select, large);
    let Some(row) = db.query_one_raw(statement).await? else {
        return Err(Error::internal("an aggregate has no row"));
    };
    let text: Option<String> = row.try_get_by_index(0)?;
    let is_truncated: Option<bool> = row.try_get_by_index(1)?;
    Ok(Part {
        bytes: text_bytes(text.as_ref()),
        rows: split_rows::<E>(text)?,
        is_truncated: is_truncated.unwrap_or(false),
    })
}

fn text_bytes(text: Option<&String>) -> u64 {
    text.map_or(0, |text| text.len() as u64)
}

/// Concatenates the rows that are small, and counts all of them.
fn small_rows_query<E: EntityTrait>(
    mut select: Statement,
    large: &[E::Column],
    largest: u64,
) -> Statement {
    let backend = select.db_backend;
    let size_sql = size_sql(backend, large, Some(largest));
    let row = format!(
        "CASE WHEN {size_sql} <= {largest} THEN {} END",
        row_sql::<E>(backend)
    );
    let aggregate_sql = aggregate_sql(backend, &row, None);
    select.sql = format!(
        "SELECT {aggregate_sql}, count(*) FROM ({}) AS t",
        select.sql
    );
    select
}

/// Sums up the sizes of the rows until the limit is reached, and concatenates these rows. Both
/// databases know the size of most values without reading them. PostgreSQL does not know it for
/// compressed JSON, so there the query steps from row to row and stops at the limit.
fn large_page_query<E: EntityTrait>(mut select: Statement, large: &[E::Column]) -> Statement {
    let backend = select.db_backend;
    let (table, size_sql) = (E::default(), size_sql(backend, large, None));
    let table = table.table_name();
    let aggregate_sql = aggregate_sql(backend, &row_sql::<E>(backend), Some("step.n"));
    let page = &select.sql;
    select.sql = if backend == DbBackend::Postgres {
        format!(
            "WITH RECURSIVE page AS MATERIALIZED (SELECT array_agg(w.id) AS ids FROM ({page}) AS w), \
             step(n, bytes) AS (SELECT 0, CAST(0 AS bigint) UNION ALL \
               SELECT step.n + 1, step.bytes + {size_sql} FROM step CROSS JOIN page \
               JOIN {table} AS t ON t.id = page.ids[step.n + 1] WHERE step.bytes < {LARGEST_PAGE}) \
             SELECT {aggregate_sql}, max(step.n) < (SELECT cardinality(ids) FROM page) \
             FROM step CROSS JOIN page JOIN {table} AS t ON t.id = page.ids[step.n]"
        )
    } else {
        format!(
            "WITH page AS MATERIALIZED \
               (SELECT row_number() OVER () AS n, w.id AS id FROM ({page}) AS w), \
             step AS (SELECT page.n AS n, page.id AS id, \
               sum({size_sql}) OVER (ORDER BY page.n) - ({size_sql}) AS done \
               FROM page CROSS JOIN {table} AS t ON t.id = page.id) \
             SELECT {aggregate_sql}, count(*) < (SELECT count(*) FROM page) \
             FROM step CROSS JOIN {table} AS t ON t.id = step.id WHERE step.done < {LARGEST_PAGE}"
        )
    };
    select
}

/// The SQL expression for the number of bytes in the `large` columns of a row of `t`. Above
/// `enough`, the result may be any larger number. On SQLite it is only the first column's size if
/// that is above [`SMALL_ROW`].
fn size_sql<C: ColumnTrait>(backend: DbBackend, large: &[C], enough: Option<u64>) -> String {
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
        // PostgreSQL knows the stored size of JSON. If the value is compressed, it has to be read,
        // unless even the compressed size is so large that the row counts as large.
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
        // The columns after a large value are at the end of a chain of overflow pages, which SQLite
        // would have to follow.
        Some(first) if backend == DbBackend::Sqlite => {
            format!("CASE WHEN {first} > {SMALL_ROW} THEN {first} ELSE {all} END")
        }
        _ => all,
    }
}

/// The SQL expression for a row of `t` as one text.
fn row_sql<E: EntityTrait>(backend: DbBackend) -> String {
    let columns: Vec<String> = E::Column::iter()
        .map(|column| column_sql(backend, &column))
        .collect();
    let unit = if backend == DbBackend::Postgres {
        "E'\\x01'"
    } else {
        "char(1)"
    };
    format!("concat_ws({unit}, {})", columns.join(", "))
}

/// The SQL expression for all rows as one text.
fn aggregate_sql(backend: DbBackend, row: &str, order: Option<&str>) -> String {
    let order = order.map_or(String::new(), |by| format!(" ORDER BY {by}"));
    if backend == DbBackend::Postgres {
        format!("string_agg({row}, E'\\x02'{order})")
    } else {
        format!("group_concat({row}, char(2){order})")
    }
}

/// Splits the text into rows and decodes them.
fn split_rows<E>(text: Option<String>) -> Result<Vec<E::Model>>
where
    E: EntityTrait<Model: RowByPosition>,
{
    let text = text.unwrap_or_default();
    let rows = text.split_terminator(ROW).map(|row| {
        let mut fields = Fields(row.split(UNIT));
        let row = E::Model::from_fields(&mut fields).filter(|_| fields.0.next().is_none());
        let table = E::default();
        row.ok_or_else(|| {
            Error::internal(format!("a row of {} cannot be read", table.table_name()))
        })
    });
    rows.collect()
}

/// The SQL expression for a column in the form that [`Field`] reads. NULL becomes an empty text,
/// because `concat_ws` leaves NULL out.
fn column_sql(backend: DbBackend, column: &impl ColumnTrait) -> String {
    let definition = column.def();
    let name = format!("t.{}", column.as_str());
    if backend == DbBackend::Sqlite && *definition.get_column_type() == ColumnType::Uuid {
        // SQLite stores a UUID as 16 bytes.
        format!("hex({name})")
    } else if definition.is_null() {
        format!("coalesce(CAST({name} AS text), '')")
    } else {
        name
    }
}
