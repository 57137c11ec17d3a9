//! Every query about sessions, except the one that finds the owner of a token. This module holds no rules.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{DeleteStatement, Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::{Ended, MAX_CLOCK_SKEW, Position, SESSION_LIFETIME, Session};
use crate::core::call::TokenHash;
use crate::db::Tx;
use crate::db::entities::session::{ActiveModel, Column, Entity, Model};
use crate::db::select::Part;
use crate::error::{Error, Result};

/// A session to insert.
#[derive(Clone, Copy)]
pub struct SessionRow {
    pub hash: TokenHash,
    pub operator_id: Uuid,
    pub create_time: DateTime<Utc>,
    pub expire_time: DateTime<Utc>,
    pub peer_address: Option<IpAddr>,
}

/// Inserts a session, unless it exists.
pub async fn insert_session(tx: &Tx, session: SessionRow) -> Result<()> {
    let row = ActiveModel {
        token_hash: Set(session.hash.to_vec()),
        id: Set(Some(tx.clock.new_id())),
        operator_id: Set(session.operator_id),
        create_time: Set(session.create_time),
        expire_time: Set(session.expire_time),
        peer_address: Set(session
            .peer_address
            .map(|address| address.to_canonical().to_string())),
        last_use_time: Set(Some(session.create_time)),
    };
    let mut first_wins = OnConflict::column(Column::TokenHash);
    first_wins.do_nothing();
    Entity::insert(row)
        .on_conflict(first_wins)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

/// Extends a session to its full lifetime from now. A session that would last longer, because a clock was wrong
/// when it was extended, is shortened to that. Small clock differences are tolerated.
pub async fn extend_session(tx: &Tx, hash: &TokenHash) -> Result<()> {
    let until = tx.time().await? + SESSION_LIFETIME;
    let differs = Condition::any()
        .add(Column::ExpireTime.lt(until))
        .add(Column::ExpireTime.gt(until + MAX_CLOCK_SKEW));
    Entity::update_many()
        .col_expr(Column::ExpireTime, Expr::value(until))
        .filter(Column::TokenHash.eq(hash.to_vec()))
        .filter(differs)
        .exec(&**tx)
        .await?;
    Ok(())
}

pub async fn delete_session(tx: &Tx, hash: &TokenHash) -> Result<()> {
    Entity::delete_by_id(hash.to_vec()).exec(&**tx).await?;
    Ok(())
}

/// The statement that deletes sessions of an operator.
pub fn end(operator: Uuid, ended: Ended) -> DeleteStatement {
    let sessions = Entity::delete_many().filter(Column::OperatorId.eq(operator));
    let sessions = match ended {
        Ended::All => sessions,
        Ended::AllExcept(kept) => sessions.filter(Column::TokenHash.ne(kept.to_vec())),
        Ended::One(id) => sessions.filter(Column::Id.eq(id)),
    };
    sessions.into_query()
}

/// Whether an operator has a session with this id that has not expired.
pub async fn exists(
    db: &impl ConnectionTrait,
    operator: Uuid,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<bool> {
    let found = Entity::find()
        .filter(Column::Id.eq(id))
        .filter(Column::OperatorId.eq(operator))
        .filter(Column::ExpireTime.gt(now));
    Ok(found.one(db).await?.is_some())
}

/// The sessions of an operator, newest first, after this position.
pub async fn list(
    db: &impl ConnectionTrait,
    operator: Uuid,
    now: DateTime<Utc>,
    after: Option<Position>,
    limit: u64,
) -> Result<Part<Session>> {
    let mut query = Entity::find()
        .filter(Column::OperatorId.eq(operator))
        .filter(Column::ExpireTime.gt(now))
        .order_by_desc(Column::CreateTime)
        .order_by_desc(Column::Id)
        .limit(limit);
    if let Some(Position(time, id)) = after {
        let same_time = Condition::all()
            .add(Column::CreateTime.eq(time))
            .add(Column::Id.lt(id.unwrap_or_default()));
        let later = Condition::any().add(Column::CreateTime.lt(time));
        query = query.filter(later.add(same_time));
    }
    let rows = query.all(db).await?;
    let sessions: Result<_> = rows.into_iter().map(from_row).collect();
    Ok(Part::whole(sessions?))
}

fn from_row(row: Model) -> Result<Session> {
    let hash = row.token_hash.try_into();
    Ok(Session {
        id: row.id,
        create_time: row.create_time,
        expire_time: row.expire_time,
        last_use_time: row.last_use_time.unwrap_or(row.create_time),
        peer_address: row.peer_address,
        hash: hash.map_err(|_| Error::internal("a session's hash has another length"))?,
    })
}
