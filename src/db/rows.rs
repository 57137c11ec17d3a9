//! Bulk writes: the rows of many changes in few statements.
//!
//! PostgreSQL receives all rows of all tables in one statement. Each table is a common table
//! expression, whose rows are passed as one array per column. So the statement's text does not
//! depend on the number of rows, it is planned once, and it costs one network round trip. SQLite
//! runs in the process and has no arrays: its rows are passed as VALUES, in a few fixed numbers of
//! rows, so that its statements are prepared once too.
//!
//! It knows nothing of the entities that are written. It is written by hand because SeaORM's
//! `insert_many` makes a new statement text for every number of rows and has no bulk update.

mod column;

use sea_orm::sea_query::Value;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ConnectionTrait, DbBackend, EntityName, EntityTrait, Iterable,
    QueryResult, Statement,
};
use uuid::Uuid;

use self::column::{Column, as_text};
use super::Tx;
use crate::error::{Error, Result};

/// The numbers of rows that one statement on SQLite may have. The largest number that fits is used
/// repeatedly.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The maximum number of tables that one change writes to.
const TABLES: usize = 8;

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

    /// The PostgreSQL statement. Its arrays are appended to `parameters`.
    fn on_postgres(self, parameters: &mut Vec<Value>) -> Result<String> {
        let mut arrays = Vec::new();
        let mut columns: Vec<Vec<Value>> = self.columns.iter().map(|_| Vec::new()).collect();
        for row in &self.rows {
            for ((value, column), cells) in row.iter().zip(&self.columns).zip(&mut columns) {
                cells.push(if column.is_text() {
                    as_text(value.clone())?
                } else {
                    value.clone()
                });
            }
        }
        for (column, cells) in self.columns.iter().zip(columns) {
            let (name, array) = column.array();
            parameters.push(Value::Array(array, Some(Box::new(cells))));
            arrays.push(format!("${}::{name}", parameters.len()));
        }
        let (table, names) = (&self.table, self.names());
        let from = format!("unnest({}) AS v({names})", arrays.join(", "));
        let selected: Vec<String> = self.columns.iter().map(Column::value).collect();
        let insert = format!(
            "INSERT INTO {table} ({names}) SELECT {} FROM {from}",
            selected.join(", ")
        );
        Ok(match self.verb {
            Verb::Insert => insert,
            Verb::Replace => {
                let key = self
                    .columns
                    .first()
                    .map_or("", |column| column.name.as_str());
                let rest = self.columns.iter().skip(1).map(|column| &column.name);
                let set: Vec<String> = rest
                    .map(|name| format!("{name} = excluded.{name}"))
                    .collect();
                format!(
                    "{insert} ON CONFLICT ({key}) DO UPDATE SET {}",
                    set.join(", ")
                )
            }
            Verb::Update => format!(
                "UPDATE {table} AS t SET {} FROM {from} WHERE t.id = v.id AND t.version = v.was",
                self.assignments(|_, column| column.value())
            ),
        })
    }

    /// The SQLite statements, each with the number of rows that it writes.
    fn on_sqlite(self) -> Vec<(usize, Statement)> {
        let (table, names) = (&self.table, self.names());
        let placeholders = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let text = |count: usize| {
            let values = vec![placeholders.as_str(); count].join(", ");
            match self.verb {
                Verb::Insert => format!("INSERT INTO {table} ({names}) VALUES {values}"),
                Verb::Replace => {
                    format!("INSERT OR REPLACE INTO {table} ({names}) VALUES {values}")
                }
                Verb::Update => format!(
                    "UPDATE {table} AS t SET {} FROM (VALUES {values}) AS v \
                     WHERE t.id = v.column1 AND t.version = v.column2",
                    self.assignments(|index, _| format!("v.column{}", index + 1))
                ),
            }
        };
        let mut statements = Vec::new();
        let mut rest = self.rows.as_slice();
        for size in CHUNKS {
            while rest.len() >= size {
                let (chunk, others) = rest.split_at(size);
                rest = others;
                let cells: Vec<Value> = chunk.iter().flatten().cloned().collect();
                let statement =
                    Statement::from_sql_and_values(DbBackend::Sqlite, text(size), cells);
                statements.push((size, statement));
            }
        }
        statements
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
        return write_on_postgres(tx, all).await.map(Some);
    }
    let mut statements: Vec<(usize, Statement)> =
        all.into_iter().flat_map(Rows::on_sqlite).collect();
    if statements.iter().all(|(count, _)| *count == 1) && statements.len() <= TABLES {
        statements = vec![join_statements(statements)];
    }
    for (count, statement) in statements {
        let written = tx.execute_raw(statement).await?.rows_affected();
        check_count(count as u64, written)?;
    }
    Ok(None)
}

/// Joins the statements of one change on SQLite into one text: a round trip to the connection's
/// thread costs as much as a small statement. With more rows there would be too many different
/// texts to keep prepared.
fn join_statements(statements: Vec<(usize, Statement)>) -> (usize, Statement) {
    let count = statements.len();
    let (mut texts, mut values) = (Vec::new(), Vec::new());
    for (_, statement) in statements {
        texts.push(statement.sql);
        values.extend(statement.values.into_iter().flat_map(|values| values.0));
    }
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, texts.join("; "), values);
    (count, statement)
}

async fn write_on_postgres(tx: &Tx, all: Vec<Rows>) -> Result<String> {
    let (mut parameters, mut parts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let expected: Vec<usize> = all.iter().map(|rows| rows.rows.len()).collect();
    for (index, rows) in all.into_iter().enumerate() {
        let statement = rows.on_postgres(&mut parameters)?;
        parts.push(format!("w{index} AS ({statement} RETURNING 1)"));
        counts.push(format!("(SELECT count(*) FROM w{index})"));
    }
    let sql = format!(
        "WITH {} SELECT pg_current_xact_id()::text, {}",
        parts.join(", "),
        counts.join(", ")
    );
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, parameters);
    let row = tx.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("a count of rows is missing"))?;
    for (index, expected) in expected.into_iter().enumerate() {
        let written: i64 = row.try_get_by_index(index + 1)?;
        check_count(expected as u64, u64::try_from(written).unwrap_or(0))?;
    }
    Ok(row.try_get_by_index(0)?)
}

/// Writes new rows and returns the columns `returning` of each.
pub async fn write_returning(tx: &Tx, rows: Rows, returning: &str) -> Result<Vec<QueryResult>> {
    let backend = tx.get_database_backend();
    let statements = if backend == DbBackend::Postgres {
        let mut parameters = Vec::new();
        let sql = rows.on_postgres(&mut parameters)?;
        vec![Statement::from_sql_and_values(backend, sql, parameters)]
    } else {
        rows.on_sqlite()
            .into_iter()
            .map(|(_, statement)| statement)
            .collect()
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
