//! How an operator is changed: the decision that all changes share.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::errors;
use crate::auth::operators::{Operator, PasswordHash};
use crate::commit::{
    Change, Decision, LockSet, Mutation, SideStatement, Target, UnitOfWork, check_etag,
};
use crate::core::field_change::FieldChange;
use crate::core::role::Role;
use crate::core::text_enum::TextEnum as _;
use crate::error::Result;

/// The new values of an operator. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The display name. If it is empty, it becomes the username.
    pub display_name: Option<String>,
    /// The role.
    pub role: Option<Role>,
}

/// Enables an operator. It fails with `OPERATOR_NOT_FOUND`; with `ETAG_MISMATCH`.
pub fn enable(target: Target) -> Mutation<Operator> {
    change(
        target,
        Vec::new(),
        "operator.enabled",
        |operator, _| set_disable_time(operator, None),
        |_| Vec::new(),
    )
}

impl Patch {
    pub(super) fn apply(&self, operator: &mut Operator) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        if let Some(given) = &self.display_name {
            let name = match given.is_empty() {
                true => &operator.username,
                false => given,
            };
            if operator.display_name != *name {
                let before = std::mem::replace(&mut operator.display_name, name.clone());
                changes.push(FieldChange::new("display_name", before, name));
            }
        }
        if let Some(role) = self.role
            && operator.role != role
        {
            let before = std::mem::replace(&mut operator.role, role);
            changes.push(FieldChange::new("role", before.as_str(), role.as_str()));
        }
        changes
    }
}

pub(super) fn set_disable_time(
    operator: &mut Operator,
    time: Option<DateTime<Utc>>,
) -> Vec<FieldChange> {
    let (before, after) = (operator.is_enabled(), time.is_none());
    if before == after {
        return Vec::new();
    }
    operator.disable_time = time;
    vec![FieldChange::new(
        "enabled",
        before.to_string(),
        after.to_string(),
    )]
}

/// A change of an operator. `edit` makes it, as of a time, and returns the changed fields, none if there is
/// nothing to change. `statements` are run with it. `others` are locked too: one that is an enabled ADMIN when this
/// is decided stays one until the commit. If none is, and the change takes an enabled ADMIN away, the decision is
/// [`Decision::Stale`].
pub(super) fn change(
    target: Target,
    others: Vec<Uuid>,
    event: &'static str,
    edit: impl Fn(&mut Operator, DateTime<Utc>) -> Vec<FieldChange> + Send + 'static,
    statements: impl Fn(Uuid) -> Vec<SideStatement> + Send + 'static,
) -> Mutation<Operator> {
    let target_lock = LockSet::default().record::<Operator>(target.id);
    let locks = others
        .iter()
        .fold(target_lock, |locks, id| locks.read_only::<Operator>(*id));
    Mutation::new(
        locks,
        |operator: &Operator| operator.id,
        move |unit| {
            let before = locked(unit, target.id)?;
            check_etag(&target.etag, before.version)?;
            let time = unit.clock.time_after(before.update_time);
            let mut after = before.clone();
            let changes = edit(&mut after, time);
            let is_admin = |id: &Uuid| unit.get(*id).is_some_and(Operator::is_enabled_admin);
            let takes_an_admin = before.is_enabled_admin() && !after.is_enabled_admin();
            if takes_an_admin && !others.iter().any(is_admin) {
                return Ok(Decision::Stale);
            }
            match (changes.is_empty(), target.validate_only) {
                (_, true) => return Ok(Decision::Preview(after)),
                (true, false) => return Ok(Decision::Commit(after)),
                (false, false) => {}
            }
            after.version += 1;
            after.update_time = time;
            unit.put(after.clone());
            for statement in statements(after.id) {
                unit.execute(statement);
            }
            let change = Change::of(&after, event, changes).changed("operator", before, &after)?;
            unit.record_change(change);
            Ok(Decision::Commit(after))
        },
    )
}

/// Returns the operator that a change has locked.
pub(super) fn locked<'a>(unit: &UnitOfWork<'a>, id: Uuid) -> Result<&'a Operator> {
    unit.get(id).ok_or_else(|| errors::not_found(id))
}

/// Sets the password of an operator. Returns the field that changed.
pub(super) fn set_password(operator: &mut Operator, hash: &PasswordHash) -> Vec<FieldChange> {
    operator.password_hash = hash.clone();
    vec![FieldChange::new("password", "", "")]
}
