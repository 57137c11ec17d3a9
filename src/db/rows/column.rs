//! The columns of bulk-written rows: their PostgreSQL types, and how their values are passed in arrays.

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ColumnTrait, ColumnType};

use crate::error::{Error, Result};

/// A column of the rows.
pub(super) struct Column {
    pub(super) name: String,
    /// The PostgreSQL type.
    r#type: &'static str,
    nullable: bool,
}

impl Column {
    pub(super) fn of<C: ColumnTrait>(column: C) -> Result<Self> {
        let definition = column.def();
        Ok(Self {
            name: column.as_str().to_owned(),
            r#type: type_name(definition.get_column_type())?,
            nullable: definition.is_null(),
        })
    }

    pub(super) fn new(name: &str, r#type: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            r#type,
            nullable: false,
        }
    }

    /// Whether values are passed as text: the arrays of the driver cannot contain NULL, and
    /// PostgreSQL parses JSON anyway.
    pub(super) fn is_text(&self) -> bool {
        self.nullable || matches!(self.r#type, "text" | "jsonb" | "integer[]")
    }

    /// The type of the array that carries the values.
    pub(super) fn array(&self) -> (&'static str, ArrayType) {
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

    /// The SQL expression for the value in the row `v`.
    pub(super) fn value(&self) -> String {
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
    reason = "the schema uses these few; another one fails in the first test that writes it"
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

/// Converts a value to the text that PostgreSQL casts it from; empty for NULL.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "as with the types of columns"
)]
pub(super) fn as_text(value: Value) -> Result<Value> {
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
