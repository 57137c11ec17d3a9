//! Reverts a conversion: the lead is OPEN again, and a client that it was joined to gets back what it had before.
//!
//! It is refused once something was built on the conversion. To know that, the lead is locked with everything that
//! belongs to it, so that no order is completed and no lead is joined meanwhile.

use chrono::TimeDelta;
use uuid::Uuid;

use super::convert::write_client;
use super::errors::Settled;
use super::model::{Conversion, Lead, Status, Transition, restored};
use super::{Leads, errors, locked, mutation, state_change};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag};
use crate::core::field_change::FieldChange;
use crate::error::Result;

/// Finds an order of a lead that is COMPLETE. The lead is locked with its orders.
pub type CompleteOrder = fn(&UnitOfWork<'_>, Uuid) -> Option<Uuid>;

/// What decides whether a conversion can be reverted.
#[derive(Clone, Copy)]
pub struct Reversal {
    /// Days within which it can be; 0 for never.
    pub days: u32,
    /// Orders know leads, but leads do not know orders.
    pub complete_order: CompleteOrder,
}

impl std::fmt::Debug for Reversal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reversal")
            .field("days", &self.days)
            .finish_non_exhaustive()
    }
}

impl Leads {
    /// Reverts the conversion of a CONVERTED lead.
    ///
    /// Fails with `LEAD_NOT_FOUND`, `ETAG_MISMATCH`, the refusal of the lead's state, `CONVERSION_SETTLED`.
    pub fn revert(&self, change: Target) -> Mutation<Lead> {
        let rules = self.reversal;
        let locks = LockSet::default().with_attached::<Lead>(change.id);
        mutation(locks, move |unit| rules.decide(unit, &change))
    }
}

impl Reversal {
    fn decide(self, unit: &mut UnitOfWork<'_>, change: &Target) -> Result<Decision<Lead>> {
        let lead = locked(unit, change.id)?;
        check_etag(&change.etag, lead.version)?;
        lead.effect(Transition::RevertConversion)?;
        let Some(conversion) = lead.conversion() else {
            return Ok(Decision::Stale);
        };
        let time = unit.clock.time_after(lead.update_time);
        self.check_unsettled(unit, lead, conversion, time)?;
        let after = lead.next(Status::Open, time);
        if change.validate_only {
            return Ok(Decision::Preview(after.into_preview(lead)));
        }
        unit.put(after.clone());
        let mut changes = vec![state_change(lead, &after)];
        if let Some(client_id) = lead.joined_to() {
            let client_id = client_id.to_string();
            changes.push(FieldChange::new("conversion.client_id", client_id, ""));
        }
        let change = Change::of(&after, "lead.conversion_reverted", changes);
        unit.record_change(change.changed("lead", lead, &after)?);
        if let Some(client_id) = lead.joined_to() {
            separate(unit, lead, conversion, locked(unit, client_id)?)?;
        }
        Ok(Decision::Commit(after))
    }

    fn check_unsettled(
        self,
        unit: &UnitOfWork<'_>,
        lead: &Lead,
        conversion: &Conversion,
        time: chrono::DateTime<chrono::Utc>,
    ) -> Result<()> {
        let settled = |cause| Err(errors::conversion_settled(lead, cause));
        if self.days == 0 {
            return settled(Settled::Period(None));
        }
        let period = TimeDelta::days(i64::from(self.days));
        // A period that ends after all times never ends.
        let end = conversion.time.checked_add_signed(period);
        // Nor does a clock that was far ahead at the conversion prolong it by more than its own length.
        let is_early = conversion.time - time > period;
        if let Some(end) = end.filter(|end| time > *end || is_early) {
            return settled(Settled::Period(Some(end)));
        }
        if let Some(order_id) = (self.complete_order)(unit, lead.id) {
            return settled(Settled::OrderComplete(order_id));
        }
        match conversion.joined_leads.last() {
            Some(lead_id) => settled(Settled::Joined(*lead_id)),
            None => Ok(()),
        }
    }
}

/// Separates a lead from its client: the client gets back what it had before, where nobody has changed it since. Nothing
/// is restored in an erased client.
fn separate(
    unit: &mut UnitOfWork<'_>,
    lead: &Lead,
    conversion: &Conversion,
    client: &Lead,
) -> Result<()> {
    let details = match client.erasure {
        None => restored(&client.details, &conversion.carried),
        Some(_) => client.details.clone(),
    };
    let joined = client.conversion().map(|by| by.joined_leads.clone());
    let mut joined = joined.unwrap_or_default();
    joined.retain(|id| *id != lead.id);
    let time = unit.clock.time_after(client.update_time);
    let after = client.next_client(details, joined, time);
    let left = FieldChange::new("lead_ids", lead.id.to_string(), "");
    write_client(unit, "client.lead_left", client, &after, left)
}
