//! The statements that store when credentials were last used.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, QueryFilter};

use crate::auth::MAX_CLOCK_SKEW;
use crate::core::call::TokenHash;
use crate::db::entities::{api_key, session};
use crate::db::{Tx, rows};
use crate::error::Result;

/// The number of credentials in one statement.
const CHUNK: usize = 64;

/// Sets the last use of sessions, and gives an id to those of the previous version.
pub async fn set_sessions_used(tx: &Tx, hashes: &[TokenHash], time: DateTime<Utc>) -> Result<()> {
    let is_postgres = tx.get_database_backend() == DbBackend::Postgres;
    let new_id = match is_postgres {
        true => "coalesce(id, gen_random_uuid())",
        false => "coalesce(id, randomblob(16))",
    };
    for chunk in hashes.chunks(CHUNK) {
        session::Entity::update_many()
            .col_expr(session::Column::LastUseTime, Expr::value(time))
            .col_expr(session::Column::Id, Expr::cust(new_id))
            .filter(session::Column::TokenHash.is_in(padded(chunk)))
            .filter(is_older(session::Column::LastUseTime, time))
            .exec(&**tx)
            .await?;
    }
    Ok(())
}

/// Sets the last use of API keys.
pub async fn set_keys_used(tx: &Tx, hashes: &[TokenHash], time: DateTime<Utc>) -> Result<()> {
    for chunk in hashes.chunks(CHUNK) {
        api_key::Entity::update_many()
            .col_expr(api_key::Column::LastUseTime, Expr::value(time))
            .filter(api_key::Column::KeyHash.is_in(padded(chunk)))
            .filter(is_older(api_key::Column::LastUseTime, time))
            .exec(&**tx)
            .await?;
    }
    Ok(())
}

/// Another server may have stored a later use. A time in the future is that of a clock that was wrong.
fn is_older(column: impl ColumnTrait, time: DateTime<Utc>) -> Condition {
    Condition::any()
        .add(column.is_null())
        .add(column.lt(time))
        .add(column.gt(time + MAX_CLOCK_SKEW))
}

/// The hashes, the last one several times, so that there are few different statements to prepare.
fn padded(hashes: &[TokenHash]) -> Vec<Vec<u8>> {
    let last = hashes.iter().rev().take(1).cycle();
    let all = hashes.iter().chain(last);
    let len = rows::padded_len(hashes.len());
    all.take(len).map(|hash| hash.to_vec()).collect()
}
