//! Service accounts: backend services that call with an API key or a client certificate. The command line and
//! `ServiceAccountService` use the same use cases.
//!
//! Every change of a key is a change of its account: it locks the account, and stands in its history.

pub mod api;
pub mod errors;
mod keys;
pub mod model;
pub mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::Auth;
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag, history};
use crate::core::field_change::FieldChange;
use crate::core::page::PageInput;
use crate::core::role::Role;
use crate::core::text_enum::TextEnum as _;
use crate::db::select::Part;
use crate::error::Result;
use keys::revoke_key;
use model::{Key, Patch, ServiceAccount};

pub use keys::{KeyChange, create_key};

/// The use cases of service accounts.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    auth: Arc<Auth>,
}

/// The input of [`create`].
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The certificate name.
    pub certificate_name: Option<String>,
    /// Validate without creating.
    pub validate_only: bool,
}

impl ServiceAccounts {
    /// Creates the use cases.
    pub fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }

    /// Returns a service account.
    ///
    /// # Errors
    /// `SERVICE_ACCOUNT_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<ServiceAccount> {
        let found = store::by_id(self.auth.db.read(), id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Returns the service account with this name, if there is one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find(&self, name: &str) -> Result<Option<ServiceAccount>> {
        store::by_name(self.auth.db.read(), name.trim()).await
    }

    /// Lists service accounts in the order of their creation.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, page: PageInput<Uuid>) -> Result<Part<ServiceAccount>> {
        let db = self.auth.db.pages(page.principal).await?;
        store::list(&db, page.after, page.limit).await
    }

    /// Lists the keys of an account in the order of their creation, revoked ones too.
    ///
    /// # Errors
    /// `SERVICE_ACCOUNT_NOT_FOUND`, and those of [`ServiceAccounts::list`].
    pub async fn keys(&self, id: Uuid, page: PageInput<Uuid>) -> Result<Part<Key>> {
        self.get(id).await?;
        let db = self.auth.db.pages(page.principal).await?;
        store::keys(&db, id, page.after, page.limit).await
    }

    /// Returns a key.
    ///
    /// # Errors
    /// `API_KEY_NOT_FOUND`.
    pub async fn key(&self, id: Uuid) -> Result<Key> {
        let found = store::key(self.auth.db.read(), id).await?;
        found.ok_or_else(|| errors::key_not_found(id))
    }

    /// Lists an account's changes, newest first.
    ///
    /// # Errors
    /// `SERVICE_ACCOUNT_NOT_FOUND`, and those of [`ServiceAccounts::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.auth.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }

    /// Prepares revoking a key.
    ///
    /// # Errors
    /// `API_KEY_NOT_FOUND`; and later `ETAG_MISMATCH`.
    pub async fn prepare_revocation(
        &self,
        id: Uuid,
        etag: String,
        validate_only: bool,
    ) -> Result<Mutation<KeyChange>> {
        let account_id = self.key(id).await?.account_id;
        let account = self.get(account_id).await?;
        // Read after the account: a later change of the key also changes the account's version.
        let key = self.key(id).await?;
        let target = Target {
            id: account_id,
            etag,
            validate_only,
        };
        Ok(revoke_key(target, key, account.version))
    }
}

/// Creates an enabled service account without a key. It fails with `DUPLICATE_SERVICE_ACCOUNT`; with
/// `DUPLICATE_CERTIFICATE_NAME`.
pub fn create(new: NewAccount) -> Mutation<ServiceAccount> {
    let key = store::name_key(&new.name);
    let locks = LockSet::default().key::<ServiceAccount>(key.clone());
    let locks = lock_certificate(locks, new.certificate_name.as_deref());
    Mutation::new(
        locks,
        |account: &ServiceAccount| account.id,
        move |unit| {
            if let Some(other) = unit.find::<ServiceAccount>(&key) {
                return Err(errors::duplicate(other.id, &new.name));
            }
            let now = unit.clock.now();
            let account = ServiceAccount {
                id: unit.clock.new_id(),
                version: 1,
                name: new.name.clone(),
                role: new.role,
                certificate_name: new.certificate_name.clone(),
                disable_time: None,
                create_time: now,
                update_time: now,
            };
            check_certificate(unit, &account)?;
            if new.validate_only {
                return Ok(Decision::Preview(account));
            }
            unit.put(account.clone());
            let mut changes = vec![
                FieldChange::new("name", "", &account.name),
                FieldChange::new("role", "", account.role.as_str()),
                FieldChange::new("enabled", "", "true"),
            ];
            if let Some(name) = &account.certificate_name {
                changes.push(FieldChange::new("certificate_name", "", name));
            }
            let change = Change::of(&account, "service_account.created", changes);
            unit.record_change(change.whole("service_account", &account)?);
            Ok(Decision::Commit(account))
        },
    )
}

