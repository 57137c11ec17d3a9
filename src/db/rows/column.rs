//! The columns of bulk-written rows.

use sea_orm::{ColumnTrait, ColumnType};

use crate::error::{Error, Result};

/// A column of the rows.
pub(super) struct Column {
    pub(super) name: String,
    /// The PostgreSQL type.
    pub(super) r#type: &'static str,
    pub(super) nullable: bool,
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
