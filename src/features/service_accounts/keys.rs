//! Changes of the keys of service accounts. The account is locked, and gets a new version.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::model::{Key, ServiceAccount};
use super::{locked, store};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag};
use crate::core::call::TokenHash;
use crate::core::field_change::FieldChange;
use crate::error::Result;

/// A key and its account after a change.
#[derive(Clone, Debug)]
pub struct KeyChange {
    /// The account.
    pub account: ServiceAccount,
    /// The key.
    pub key: Key,
}

/// Creates a key with this id and hash. It fails as [`super::disable`].
pub fn create_key(target: Target, id: Uuid, hash: TokenHash) -> Mutation<KeyChange> {
    change_key(
        target,
        "service_account.key_created",
        move |unit, account, time| {
            let key = Key {
                id,
                account_id: account.id,
                create_time: time,
                revoke_time: None,
                last_use_time: None,
            };
            store::insert_key(unit, &key, &hash)?;
            Ok(Edited::Changed(key.change("", "active"), key))
        },
    )
}

/// Revokes a key that was read when its account had this version.
pub(super) fn revoke_key(target: Target, key: Key, version: i64) -> Mutation<KeyChange> {
    change_key(
        target,
        "service_account.key_revoked",
        move |unit, account, time| {
            if account.version != version {
                return Ok(Edited::Stale);
            }
            if key.revoke_time.is_some() {
                return Ok(Edited::Unchanged(key.clone()));
            }
            let revoked = Key {
                revoke_time: Some(time),
                ..key.clone()
            };
            unit.execute(store::revoke_key(key.id, time));
            Ok(Edited::Changed(key.change("active", "revoked"), revoked))
        },
    )
}

/// What a change of a key makes of it.
enum Edited {
    Changed(FieldChange, Key),
    Unchanged(Key),
    Stale,
}

/// A change of a key. `edit` decides it, as of a time.
fn change_key(
    target: Target,
    event: &'static str,
    edit: impl Fn(&mut UnitOfWork<'_>, &ServiceAccount, DateTime<Utc>) -> Result<Edited>
    + Send
    + 'static,
) -> Mutation<KeyChange> {
    let locks = LockSet::default().record::<ServiceAccount>(target.id);
    Mutation::new(
        locks,
        |change: &KeyChange| change.account.id,
        move |unit| {
            let before = locked(unit, target.id)?;
            check_etag(&target.etag, before.version)?;
            let time = unit.clock.time_after(before.update_time);
            let mut account = before.clone();
            let (change, key) = match edit(unit, before, time)? {
                Edited::Stale => return Ok(Decision::Stale),
                Edited::Unchanged(key) if target.validate_only => {
                    return Ok(Decision::Preview(KeyChange { account, key }));
                }
                Edited::Unchanged(key) => return Ok(Decision::Commit(KeyChange { account, key })),
                Edited::Changed(change, key) => (change, key),
            };
            if target.validate_only {
                return Ok(Decision::Preview(KeyChange { account, key }));
            }
            account.version += 1;
            account.update_time = time;
            unit.put(account.clone());
            let change = Change::of(&account, event, vec![change]);
            unit.record_change(change.changed("service_account", before, &account)?);
            Ok(Decision::Commit(KeyChange { account, key }))
        },
    )
}
