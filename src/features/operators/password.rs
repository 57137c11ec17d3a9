//! The use cases that hash a password: creating an operator, resetting and changing a password. Passwords are
//! checked and hashed before the transaction, with no connection held.

use secrecy::{ExposeSecret, SecretString};

use super::change::{change, locked, set_password};
use super::{Operators, errors};
use crate::auth::operators::{Operator, PasswordHash, Username};
use crate::auth::sessions::{self, Ended};
use crate::auth::{self, passwords, require_operator};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, check_etag};
use crate::core::call::Call;
use crate::core::field_change::FieldChange;
use crate::core::role::Role;
use crate::core::text_enum::TextEnum as _;
use crate::core::violations::Violations;
use crate::error::Result;

/// The input of [`Operators::prepare_create`].
#[derive(Clone, Debug)]
pub struct NewOperator {
    /// The username.
    pub username: Username,
    /// The display name; the username if it is empty.
    pub display_name: String,
    /// The role.
    pub role: Role,
    /// The password, whose rules were checked apart from that about the username.
    pub password: SecretString,
    /// Validate without creating.
    pub validate_only: bool,
}

impl Operators {
    /// Prepares the creation of an operator: checks and hashes the password.
    ///
    /// # Errors
    /// `DUPLICATE_OPERATOR`; `FIELD_INVALID` if the password contains the username; `SERVER_OVERLOADED`.
    pub async fn prepare_create(&self, new: NewOperator) -> Result<Mutation<Operator>> {
        // Before the hash, which takes much longer.
        if let Some(other) = self.find(&new.username).await? {
            return Err(errors::duplicate(other.id, &new.username.shown));
        }
        let hash = self
            .checked_hash("password", &new.password, &new.username, new.validate_only)
            .await?;
        Ok(create(new, hash))
    }

    /// Prepares setting another password, which ends all sessions of the operator.
    ///
    /// # Errors
    /// `OPERATOR_NOT_FOUND`, `ETAG_MISMATCH`; `FIELD_INVALID` if the password contains the username;
    /// `SERVER_OVERLOADED`.
    pub async fn prepare_reset(
        &self,
        target: Target,
        password: &SecretString,
    ) -> Result<Mutation<Operator>> {
        let operator = self.get(target.id).await?;
        check_etag(&target.etag, operator.version)?;
        let username = Username::new(&operator.username);
        let hash = self
            .checked_hash("new_password", password, &username, target.validate_only)
            .await?;
        Ok(change(
            target,
            Vec::new(),
            "operator.password_reset",
            move |operator, _| set_password(operator, &hash),
            |id| vec![sessions::end_statement(id, Ended::All)],
        ))
    }

    /// Prepares the change of the calling operator's own password, which ends their other sessions: verifies the
    /// current one.
    ///
    /// # Errors
    /// `FIELD_INVALID` if the password contains the username; those of [`auth::verify_own_password`].
    pub async fn prepare_password_change(
        &self,
        call: &Call,
        current: &SecretString,
        new: &SecretString,
        validate_only: bool,
    ) -> Result<Mutation<Operator>> {
        let id = require_operator(call)?;
        check_username("new_password", new, &Username::new(&call.principal.name))?;
        let current = auth::verify_own_password(&self.auth, call, Some(current)).await?;
        let current = PasswordHash(current);
        let new = match validate_only {
            true => current.clone(),
            false => PasswordHash(self.auth.passwords.hash(new.clone()).await?),
        };
        let ended = call.session.map_or(Ended::All, Ended::AllExcept);
        let locks = LockSet::default().record::<Operator>(id);
        Ok(Mutation::new(
            locks,
            |operator: &Operator| operator.id,
            move |unit| {
                let before = locked(unit, id)?;
                // If an administrator has set another password meanwhile, that one stays.
                if before.password_hash != current {
                    return Err(auth::errors::current_password_invalid());
                }
                if validate_only {
                    return Ok(Decision::Preview(before.clone()));
                }
                let mut after = before.clone();
                let changes = set_password(&mut after, &new);
                after.version += 1;
                after.update_time = unit.clock.time_after(before.update_time);
                unit.put(after.clone());
                unit.execute(sessions::end_statement(id, ended));
                let change = Change::of(&after, "operator.password_changed", changes);
                unit.record_change(change.changed("operator", before, &after)?);
                Ok(Decision::Commit(after))
            },
        ))
    }

    /// The hash of a new password; an empty one if it is only to be validated.
    async fn checked_hash(
        &self,
        field: &str,
        password: &SecretString,
        username: &Username,
        validate_only: bool,
    ) -> Result<PasswordHash> {
        check_username(field, password, username)?;
        Ok(PasswordHash(match validate_only {
            true => String::new(),
            false => self.auth.passwords.hash(password.clone()).await?,
        }))
    }
}

fn check_username(field: &str, password: &SecretString, username: &Username) -> Result<()> {
    let mut violations = Violations::default();
    let password = password.expose_secret();
    passwords::check_username(&mut violations, field, password, &username.shown);
    Ok(violations.finish()?)
}

/// Creates an enabled operator. It fails with `DUPLICATE_OPERATOR` if the username is taken.
fn create(new: NewOperator, hash: PasswordHash) -> Mutation<Operator> {
    let key = new.username.key.clone();
    let locks = LockSet::default().key::<Operator>(key.clone());
    Mutation::new(
        locks,
        |operator: &Operator| operator.id,
        move |unit| {
            if let Some(other) = unit.find::<Operator>(&key) {
                return Err(errors::duplicate(other.id, &new.username.shown));
            }
            let now = unit.clock.now();
            let username = new.username.shown.clone();
            let operator = Operator {
                id: unit.clock.new_id(),
                version: 1,
                display_name: match new.display_name.is_empty() {
                    true => username.clone(),
                    false => new.display_name.clone(),
                },
                username,
                role: new.role,
                disable_time: None,
                create_time: now,
                update_time: now,
                password_hash: hash.clone(),
            };
            if new.validate_only {
                return Ok(Decision::Preview(operator));
            }
            unit.put(operator.clone());
            let changes = vec![
                FieldChange::new("username", "", &operator.username),
                FieldChange::new("display_name", "", &operator.display_name),
                FieldChange::new("role", "", operator.role.as_str()),
                FieldChange::new("enabled", "", "true"),
            ];
            let change = Change::of(&operator, "operator.created", changes);
            unit.record_change(change.whole("operator", &operator)?);
            Ok(Decision::Commit(operator))
        },
    )
}
