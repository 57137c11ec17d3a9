//! Bulk writes: the rows of many changes in few statements. Each database has its own writer.
//!
//! It knows nothing of the entities that are written. It is written by hand because SeaORM's
//! `insert_many` makes a new statement text for every number of rows and has no bulk update.

mod column;
mod postgres;
mod sqlite;

use sea_orm::sea_query::Value;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ConnectionTrait, DbBackend, EntityName, EntityTrait, Iterable,
    QueryResult,
};
use uuid::Uuid;

use self::column::Column;
use super::Tx;
use crate::error::{Error, Result};

/// The numbers of rows that one statement on SQLite may have. The largest number that fits is used
/// repeatedly.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// Rows to write to one table.
pub struct Rows {
    verb: Verb,
    table: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

enum Verb {
    Insert,
    /// An existing row with the same first column is replaced.
    Replace,
    /// The first two columns are the id and the expected version.
    Update,
}

impl Rows {
    /// New rows; `None` if `rows` is empty. The same columns must be set in all of them.
    pub fn insert<A: ActiveModelTrait>(rows: Vec<A>) -> Result<Option<Self>> {
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let set = columns_set(first);
        let columns = set
            .iter()
            .map(|column| Column::of(*column))
            .collect::<Result<_>>()?;
        Ok(Some(Self {
            verb: Verb::Insert,
            table: A::Entity::default().table_name().to_owned(),
            columns,
            rows: rows.into_iter().map(|row| values(row, &set)).collect(),
        }))
    }

    /// Updates of rows, by id and by expected version. Only the columns that are set are written.
    /// Rows with the same columns set are grouped.
    pub fn update<A: ActiveModelTrait>(changes: Vec<(Uuid, i64, A)>) -> Result<Vec<Self>> {
        let mut groups: Vec<Self> = Vec::new();
        for (id, version, row) in changes {
            let set = columns_set(&row);
            let mut columns = vec![Column::new("id", "uuid"), Column::new("was", "bigint")];
            for column in &set {
                columns.push(Column::of(*column)?);
            }
            let mut cells = vec![id.into(), version.into()];
            cells.extend(values(row, &set));
            let has_same_columns = |group: &&mut Self| {
                let names = group.columns.iter().map(|column| &column.name);
                names.eq(columns.iter().map(|column| &column.name))
            };
            match groups.iter_mut().find(has_same_columns) {
                Some(group) => group.rows.push(cells),
                None => groups.push(Self {
                    verb: Verb::Update,
                    table: A::Entity::default().table_name().to_owned(),
                    columns,
                    rows: vec![cells],
                }),
            }
        }
        Ok(groups)
    }

    /// Rows of a table without an entity, which replace those with the same first column. `columns`
    /// are names with their PostgreSQL types.
    pub fn replace(
        table: &str,
        columns: &[(&str, &'static str)],
        rows: Vec<Vec<Value>>,
    ) -> Option<Self> {
        (!rows.is_empty()).then(|| Self {
            verb: Verb::Replace,
            table: table.to_owned(),
            columns: columns
                .iter()
                .map(|(name, r#type)| Column::new(name, r#type))
                .collect(),
            rows,
        })
    }

    /// The table that the rows are written to.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Adds rows of the same table with the same columns.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        names.join(", ")
    }

    /// The assignments of the columns after the id and the version, from the row `v`.
    fn assignments(&self, value: impl Fn(usize, &Column) -> String) -> String {
        let columns = self.columns.iter().enumerate().skip(2);
        let set: Vec<String> = columns
            .map(|(index, column)| format!("{} = {}", column.name, value(index, column)))
            .collect();
        set.join(", ")
    }
}

/// Writes all rows, on PostgreSQL in one statement. There it returns the transaction's id.
///
/// # Errors
/// `WRITE_CONFLICT` when a row to update does not have the expected version any more.
pub async fn write(tx: &Tx, all: Vec<Rows>) -> Result<Option<String>> {
    if all.is_empty() {
        return Ok(None);
    }
    if tx.get_database_backend() == DbBackend::Postgres {
        return postgres::write(tx, all).await.map(Some);
    }
    sqlite::write(tx, all).await?;
    Ok(None)
}

/// Writes new rows and returns the columns `returning` of each.
pub async fn write_returning(tx: &Tx, rows: Rows, returning: &str) -> Result<Vec<QueryResult>> {
    let statements = if tx.get_database_backend() == DbBackend::Postgres {
        vec![postgres::statement(rows)?]
    } else {
        let statements = sqlite::statements(rows).into_iter();
        statements.map(|(_, statement)| statement).collect()
    };
    let mut all = Vec::new();
    for mut statement in statements {
        statement.sql = format!("{} RETURNING {returning}", statement.sql);
        all.extend(tx.query_all_raw(statement).await?);
    }
    Ok(all)
}

/// Compares the number of rows to write with the number that was written.
fn check_count(given: u64, written: u64) -> Result<()> {
    if given == written {
        Ok(())
    } else {
        Err(Error::write_conflict())
    }
}

/// `count` rounded up to the next of `CHUNKS`, so that queries with a list have few different
/// texts. A count above the largest one is returned unchanged.
pub fn padded_len(count: usize) -> usize {
    CHUNKS
        .into_iter()
        .rev()
        .find(|size| *size >= count)
        .unwrap_or(count)
}

fn columns_set<A: ActiveModelTrait>(row: &A) -> Vec<<A::Entity as EntityTrait>::Column> {
    let columns = <A::Entity as EntityTrait>::Column::iter();
    columns
        .filter(|column| matches!(row.get(*column), ActiveValue::Set(_)))
        .collect()
}

fn values<A: ActiveModelTrait>(
    row: A,
    columns: &[<A::Entity as EntityTrait>::Column],
) -> Vec<Value> {
    columns
        .iter()
        .filter_map(|column| row.get(*column).into_value())
        .collect()
}

/// Unsets the columns of `after` that equal those of `before`.
pub fn difference<A: ActiveModelTrait>(before: &A, mut after: A) -> A {
    for column in <A::Entity as EntityTrait>::Column::iter() {
        if before.get(column) == after.get(column) {
            after.not_set(column);
        }
    }
    after
}

/// The rows of new records, and of the next versions of others: pairs of the stored and the next version.
pub fn of_versions<R, A: ActiveModelTrait>(
    created: &[R],
    changed: &[(R, R)],
    version: fn(&R) -> (Uuid, i64),
    to_row: fn(&R) -> Result<A>,
) -> Result<Vec<Rows>> {
    let changed = changed.iter().map(|(before, after)| {
        let (id, version) = version(before);
        Ok((id, version, difference(&to_row(before)?, to_row(after)?)))
    });
    let mut all = Rows::update(changed.collect::<Result<_>>()?)?;
    all.extend(Rows::insert(
        created.iter().map(to_row).collect::<Result<_>>()?,
    )?);
    Ok(all)
}
