//! The writer for PostgreSQL.
//!
//! The rows of all tables are one statement. Each table is a common table expression, whose rows are passed as one
//! array per column. So the statement's text does not depend on the number of rows, it is planned once, and it costs
//! one network round trip.

use std::fmt::Write as _;

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::column::Column;
use super::{Rows, Verb, check_count};
use crate::db::Tx;
use crate::error::{Error, Result};

/// How the values of a column are passed.
enum Parameter {
    /// As an array of the column's type. The driver cannot pass NULL in it.
    Array(ArrayType),
    /// As an array of texts, each of which is cast in the statement: JSON is a text for PostgreSQL in any case, and
    /// the elements of an array of arrays could not be distinguished.
    TextArray,
    /// As one text that is cast to the array, with NULL where there is no value.
    Literal,
}

impl Parameter {
    fn of(column: &Column) -> Self {
        if column.nullable {
            return Self::Literal;
        }
        Self::Array(match column.r#type {
            "text" => ArrayType::String,
            "uuid" => ArrayType::Uuid,
            "bigint" => ArrayType::BigInt,
            "integer" => ArrayType::Int,
            "boolean" => ArrayType::Bool,
            "bytea" => ArrayType::Bytes,
            "timestamptz" => ArrayType::ChronoDateTimeUtc,
            _ => return Self::TextArray,
        })
    }

    /// The parameter's value, and the SQL expression for the array in it.
    fn value(self, column: &Column, cells: Vec<Value>, number: usize) -> Result<(Value, String)> {
        let r#type = column.r#type;
        let array = |array, cells| Value::Array(array, Some(Box::new(cells)));
        Ok(match self {
            Self::Array(element) => (array(element, cells), format!("${number}::{type}[]")),
            Self::TextArray => {
                let texts = cells.into_iter().map(|cell| {
                    let text = as_text(cell)?;
                    Ok(text.unwrap_or_default().into())
                });
                let texts = texts.collect::<Result<_>>()?;
                (
                    array(ArrayType::String, texts),
                    format!("${number}::text[]"),
                )
            }
            Self::Literal => {
                let literal = literal(cells)?;
                (literal.into(), format!("${number}::text::{type}[]"))
            }
        })
    }
}

/// The SQL expression for the column's value in the row `v`.
fn value_sql(column: &Column) -> String {
    match Parameter::of(column) {
        Parameter::TextArray => format!("v.{}::{}", column.name, column.r#type),
        Parameter::Array(_) | Parameter::Literal => format!("v.{}", column.name),
    }
}

/// Writes all rows in one statement. Returns the transaction's id.
pub(super) async fn write(tx: &Tx, all: Vec<Rows>) -> Result<String> {
    let (mut parameters, mut parts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let expected: Vec<usize> = all.iter().map(|rows| rows.rows.len()).collect();
    for (index, rows) in all.into_iter().enumerate() {
        let statement = sql(rows, &mut parameters)?;
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

/// The statement that writes the rows of one table.
pub(super) fn statement(rows: Rows) -> Result<Statement> {
    let mut parameters = Vec::new();
    let sql = sql(rows, &mut parameters)?;
    Ok(Statement::from_sql_and_values(
        DbBackend::Postgres,
        sql,
        parameters,
    ))
}

/// The SQL that writes the rows of one table. Its values are appended to `parameters`.
fn sql(rows: Rows, parameters: &mut Vec<Value>) -> Result<String> {
    let (names, assignments) = (
        rows.names(),
        rows.assignments(|_, column| value_sql(column)),
    );
    let mut columns: Vec<Vec<Value>> = rows.columns.iter().map(|_| Vec::new()).collect();
    for row in rows.rows {
        for (value, cells) in row.into_iter().zip(&mut columns) {
            cells.push(value);
        }
    }
    let mut arrays = Vec::new();
    for (column, cells) in rows.columns.iter().zip(columns) {
        let parameter = Parameter::of(column);
        let (value, array) = parameter.value(column, cells, parameters.len() + 1)?;
        parameters.push(value);
        arrays.push(array);
    }
    let table = &rows.table;
    let from = format!("unnest({}) AS v({names})", arrays.join(", "));
    let selected: Vec<String> = rows.columns.iter().map(value_sql).collect();
    let insert = format!(
        "INSERT INTO {table} ({names}) SELECT {} FROM {from}",
        selected.join(", ")
    );
    Ok(match rows.verb {
        Verb::Insert => insert,
        Verb::Replace => {
            let mut names = rows.columns.iter().map(|column| column.name.as_str());
            let key = names.next().unwrap_or_default();
            let set: Vec<String> = names
                .map(|name| format!("{name} = excluded.{name}"))
                .collect();
            format!(
                "{insert} ON CONFLICT ({key}) DO UPDATE SET {}",
                set.join(", ")
            )
        }
        Verb::Update => format!(
            "UPDATE {table} AS t SET {assignments} FROM {from} \
             WHERE t.id = v.id AND t.version = v.was"
        ),
    })
}

/// The text form of an array, in which every value is quoted.
///
/// Source: PostgreSQL's documentation, "Array Input and Output Syntax".
fn literal(cells: Vec<Value>) -> Result<String> {
    let mut literal = String::from("{");
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        let Some(text) = as_text(cell)? else {
            literal.push_str("NULL");
            continue;
        };
        literal.push('"');
        for char in text.chars() {
            if matches!(char, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(char);
        }
        literal.push('"');
    }
    literal.push('}');
    Ok(literal)
}

/// The text that PostgreSQL casts a value from; `None` for NULL.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the schema uses these few; another one fails in the first test that writes it"
)]
fn as_text(value: Value) -> Result<Option<String>> {
    Ok(match value {
        Value::String(text) => text,
        Value::Json(json) => json.map(|json| json.to_string()),
        Value::Uuid(id) => id.map(|id| id.to_string()),
        Value::ChronoDateTimeUtc(time) => time.map(|time| time.to_rfc3339()),
        Value::ChronoDate(date) => date.map(|date| date.to_string()),
        Value::Bool(bool) => bool.map(|bool| bool.to_string()),
        Value::Int(number) => number.map(|number| number.to_string()),
        Value::BigInt(number) => number.map(|number| number.to_string()),
        Value::Bytes(bytes) => bytes.map(|bytes| {
            bytes.iter().fold(String::from("\\x"), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        }),
        other => return Err(Error::internal(format!("rows cannot hold {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_tells_null_from_texts() -> Result<()> {
        let cells = ["", "NULL", "a\"b\\c", "{x,y}", " \n"];
        let mut cells: Vec<Value> = cells.into_iter().map(Value::from).collect();
        cells.push(Value::String(None));
        assert_eq!(
            literal(cells)?,
            "{\"\",\"NULL\",\"a\\\"b\\\\c\",\"{x,y}\",\" \n\",NULL}"
        );
        assert_eq!(
            literal(vec![vec![0_u8, 255].into(), Value::Int(None)])?,
            "{\"\\\\x00ff\",NULL}"
        );
        Ok(())
    }
}
