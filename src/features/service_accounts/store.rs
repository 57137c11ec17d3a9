//! The queries about service accounts and their keys.

use crate::core::text_enum::TextEnum as _;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};
use uuid::Uuid;

use crate::core::call::TokenHash;
use crate::core::role::Role;
use crate::core::text;
use crate::db::Tx;
use crate::db::entities::{api_key, service_account};
use crate::error::Result;

pub async fn id_by_name(db: &impl ConnectionTrait, name: &str) -> Result<Option<Uuid>> {
    // Accounts that were created before names were normalised are stored with their original spelling.
    let spellings = [name.to_owned(), text::nfc(name)];
    let row = service_account::Entity::find()
        .filter(service_account::Column::Name.is_in(spellings))
        .one(db)
        .await?;
    Ok(row.map(|row| row.id))
}

/// All accounts by name, with their keys, oldest first.
pub async fn all(
    db: &impl ConnectionTrait,
) -> Result<Vec<(service_account::Model, Vec<api_key::Model>)>> {
    let accounts = service_account::Entity::find().order_by_asc(service_account::Column::Name);
    let keys = api_key::Entity::find().order_by_asc(api_key::Column::Id);
    let (accounts, keys) = (accounts.all(db).await?, keys.all(db).await?);
    let with_keys = accounts.into_iter().map(|account| {
        let own = |key: &&api_key::Model| key.service_account_id == account.id;
        let keys = keys.iter().filter(own).cloned().collect();
        (account, keys)
    });
    Ok(with_keys.collect())
}

pub async fn insert(tx: &Tx, id: Uuid, name: String, role: Role) -> Result<()> {
    let row = service_account::ActiveModel {
        id: Set(id),
        name: Set(name),
        role: Set(role.as_str().to_owned()),
        disable_time: Set(None),
        create_time: Set(tx.clock.now()),
        certificate_name: Set(None),
    };
    service_account::Entity::insert(row)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

/// The account that a certificate's name belongs to.
pub async fn id_by_certificate(db: &impl ConnectionTrait, name: &str) -> Result<Option<Uuid>> {
    let row = service_account::Entity::find()
        .filter(service_account::Column::CertificateName.eq(name))
        .one(db)
        .await?;
    Ok(row.map(|row| row.id))
}

/// Sets or removes the certificate name of an account.
pub async fn set_certificate(tx: &Tx, id: Uuid, name: Option<String>) -> Result<()> {
    service_account::Entity::update_many()
        .col_expr(service_account::Column::CertificateName, Expr::value(name))
        .filter(service_account::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    Ok(())
}

pub async fn insert_key(tx: &Tx, id: Uuid, account: Uuid, hash: &TokenHash) -> Result<()> {
    let row = api_key::ActiveModel {
        id: Set(id),
        service_account_id: Set(account),
        key_hash: Set(hash.to_vec()),
        create_time: Set(tx.clock.now()),
        revoke_time: Set(None),
    };
    api_key::Entity::insert(row)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

/// Revokes a key. Returns whether there was a key with this id that was not revoked.
pub async fn revoke_key(tx: &Tx, id: Uuid) -> Result<bool> {
    let changed = api_key::Entity::update_many()
        .col_expr(api_key::Column::RevokeTime, Expr::value(tx.clock.now()))
        .filter(api_key::Column::Id.eq(id))
        .filter(api_key::Column::RevokeTime.is_null())
        .exec(&**tx)
        .await?;
    Ok(changed.rows_affected == 1)
}
