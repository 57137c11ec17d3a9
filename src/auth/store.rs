//! The queries that find the owner of a session, an API key or a client certificate, and every query about
//! password attempts.
//!
//! This module holds no rules: the callers decide what a missing row means.

use crate::core::text_enum::TextEnum as _;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{DeleteStatement, Expr, LockType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::attempts::{Attempt, WINDOW};
use super::locks::CountedBucket;
use super::operators::{self, Operator, Username, store::from_row};
use super::reservation::Slot;
use crate::core::call::TokenHash;
use crate::core::call::{Principal, PrincipalKind};
use crate::core::role::Role;
use crate::db::Tx;
use crate::db::entities::{api_key, operator, password_attempt, service_account, session};
use crate::error::{Error, Result};

/// A session that is valid now.
pub struct ValidSession {
    pub operator: Operator,
    pub expire_time: DateTime<Utc>,
    pub last_use_time: Option<DateTime<Utc>>,
}

/// A session that is valid now.
pub async fn session(
    db: &impl ConnectionTrait,
    hash: &TokenHash,
    now: DateTime<Utc>,
) -> Result<Option<ValidSession>> {
    let found = session::Entity::find_by_id(hash.to_vec())
        .filter(session::Column::ExpireTime.gt(now))
        .find_also_related(operator::Entity)
        .one(db)
        .await?;
    let Some((session, Some(operator))) = found else {
        return Ok(None);
    };
    if operator.disable_time.is_some() {
        return Ok(None);
    }
    Ok(Some(ValidSession {
        operator: from_row(operator)?,
        expire_time: session.expire_time,
        last_use_time: session.last_use_time,
    }))
}

/// The service account of a key that is valid now, and the last use of the key.
pub async fn api_key(
    db: &impl ConnectionTrait,
    hash: &TokenHash,
) -> Result<Option<((Principal, Role), Option<DateTime<Utc>>)>> {
    let found = api_key::Entity::find()
        .filter(api_key::Column::KeyHash.eq(hash.to_vec()))
        .filter(api_key::Column::RevokeTime.is_null())
        .find_also_related(service_account::Entity)
        .one(db)
        .await?;
    let Some((key, Some(account))) = found else {
        return Ok(None);
    };
    let account = from_account(account)?;
    Ok(account.map(|account| (account, key.last_use_time)))
}

/// The service account that is registered with one of these certificate names. None if the names belong to
/// several accounts.
pub async fn certificate(
    db: &impl ConnectionTrait,
    names: &[String],
) -> Result<Option<(Principal, Role)>> {
    let found = service_account::Entity::find()
        .filter(service_account::Column::CertificateName.is_in(names))
        .limit(2)
        .all(db)
        .await?;
    match <[_; 1]>::try_from(found) {
        Ok([account]) => from_account(account),
        Err(_) => Ok(None),
    }
}

fn from_account(account: service_account::Model) -> Result<Option<(Principal, Role)>> {
    if account.disable_time.is_some() {
        return Ok(None);
    }
    let role = Role::from_text(&account.role)
        .ok_or_else(|| Error::internal(format!("unknown role {}", account.role)))?;
    let principal = Principal {
        kind: PrincipalKind::ServiceAccount,
        id: account.id,
        name: account.name,
    };
    Ok(Some((principal, role)))
}

/// The enabled operator with this username, and the operator's password hash.
pub async fn operator_by_username(
    db: &impl ConnectionTrait,
    username: &Username,
) -> Result<Option<(Operator, String)>> {
    let found = operators::store::by_username(db, username).await?;
    found
        .filter(|row| row.disable_time.is_none())
        .map(|row| {
            let hash = row.password_hash.clone();
            Ok((from_row(row)?, hash))
        })
        .transpose()
}

pub async fn password_hash(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<String>> {
    let row = operator::Entity::find_by_id(id).one(db).await?;
    Ok(row.map(|row| row.password_hash))
}

/// The operator. The row is locked, so that nobody else changes it until `tx` ends.
pub async fn lock_operator(tx: &Tx, id: Uuid) -> Result<Option<Operator>> {
    let find = operator::Entity::find_by_id(id);
    let row = find.lock(LockType::NoKeyUpdate).one(&**tx).await?;
    row.map(from_row).transpose()
}

/// The attempts of these buckets that still count. An attempt with a time in the future, which a wrong clock
/// wrote, gets the current time: no attempt counts for longer than [`WINDOW`].
pub async fn attempts(tx: &Tx, buckets: Vec<String>, now: DateTime<Utc>) -> Result<Vec<Attempt>> {
    let in_buckets = || password_attempt::Column::Bucket.is_in(&buckets);
    let rows = password_attempt::Entity::find()
        .filter(in_buckets())
        .filter(password_attempt::Column::ExpireTime.gt(now))
        .all(&**tx)
        .await?;
    let until = now + WINDOW;
    if rows.iter().any(|row| row.expire_time > until) {
        password_attempt::Entity::update_many()
            .col_expr(password_attempt::Column::ClaimTime, Expr::value(now))
            .col_expr(password_attempt::Column::ExpireTime, Expr::value(until))
            .filter(in_buckets())
            .filter(password_attempt::Column::ExpireTime.gt(until))
            .exec(&**tx)
            .await?;
    }
    let counting = rows.into_iter().map(|row| Attempt {
        id: row.id,
        bucket: row.bucket,
        claim_time: row.claim_time.min(now),
        expire_time: row.expire_time.min(until),
        failed: row.failed,
    });
    Ok(counting.collect())
}

pub async fn insert_attempts(tx: &Tx, slots: &[Slot], expire_time: DateTime<Utc>) -> Result<()> {
    let rows = slots.iter().map(|slot| password_attempt::ActiveModel {
        id: Set(slot.id),
        bucket: Set(slot.bucket.name.clone()),
        claim_time: Set(slot.claim_time),
        expire_time: Set(expire_time),
        failed: Set(false),
    });
    password_attempt::Entity::insert_many(rows)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

pub async fn mark_attempt_failed(tx: &Tx, id: Uuid) -> Result<()> {
    password_attempt::Entity::update_many()
        .col_expr(password_attempt::Column::Failed, Expr::value(true))
        .filter(password_attempt::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    Ok(())
}

pub async fn set_attempt_expiry(tx: &Tx, id: Uuid, time: DateTime<Utc>) -> Result<()> {
    password_attempt::Entity::update_many()
        .col_expr(password_attempt::Column::ExpireTime, Expr::value(time))
        .filter(password_attempt::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    Ok(())
}

/// The statement that deletes the attempts of a bucket and of the buckets below it.
pub fn delete_attempts(bucket: &str) -> DeleteStatement {
    password_attempt::Entity::delete_many()
        .filter(
            Condition::any()
                .add(password_attempt::Column::Bucket.eq(bucket))
                .add(password_attempt::Column::Bucket.starts_with(format!("{bucket}/"))),
        )
        .into_query()
}

/// The maximum number of buckets that [`counted_buckets`] returns.
const MAX_BUCKETS: u64 = 10_000;

/// The buckets of passwords with at least this number of wrong ones.
pub async fn counted_buckets(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
    least: usize,
) -> Result<Vec<CountedBucket>> {
    use password_attempt::Column;
    use sea_orm::sea_query::ExprTrait as _;
    let of_password = Condition::any()
        .add(Column::Bucket.starts_with("current_password/"))
        .add(Column::Bucket.starts_with("sign_in/"));
    let rows: Vec<(String, i64, DateTime<Utc>)> = password_attempt::Entity::find()
        .select_only()
        .column(Column::Bucket)
        .column_as(Column::Id.count(), "wrong")
        .column_as(Column::ExpireTime.min(), "end_time")
        .filter(Column::Failed.eq(true))
        .filter(Column::ExpireTime.gt(now))
        .filter(of_password)
        .group_by(Column::Bucket)
        .having(
            Column::Id
                .count()
                .gte(i64::try_from(least).unwrap_or(i64::MAX)),
        )
        .order_by_asc(Column::Bucket)
        .limit(MAX_BUCKETS)
        .into_tuple()
        .all(db)
        .await?;
    let counted = rows
        .into_iter()
        .map(|(name, wrong, end_time)| CountedBucket {
            name,
            wrong: usize::try_from(wrong).unwrap_or(0),
            // No attempt counts for longer, even if a clock was wrong when it was made.
            end_time: std::cmp::min(end_time, now + WINDOW),
        });
    Ok(counted.collect())
}
