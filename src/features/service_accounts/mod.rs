//! Service accounts: backend services that call with an API key. They are created on the command line.

mod store;

use crate::core::text_enum::TextEnum as _;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::tokens::{self, Secret, TokenKind};
use crate::config::StartupError;
use crate::core::role::Role;
use crate::core::text;
use crate::db::{Db, Verdict};
use crate::error::{self, Error};

/// Creates a service account.
///
/// # Errors
/// A sentence if the name is taken or invalid.
pub async fn create(db: &Db, name: &str, role: Role) -> Result<Uuid, StartupError> {
    let Some(name) = text::identifier(name, "._-") else {
        return Err(StartupError::new(
            "a service account's name is 1 to 64 letters, digits and characters of . _ -",
        ));
    };
    let created = db
        .write(move |tx| {
            Box::pin(async move {
                tx.lock("service_accounts").await?;
                if store::id_by_name(&**tx, &name).await?.is_some() {
                    return Ok(Verdict::Checked(Err(name)));
                }
                let id = tx.clock.new_id();
                store::insert(tx, id, name, role).await?;
                Ok(Verdict::Done(Ok(id)))
            })
        })
        .await?;
    created.map_err(|name| {
        StartupError::new(format!(
            "a service account {name:?} already exists: choose another name"
        ))
    })
}

/// A service account in a list.
pub struct ServiceAccount {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The subject alternative name of its client certificates.
    pub certificate_name: Option<String>,
    /// Its keys, oldest first.
    pub keys: Vec<Key>,
}

/// An API key, without its secret.
pub struct Key {
    /// The id.
    pub id: Uuid,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of revocation.
    pub revoke_time: Option<DateTime<Utc>>,
}

/// Lists all service accounts by name.
///
/// # Errors
/// If the database cannot be read.
pub async fn list(db: &Db) -> error::Result<Vec<ServiceAccount>> {
    let found = store::all(db.read()).await?.into_iter();
    let accounts = found.map(|(account, keys)| {
        let keys = keys.into_iter().map(|key| Key {
            id: key.id,
            create_time: key.create_time,
            revoke_time: key.revoke_time,
        });
        Ok(ServiceAccount {
            id: account.id,
            role: Role::from_text(&account.role)
                .ok_or_else(|| Error::internal(format!("unknown role {}", account.role)))?,
            name: account.name,
            certificate_name: account.certificate_name,
            keys: keys.collect(),
        })
    });
    accounts.collect()
}

async fn find(db: &Db, name: &str) -> Result<Uuid, StartupError> {
    let account = store::id_by_name(db.read(), name.trim()).await?;
    account.ok_or_else(|| {
        StartupError::new(format!(
            "there is no service account {name:?}: run leadsmith service-account list to list all service accounts"
        ))
    })
}

/// Sets or removes the subject alternative name (`DNS:NAME` or `URI:NAME`) of the client certificates that
/// authenticate as a service account. Other replicas apply the change within 5 seconds.
///
/// # Errors
/// A sentence if there is no such account, or if the name is invalid or belongs to another account.
pub async fn set_certificate(
    db: &Db,
    account: &str,
    certificate_name: Option<&str>,
) -> Result<(), StartupError> {
    let account = find(db, account).await?;
    let name = certificate_name.map(|name| name.trim().to_owned());
    if let Some(name) = &name {
        let bare = name.strip_prefix("DNS:").or(name.strip_prefix("URI:"));
        // DNS names and URIs in certificates contain no other characters.
        let fits = |character: char| character.is_ascii_graphic() && character != '*';
        if bare.is_none_or(|bare| bare.is_empty() || !bare.chars().all(fits))
            || name.len() > text::NAME
        {
            return Err(StartupError::new(
                "a certificate's name is DNS:NAME or URI:NAME, as in its subject alternative names: \
                 at most 200 visible ASCII characters, without *",
            ));
        }
    }
    let set = db
        .write(move |tx| {
            Box::pin(async move {
                tx.lock("service_accounts").await?;
                if let Some(name) = &name
                    && let Some(other) = store::id_by_certificate(&**tx, name).await?
                    && other != account
                {
                    return Ok(Verdict::Checked(false));
                }
                store::set_certificate(tx, account, name).await?;
                Ok(Verdict::Done(true))
            })
        })
        .await?;
    if set {
        Ok(())
    } else {
        Err(StartupError::new(
            "this certificate's name is registered for another service account: remove it from that account first",
        ))
    }
}

/// Creates an API key of a service account. Returns its id, which is needed to revoke it, and the key
/// itself, which cannot be read again.
///
/// # Errors
/// A sentence if there is no such account.
pub async fn create_key(db: &Db, name: &str) -> Result<(Uuid, Secret), StartupError> {
    let account = find(db, name).await?;
    let key = tokens::generate(TokenKind::ApiKey);
    let hash = key.hash();
    let id = db
        .write(move |tx| {
            Box::pin(async move {
                let id = tx.clock.new_id();
                store::insert_key(tx, id, account, &hash).await?;
                Ok(Verdict::Done(id))
            })
        })
        .await?;
    Ok((id, key))
}

/// Revokes an API key.
///
/// # Errors
/// A sentence if there is no such key or if it is already revoked.
pub async fn revoke_key(db: &Db, id: Uuid) -> Result<(), StartupError> {
    let revoked = db
        .write(move |tx| {
            Box::pin(async move { Ok(Verdict::Done(store::revoke_key(tx, id).await?)) })
        })
        .await?;
    if revoked {
        Ok(())
    } else {
        Err(StartupError::new(format!(
            "there is no active API key with the id {id}: run leadsmith service-account list to list all keys"
        )))
    }
}