/// Updates an account. It fails with `SERVICE_ACCOUNT_NOT_FOUND`; with `ETAG_MISMATCH`; with
/// `DUPLICATE_CERTIFICATE_NAME`.
pub fn update(target: Target, patch: Patch) -> Mutation<ServiceAccount> {
    let name = patch
        .certificate_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let locks = lock_certificate(LockSet::default(), name);
    change(
        target,
        locks,
        "service_account.updated",
        move |account, _| patch.apply(account),
    )
}

/// Disables an account. It fails with `SERVICE_ACCOUNT_NOT_FOUND`; with `ETAG_MISMATCH`.
pub fn disable(target: Target) -> Mutation<ServiceAccount> {
    let event = "service_account.disabled";
    change(target, LockSet::default(), event, |account, time| {
        account.set_disable_time(Some(time))
    })
}

/// Enables an account. It fails as [`disable`].
pub fn enable(target: Target) -> Mutation<ServiceAccount> {
    let event = "service_account.enabled";
    change(target, LockSet::default(), event, |account, _| {
        account.set_disable_time(None)
    })
}

/// A change of an account. `edit` makes it, as of a time, and returns the changed fields.
fn change(
    target: Target,
    locks: LockSet,
    event: &'static str,
    edit: impl Fn(&mut ServiceAccount, DateTime<Utc>) -> Vec<FieldChange> + Send + 'static,
) -> Mutation<ServiceAccount> {
    let locks = locks.record::<ServiceAccount>(target.id);
    Mutation::new(
        locks,
        |account: &ServiceAccount| account.id,
        move |unit| {
            let before = locked(unit, target.id)?;
            check_etag(&target.etag, before.version)?;
            let time = unit.clock.time_after(before.update_time);
            let mut after = before.clone();
            let changes = edit(&mut after, time);
            if after.certificate_name != before.certificate_name {
                check_certificate(unit, &after)?;
            }
            match (changes.is_empty(), target.validate_only) {
                (_, true) => return Ok(Decision::Preview(after)),
                (true, false) => return Ok(Decision::Commit(after)),
                (false, false) => {}
            }
            after.version += 1;
            after.update_time = time;
            unit.put(after.clone());
            let change = Change::of(&after, event, changes);
            unit.record_change(change.changed("service_account", before, &after)?);
            Ok(Decision::Commit(after))
        },
    )
}

fn lock_certificate(locks: LockSet, name: Option<&str>) -> LockSet {
    match name {
        Some(name) => locks.key::<ServiceAccount>(store::certificate_key(name)),
        None => locks,
    }
}

/// Checks that no other account has the certificate name, which is locked.
fn check_certificate(unit: &UnitOfWork<'_>, account: &ServiceAccount) -> Result<()> {
    let name = account.certificate_name.as_deref();
    let key = name.map(store::certificate_key);
    match key.and_then(|key| unit.find::<ServiceAccount>(&key)) {
        Some(other) if other.id != account.id => Err(errors::duplicate_certificate(other.id)),
        Some(_) | None => Ok(()),
    }
}

fn locked<'a>(unit: &UnitOfWork<'a>, id: Uuid) -> Result<&'a ServiceAccount> {
    unit.get(id).ok_or_else(|| errors::not_found(id))
}
