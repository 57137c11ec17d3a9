//! Every query about operators. This module holds no rules.

use crate::core::text_enum::TextEnum as _;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};
use uuid::Uuid;

use super::{Operator, Username};
use crate::core::call::TokenHash;
use crate::core::role::Role;
use crate::core::text;
use crate::db::Tx;
use crate::db::entities::operator::{ActiveModel, Column, Entity, Model};
use crate::db::entities::session;
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

pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Operator>> {
    let rows = Entity::find()
        .order_by_asc(Column::Username)
        .all(db)
        .await?;
    rows.into_iter().map(from_row).collect()
}

pub async fn insert(tx: &Tx, operator: &Operator, hash: String, now: DateTime<Utc>) -> Result<()> {
    let row = ActiveModel {
        id: Set(operator.id),
        username: Set(operator.username.clone()),
        username_key: Set(Some(text::fold(&operator.username))),
        display_name: Set(operator.display_name.clone()),
        role: Set(operator.role.as_str().to_owned()),
        password_hash: Set(hash),
        disable_time: Set(operator.disable_time),
        create_time: Set(now),
        update_time: Set(now),
    };
    Entity::insert(row).exec_without_returning(&**tx).await?;
    Ok(())
}

pub async fn set_password_hash(tx: &Tx, id: Uuid, hash: String) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::PasswordHash, Expr::value(hash))
        .col_expr(Column::UpdateTime, Expr::value(tx.clock.now()))
        .filter(Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    Ok(())
}

pub async fn disable(tx: &Tx, id: Uuid) -> Result<()> {
    let now = tx.clock.now();
    Entity::update_many()
        .col_expr(Column::DisableTime, Expr::value(now))
        .col_expr(Column::UpdateTime, Expr::value(now))
        .filter(Column::Id.eq(id))
        .filter(Column::DisableTime.is_null())
        .exec(&**tx)
        .await?;
    Ok(())
}

/// Deletes the operator's sessions, except `kept`.
pub async fn end_sessions(tx: &Tx, id: Uuid, kept: Option<TokenHash>) -> Result<()> {
    let mut query = session::Entity::delete_many().filter(session::Column::OperatorId.eq(id));
    if let Some(kept) = kept {
        query = query.filter(session::Column::TokenHash.ne(kept.to_vec()));
    }
    query.exec(&**tx).await?;
    Ok(())
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
        role,
        disable_time: row.disable_time,
    })
}
