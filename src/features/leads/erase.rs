//! Erases a lead: removes its personal data from the lead and from everything stored about it. What remains
//! is that there was a lead, its state, and who did what to it and when.

use secrecy::SecretString;

use super::model::{Lead, Transition};
use super::{Leads, locked, mutation, store};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag};
use crate::core::call::Call;
use crate::core::field_change::FieldChange;
use crate::error::Result;

impl Leads {
    /// Prepares the erasure of a lead in any state: verifies the operator's own password, without holding a
    /// connection. When the change is committed and its response sent, SQLite's files no longer contain the
    /// data; on PostgreSQL a VACUUM in the background removes it.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`, `ETAG_MISMATCH`, the refusal of the lead's state, and those of
    /// [`crate::auth::verify_own_password`].
    pub async fn prepare_erasure(
        &self,
        call: &Call,
        change: Target,
        current_password: Option<&SecretString>,
    ) -> Result<Mutation<Lead>> {
        check(&change, &self.get(change.id).await?)?;
        crate::auth::verify_own_password(&self.auth, call, current_password).await?;
        let locks = LockSet::default().with_attached::<Lead>(change.id);
        Ok(mutation(locks, move |unit| decide(unit, &change)))
    }
}

fn check(change: &Target, lead: &Lead) -> Result<()> {
    check_etag(&change.etag, lead.version)?;
    lead.effect(Transition::Erase)?;
    Ok(())
}

fn decide(unit: &mut UnitOfWork<'_>, change: &Target) -> Result<Decision<Lead>> {
    let lead = locked(unit, change.id)?;
    check(change, lead)?;
    let time = unit.clock.time_after(lead.update_time);
    let after = lead.erased((*unit.call.principal).clone(), time);
    if change.validate_only {
        return Ok(Decision::Preview(after.into_preview(lead)));
    }
    // The names of the fields are kept, without their values.
    let fields = after.details.changes_from(&lead.details).into_iter();
    let changes = fields.map(|change| FieldChange::new(change.field, "", ""));
    unit.put(after.clone());
    unit.record_change(Change::of(&after, "lead.erased", changes.collect()).whole("lead", &after)?);
    unit.erase_attached_and_past::<Lead>(after.id)?;
    // The leads that were joined to it say what it had before, and what it got from them.
    if after
        .conversion()
        .is_some_and(|by| !by.joined_leads.is_empty())
    {
        unit.execute(store::forget_carried(after.id));
    }
    Ok(Decision::Commit(after))
}
