//! Reads whole rows of an entity.
//!
//! On SQLite all rows come as one text: a JSON array of the rows, each an array of its columns. The
//! driver hands rows from its thread one by one and copies every value on its own, which costs
//! several times what SQLite needs to find them.

use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, Iterable, QueryResult, Statement,
};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The rows that `select` finds, which asks for every column in the entity's order. `read` makes
/// one from a row of PostgreSQL.
pub async fn rows<E>(
    db: &impl ConnectionTrait,
    select: Statement,
    read: fn(&QueryResult) -> Result<E::Model>,
) -> Result<Vec<E::Model>>
where
    E: EntityTrait,
    E::Model: DeserializeOwned,
{
    if select.db_backend != DbBackend::Sqlite {
        let rows = db.query_all_raw(select).await?;
        return rows.iter().map(read).collect();
    }
    let Some(row) = db.query_one_raw(as_one::<E>(select)).await? else {
        return Ok(Vec::new());
    };
    let text: String = row.try_get_by_index(0)?;
    serde_json::from_str(&text).map_err(Error::internal)
}

fn as_one<E: EntityTrait>(mut select: Statement) -> Statement {
    let columns: Vec<String> = E::Column::iter().map(|column| in_json(&column)).collect();
    select.sql = format!(
        "SELECT json_group_array(json_array({})) FROM ({})",
        columns.join(", "),
        select.sql
    );
    select
}

/// A column as an element of a JSON array.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything else is a text or a number"
)]
fn in_json(column: &impl ColumnTrait) -> String {
    let name = column.as_str();
    let definition = column.def();
    match definition.get_column_type() {
        // Of NULL, hex() makes an empty text.
        ColumnType::Uuid if definition.is_null() => {
            format!("iif({name} IS NULL, NULL, hex({name}))")
        }
        ColumnType::Uuid => format!("hex({name})"),
        ColumnType::JsonBinary => format!("json({name})"),
        _ => name.to_owned(),
    }
}
