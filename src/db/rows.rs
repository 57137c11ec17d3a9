//! Writing rows of many callers at once: where SQLite and PostgreSQL differ once more.
//!
//! PostgreSQL gets all rows of all tables in one statement, a common table expression for each
//! table, whose rows come as one array per column. So the statement's text does not depend on how
//! many rows there are, is planned once, and costs one trip over the network. SQLite is inside the
//! process and has no arrays: its rows come as VALUES, in a few fixed numbers, so that these
//! statements are prepared once too.

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ColumnType, ConnectionTrait, DbBackend, EntityName,
    EntityTrait, Iterable, QueryResult, Statement,
};
use uuid::Uuid;

use super::Tx;
use crate::error::{Error, Result};

/// How many rows one statement on SQLite takes: the largest that fits, again and again.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// How many tables one change writes at most.
const TABLES: usize = 8;

/// Rows for one table.
pub struct Rows {
    verb: Verb,
    table: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

enum Verb {
    Insert,
    /// What is there already under the same first column gives way.
    Replace,
    /// The first two columns are the id and the version that is replaced.
    Update,
}

struct Column {
    name: String,
    /// Its type on PostgreSQL.
    r#type: &'static str,
    nullable: bool,
}

impl Column {
    fn of<C: ColumnTrait>(column: C) -> Result<Self> {
        let definition = column.def();
        Ok(Self {
            name: column.as_str().to_owned(),
            r#type: type_name(definition.get_column_type())?,
            nullable: definition.is_null(),
        })
    }

    fn new(name: &str, r#type: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            r#type,
            nullable: false,
        }
    }

    /// Arrays cannot hold NULL, and JSON is checked by PostgreSQL anyway: both travel as text.
    fn is_text(&self) -> bool {
        self.nullable || matches!(self.r#type, "text" | "jsonb" | "integer[]")
    }

    /// The type of the array that carries its values.
    fn array(&self) -> (&'static str, ArrayType) {
        if self.is_text() {
            return ("text[]", ArrayType::String);
        }
        match self.r#type {
            "uuid" => ("uuid[]", ArrayType::Uuid),
            "bigint" => ("bigint[]", ArrayType::BigInt),
            "integer" => ("integer[]", ArrayType::Int),
            "boolean" => ("boolean[]", ArrayType::Bool),
            "bytea" => ("bytea[]", ArrayType::Bytes),
            _ => ("timestamptz[]", ArrayType::ChronoDateTimeUtc),
        }
    }

    /// Its value in the row `v`.
    fn value(&self) -> String {
        let name = &self.name;
        if self.nullable {
            format!("NULLIF(v.{name}, '')::{}", self.r#type)
        } else if self.is_text() && self.r#type != "text" {
            format!("v.{name}::{}", self.r#type)
        } else {
            format!("v.{name}")
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the schema uses these few; another one is refused by the first test that writes it"
)]
fn type_name(column: &ColumnType) -> Result<&'static str> {
    Ok(match column {
        ColumnType::Uuid => "uuid",
        ColumnType::String(_) | ColumnType::Text => "text",
        ColumnType::BigInteger => "bigint",
        ColumnType::Integer => "integer",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
        ColumnType::JsonBinary => "jsonb",
        ColumnType::VarBinary(_) | ColumnType::Blob => "bytea",
        ColumnType::TimestampWithTimeZone => "timestamptz",
        other => return Err(Error::internal(format!("rows cannot hold {other:?}"))),
    })
}

/// A value as the text PostgreSQL casts it from; empty for NULL.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "as with the types of columns"
)]
fn as_text(value: Value) -> Result<Value> {
    let text = match value {
        Value::String(text) => return Ok(Value::String(Some(text.unwrap_or_default()))),
        Value::Json(json) => json.map(|json| json.to_string()),
        Value::Uuid(id) => id.map(|id| id.to_string()),
        Value::ChronoDateTimeUtc(time) => time.map(|time| time.to_rfc3339()),
        Value::ChronoDate(date) => date.map(|date| date.to_string()),
        Value::Int(number) => number.map(|number| number.to_string()),
        other => return Err(Error::internal(format!("rows cannot hold {other:?}"))),
    };
    Ok(text.unwrap_or_default().into())
}

impl Rows {
    /// New rows; nothing when there are none. All have the same columns set.
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

    /// The next versions of rows, by id and by the version they replace. Only what differs from
    /// that one is written, and rows of which the same differs go together.
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
            let same = |group: &&mut Self| {
                let theirs = group.columns.iter().map(|column| &column.name);
                theirs.eq(columns.iter().map(|column| &column.name))
            };
            match groups.iter_mut().find(same) {
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

    /// Rows of a table without an entity, which take the place of those with the same first column.
    /// `columns` are names with their types on PostgreSQL.
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

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        names.join(", ")
    }

    /// The columns behind the id and the version, assigned from the row `v`.
    fn assignments(&self, value: impl Fn(usize, &Column) -> String) -> String {
        let columns = self.columns.iter().enumerate().skip(2);
        let set: Vec<String> = columns
            .map(|(index, column)| format!("{} = {}", column.name, value(index, column)))
            .collect();
        set.join(", ")
    }

    /// The statement on PostgreSQL; its arrays are added to `parameters`.
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
        let shown: Vec<String> = self.columns.iter().map(Column::value).collect();
        let insert = format!(
            "INSERT INTO {table} ({names}) SELECT {} FROM {from}",
            shown.join(", ")
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

    /// The statements on SQLite, each with the number of rows it writes.
    fn on_sqlite(self) -> Vec<(usize, Statement)> {
        let (table, names) = (&self.table, self.names());
        let places = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let text = |count: usize| {
            let values = vec![places.as_str(); count].join(", ");
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

/// Writes everything, on PostgreSQL in one statement.
///
/// # Errors
/// [`Error::WriteConflict`] when a row that was to be replaced is not at that version any more.
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
        statements = vec![joined(statements)];
    }
    for (count, statement) in statements {
        let written = tx.execute_raw(statement).await?.rows_affected();
        check_count(count as u64, written)?;
    }
    Ok(None)
}

/// What one change writes on SQLite, in one statement's text: a trip to the thread that has the
/// connection costs as much as a small statement. With more rows there would be too many different
/// texts to keep them prepared.
fn joined(statements: Vec<(usize, Statement)>) -> (usize, Statement) {
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

/// Writes new rows and answers what the database says of each: the columns `returning`.
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

/// The rows a statement was given and those it wrote.
fn check_count(given: u64, written: u64) -> Result<()> {
    if given == written {
        Ok(())
    } else {
        Err(Error::WriteConflict)
    }
}

/// `count` rounded up to how many a statement on SQLite is prepared for, so that a question about
/// many has few shapes. More than the most is asked in several.
pub fn places(count: usize) -> usize {
    let sizes = CHUNKS.into_iter().rev();
    sizes
        .into_iter()
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

/// Leaves of `after` only what differs from `before`.
pub fn difference<A: ActiveModelTrait>(before: &A, mut after: A) -> A {
    for column in <A::Entity as EntityTrait>::Column::iter() {
        if before.get(column) == after.get(column) {
            after.not_set(column);
        }
    }
    after
}
