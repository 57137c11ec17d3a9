//! Edits a lead. If its email changes, the operator's own password is verified first, without holding a
//! connection. Then the decision runs on the locked lead.

use secrecy::SecretString;
use uuid::Uuid;

use super::model::{Details, Lead, Patch, Status, Transition};
use super::{Leads, locked, mutation};
use crate::commit::{Change, Decision, LockSet, Mutation, UnitOfWork, check_etag};
use crate::core::call::Call;
use crate::core::violations::Violations;
use crate::error::Result;
use crate::features::operators::Ownership;

/// The input of an update.
#[derive(Clone)]
pub struct Update {
    /// The lead.
    pub id: Uuid,
    /// The expected etag; empty for any.
    pub etag: String,
    /// The changes.
    pub patch: Patch,
    /// Whether the new owner may own records.
    pub owner: Ownership,
    /// The operator's own password, which is required if the email changes.
    pub current_password: Option<SecretString>,
    /// Validate without changing.
    pub validate_only: bool,
}

impl Leads {
    /// Prepares an update that may change the email. If it does, verifies the operator's own password.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`, `ETAG_MISMATCH`, `FIELD_INVALID`, the refusal of the lead's state, and those of
    /// [`crate::auth::verify_own_password`].
    pub async fn prepare_update(&self, call: &Call, update: Update) -> Result<Mutation<Lead>> {
        let lead = self.get(update.id).await?;
        let after = update.check(&lead)?;
        let changes_email = after.email_key() != lead.details.email_key();
        if changes_email {
            let password = update.current_password.as_ref();
            crate::auth::verify_own_password(&self.auth, call, password).await?;
        }
        Ok(update.mutation(changes_email))
    }
}

impl Update {
    /// Whether it sets the email.
    pub fn names_email(&self) -> bool {
        self.patch.names("email")
    }

    /// The update of an OPEN lead. If it would change the email although `may_change_email` is false, the
    /// decision is [`Decision::Stale`].
    pub fn mutation(self, may_change_email: bool) -> Mutation<Lead> {
        let locks = LockSet::default().record::<Lead>(self.id);
        mutation(locks, move |unit| self.decide(unit, may_change_email))
    }

    /// Checks whether the lead allows the update, and returns the fields after it.
    fn check(&self, lead: &Lead) -> Result<Details> {
        check_etag(&self.etag, lead.version)?;
        lead.effect(Transition::Update)?;
        let after = self.patch.apply(&lead.details);
        let mut violations = Violations::default();
        after.check_whole(&mut violations);
        if after.owner_id != lead.details.owner_id {
            self.owner.check(&mut violations, "lead.owner_id");
        }
        violations.finish()?;
        Ok(after)
    }

    fn decide(&self, unit: &mut UnitOfWork<'_>, may_change_email: bool) -> Result<Decision<Lead>> {
        let lead = locked(unit, self.id)?;
        let details = self.check(lead)?;
        if details.email_key() != lead.details.email_key() && !may_change_email {
            return Ok(Decision::Stale);
        }
        let changes = details.changes_from(&lead.details);
        match (changes.is_empty(), self.validate_only) {
            (true, true) => return Ok(Decision::Preview(lead.clone())),
            (true, false) => return Ok(Decision::Commit(lead.clone())),
            (false, true) => {
                let lead = lead.clone();
                return Ok(Decision::Preview(Lead { details, ..lead }));
            }
            (false, false) => {}
        }
        let time = unit.clock.time_after(lead.update_time);
        let after = Lead {
            details,
            ..lead.next(Status::Open, time)
        };
        unit.put(after.clone());
        unit.record_change(
            Change::of(&after, "lead.updated", changes).changed("lead", lead, &after)?,
        );
        Ok(Decision::Commit(after))
    }
}
