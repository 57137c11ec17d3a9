//! SQL for lists of values, with few different statement texts.
//!
//! A statement is prepared once for its text. So a list is padded to one of a few lengths
//! ([`rows::padded_len`]) by repeating its last value, which does not change the result.

use sea_orm::sea_query::{ArrayType, Expr, ExprTrait, Value};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::rows;
use crate::error::Result;

/// The condition that `column` is one of `ids`. It uses no array on PostgreSQL either: PostgreSQL
/// would plan the statement again for every length of the array.
pub fn any_of(column: Expr, ids: Vec<Uuid>) -> Expr {
    let len = rows::padded_len(ids.len());
    let last = ids.last().copied().into_iter().cycle();
    let ids: Vec<Uuid> = ids.iter().copied().chain(last).take(len).collect();
    column.is_in(ids)
}

/// Reads records by their ids, in any order.
pub async fn get_many<E: EntityTrait, T>(
    db: &impl ConnectionTrait,
    id: E::Column,
    ids: Vec<Uuid>,
    from_row: impl Fn(E::Model) -> Result<T>,
) -> Result<Vec<T>> {
    let rows = E::find().filter(any_of(Expr::col(id), ids)).all(db).await?;
    rows.into_iter().map(from_row).collect()
}

/// A table `v` with one column `v` that contains these texts, and its parameters.
pub fn texts(backend: DbBackend, texts: Vec<String>) -> (String, Vec<Value>) {
    let values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    if backend == DbBackend::Postgres {
        let array = Value::Array(ArrayType::String, Some(Box::new(values)));
        return ("unnest($1::text[]) AS v(v)".to_owned(), vec![array]);
    }
    let len = rows::padded_len(values.len());
    let last = values.last().cloned().into_iter().cycle();
    let values: Vec<Value> = values.iter().cloned().chain(last).take(len).collect();
    let placeholders = vec!["(?)"; len].join(", ");
    // UNION removes the duplicates from padding.
    (
        format!("(SELECT column1 AS v FROM (VALUES {placeholders}) UNION SELECT NULL) AS v"),
        values,
    )
}
