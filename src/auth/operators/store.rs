//! The queries about operators that authentication needs. This module holds no rules.

use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Operator, PasswordHash, Username};
use crate::core::role::Role;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::operator::{Column, Entity, Model};
use crate::error::{Error, Result};

pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Operator>> {
    let row = Entity::find_by_id(id).one(db).await?;
    row.map(from_row).transpose()
}

/// The operator with this username. An exact match takes precedence: two operators that were created before
/// usernames were compared by their keys may share a key.
pub async fn by_username(db: &impl ConnectionTrait, username: &Username) -> Result<Option<Model>> {
    let spelled = Column::Username.eq(&username.shown);
    let rows = Entity::find()
        .filter(spelled.or(Column::UsernameKey.eq(&username.key)))
        .all(db)
        .await?;
    let exact = |row: &Model| row.username == username.shown;
    Ok(rows.into_iter().max_by_key(exact))
}

/// Converts a row to an operator.
///
/// # Errors
/// `INTERNAL` for a row that this service cannot have written.
pub fn from_row(row: Model) -> Result<Operator> {
    let role = Role::from_text(&row.role)
        .ok_or_else(|| Error::internal(format!("unknown role {}", row.role)))?;
    Ok(Operator {
        id: row.id,
        username: row.username,
        display_name: row.display_name,
        version: row.version,
        role,
        disable_time: row.disable_time,
        create_time: row.create_time,
        update_time: row.update_time,
        password_hash: PasswordHash(row.password_hash),
    })
}
