//! The queries about service accounts and their keys, and how they are locked and written.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::model::{Key, ServiceAccount};
use crate::commit::{Record, SideStatement, UnitOfWork};
use crate::core::call::TokenHash;
use crate::core::field_change::FieldChange;
use crate::core::role::Role;
use crate::core::text;
use crate::core::text_enum::TextEnum as _;
use crate::db::entities::api_key;
use crate::db::entities::service_account::{ActiveModel, Column, Entity, Model};
use crate::db::rows::{self, Rows};
use crate::db::select::Part;
use crate::db::{self, LockWait, Locked, Tx};
use crate::error::{Error, Result};

const NAME: &str = "name:";
const CERTIFICATE: &str = "certificate:";

/// The key of a name.
pub fn name_key(name: &str) -> String {
    format!("{NAME}{name}")
}

/// The key of a certificate name.
pub fn certificate_key(name: &str) -> String {
    format!("{CERTIFICATE}{name}")
}

pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<ServiceAccount>> {
    let row = Entity::find_by_id(id).one(db).await?;
    row.map(from_row).transpose()
}

pub async fn by_name(db: &impl ConnectionTrait, name: &str) -> Result<Option<ServiceAccount>> {
    // Accounts that were created before names were normalised are stored with their original spelling.
    let spellings = [name.to_owned(), text::nfc(name)];
    let row = Entity::find()
        .filter(Column::Name.is_in(spellings))
        .one(db)
        .await?;
    row.map(from_row).transpose()
}

/// Accounts in the order of their creation, after this id.
pub async fn list(
    db: &impl ConnectionTrait,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Part<ServiceAccount>> {
    let mut query = Entity::find().order_by_asc(Column::Id).limit(limit);
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    let rows = query.all(db).await?;
    let accounts: Result<_> = rows.into_iter().map(from_row).collect();
    Ok(Part::whole(accounts?))
}

/// The keys of an account in the order of their creation, after this id.
pub async fn keys(
    db: &impl ConnectionTrait,
    account: Uuid,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Part<Key>> {
    let mut query = api_key::Entity::find()
        .filter(api_key::Column::ServiceAccountId.eq(account))
        .order_by_asc(api_key::Column::Id)
        .limit(limit);
    if let Some(after) = after {
        query = query.filter(api_key::Column::Id.gt(after));
    }
    let rows = query.all(db).await?;
    Ok(Part::whole(rows.into_iter().map(key_from_row).collect()))
}

pub async fn key(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Key>> {
    let row = api_key::Entity::find_by_id(id).one(db).await?;
    Ok(row.map(key_from_row))
}

/// Notes a new key.
pub fn insert_key(unit: &mut UnitOfWork<'_>, key: &Key, hash: &TokenHash) -> Result<()> {
    let row = api_key::ActiveModel {
        id: Set(key.id),
        service_account_id: Set(key.account_id),
        key_hash: Set(hash.to_vec()),
        create_time: Set(key.create_time),
        revoke_time: Set(None),
        last_use_time: Set(None),
    };
    unit.append(key.id, row)
}

/// The statement that revokes a key.
pub fn revoke_key(id: Uuid, time: DateTime<Utc>) -> SideStatement {
    let update = api_key::Entity::update_many()
        .col_expr(api_key::Column::RevokeTime, Expr::value(time))
        .filter(api_key::Column::Id.eq(id))
        .filter(api_key::Column::RevokeTime.is_null());
    SideStatement::Update(update.into_query())
}

impl Record for ServiceAccount {
    const SUBJECT: &'static str = "SERVICE_ACCOUNT";
    const NAME: &'static str = "service_account";
    const KEY: &'static str = "service_account";

    fn id(&self) -> Uuid {
        self.id
    }

    fn root_id(&self) -> Uuid {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn update_time(&self) -> DateTime<Utc> {
        self.update_time
    }

    async fn get_many<C: ConnectionTrait>(db: &C, ids: Vec<Uuid>) -> Result<Vec<Self>> {
        db::get_many::<Entity, _>(db, Column::Id, ids, from_row).await
    }

    async fn lock(tx: &Tx, ids: BTreeSet<Uuid>, wait: LockWait) -> Result<Locked<Self>> {
        db::lock::<Entity, _>(tx, Column::Id, ids, wait, from_row, |record| record.id).await
    }

    async fn write(_tx: &Tx, created: Vec<Self>, changed: Vec<(Self, Self)>) -> Result<Vec<Rows>> {
        rows::of_versions(
            &created,
            &changed,
            |record| (record.id, record.version),
            |record| Ok(to_row(record)),
        )
    }

    fn key(&self) -> Option<String> {
        // A certificate name is no key of a record that is created in the same batch: the unique index
        // then rejects the batch, and its changes are made one after the other.
        Some(name_key(&self.name))
    }

    async fn find_by_keys(tx: &Tx, keys: BTreeSet<String>) -> Result<HashMap<String, Self>> {
        let with_prefix = |prefix: &str| -> Vec<String> {
            let keys = keys.iter().filter_map(|key| key.strip_prefix(prefix));
            keys.map(str::to_owned).collect()
        };
        let (names, certificates) = (with_prefix(NAME), with_prefix(CERTIFICATE));
        let mut found = HashMap::new();
        if !names.is_empty() {
            let query = Entity::find().filter(Column::Name.is_in(names));
            for row in query.all(&**tx).await? {
                found.insert(name_key(&row.name), from_row(row)?);
            }
        }
        if !certificates.is_empty() {
            let query = Entity::find().filter(Column::CertificateName.is_in(certificates));
            for row in query.all(&**tx).await? {
                if let Some(name) = row.certificate_name.clone() {
                    found.insert(certificate_key(&name), from_row(row)?);
                }
            }
        }
        Ok(found)
    }

    fn without_texts(&self, _time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        // It belongs to no lead.
        None
    }
}

/// The row of an account.
fn to_row(account: &ServiceAccount) -> ActiveModel {
    ActiveModel {
        id: Set(account.id),
        version: Set(account.version),
        name: Set(account.name.clone()),
        role: Set(account.role.as_str().to_owned()),
        disable_time: Set(account.disable_time),
        create_time: Set(account.create_time),
        update_time: Set(Some(account.update_time)),
        certificate_name: Set(account.certificate_name.clone()),
    }
}

fn from_row(row: Model) -> Result<ServiceAccount> {
    let role = Role::from_text(&row.role)
        .ok_or_else(|| Error::internal(format!("unknown role {}", row.role)))?;
    Ok(ServiceAccount {
        id: row.id,
        version: row.version,
        name: row.name,
        role,
        certificate_name: row.certificate_name,
        disable_time: row.disable_time,
        create_time: row.create_time,
        update_time: row.update_time.unwrap_or(row.create_time),
    })
}

fn key_from_row(row: api_key::Model) -> Key {
    Key {
        id: row.id,
        account_id: row.service_account_id,
        create_time: row.create_time,
        revoke_time: row.revoke_time,
        last_use_time: row.last_use_time,
    }
}
