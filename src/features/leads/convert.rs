//! Converts a lead: to a client of its own, or into a client that exists, to which it is then joined.
//!
//! A client is the lead it was, so a conversion to a client of its own only changes the lead's state. A lead that is
//! joined to a client keeps its record, and everything that refers to it; the client's empty fields are filled from it,
//! and those that the caller names are overwritten.

use secrecy::SecretString;
use uuid::Uuid;

use super::model::{
    Conversion, Effect, Lead, MAX_JOINED_LEADS, Mask, Merge, References, Report, Status, Transition,
};
use super::{Leads, errors, locked, state_change};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag};
use crate::core::call::Call;
use crate::core::field_change::FieldChange;
use crate::error::Result;

/// The input of a conversion by hand.
#[derive(Clone)]
pub struct Convert {
    /// The lead.
    pub change: Target,
    /// The client to join it to; `None` for a client of its own.
    pub into: Option<Join>,
}

/// The client to join a lead to.
#[derive(Clone)]
pub struct Join {
    /// The client.
    pub client_id: Uuid,
    /// The client's fields to overwrite.
    pub overwrite: Mask,
    /// The operator's own password, which is required if the client's email changes.
    pub current_password: Option<SecretString>,
}

/// The outcome of a conversion.
pub struct Converted {
    /// The lead.
    pub lead: Lead,
    /// The client.
    pub client: Lead,
    /// What became of the lead's fields, and what refers to it.
    pub report: Report,
}

impl Leads {
    /// Prepares a conversion: reads what refers to the lead, and if the client's email would change, verifies the
    /// operator's own password.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`, `ETAG_MISMATCH`, the refusal of the lead's state, `CLIENT_NOT_FOUND`, `CLIENT_FULL`, and those
    /// of [`crate::auth::verify_own_password`]; and later as [`convert`].
    pub async fn prepare_convert(
        &self,
        call: &Call,
        convert: Convert,
    ) -> Result<Mutation<Converted>> {
        let references = self.references(convert.change.id).await?;
        let mut may_change_email = false;
        if let Some(join) = &convert.into
            && join.overwrite.names("email")
        {
            let lead = self.get(convert.change.id).await?;
            check_etag(&convert.change.etag, lead.version)?;
            lead.effect(Transition::Convert)?;
            let client = self.find(join.client_id).await?;
            let client = joinable(client.as_ref(), join.client_id)?;
            let merge = Merge::into_client(&lead.details, &client.details, &join.overwrite);
            may_change_email = changes_email(client, &merge);
        }
        if may_change_email {
            let join = convert.into.as_ref();
            let password = join.and_then(|join| join.current_password.as_ref());
            crate::auth::verify_own_password(&self.auth, call, password).await?;
        }
        Ok(convert.mutation(references, may_change_email))
    }
}

/// Whether a client that has an email would get another one.
fn changes_email(client: &Lead, merge: &Merge) -> bool {
    let email = client.details.email_key();
    !email.is_empty() && merge.details.email_key() != email
}

impl Convert {
    /// Whether a password is given, which is verified if the client's email would change.
    pub fn verifies_password(&self) -> bool {
        let join = self.into.as_ref();
        join.is_some_and(|join| join.current_password.is_some())
    }

    /// The conversion of an OPEN lead. If it would change the client's email although `may_change_email` is false, the
    /// decision is [`Decision::Stale`].
    pub fn mutation(self, references: References, may_change_email: bool) -> Mutation<Converted> {
        let mut locks = LockSet::default().record::<Lead>(self.change.id);
        if let Some(join) = &self.into {
            locks = locks.record::<Lead>(join.client_id);
        }
        let root = |converted: &Converted| converted.lead.id;
        let mutation = Mutation::new(locks, root, move |unit| {
            let lead = locked(unit, self.change.id)?;
            check_etag(&self.change.etag, lead.version)?;
            let into = self.into.as_ref();
            let into = into.map(|join| (join.client_id, &join.overwrite));
            // Convert always has an effect, or is refused.
            let Some(step) = convert(unit, lead, Transition::Convert, None, into)? else {
                return Ok(Decision::Stale);
            };
            if let Some((client, _)) = &step.joined
                && changes_email(client, &step.merge)
                && !may_change_email
            {
                return Ok(Decision::Stale);
            }
            let references = references.clone();
            if self.change.validate_only {
                return Ok(Decision::Preview(step.into_preview().report(references)));
            }
            unit.put(step.lead.clone());
            let change = Change::of(&step.lead, "lead.converted", step.changes());
            unit.record_change(change.changed("lead", lead, &step.lead)?);
            step.write_client(unit)?;
            Ok(Decision::Commit(step.report(references)))
        });
        mutation.with_more_roots(|converted| converted.lead.joined_to().into_iter().collect())
    }
}

/// A conversion that is decided.
#[derive(Clone)]
pub struct Step {
    /// The lead before.
    before: Lead,
    /// The lead.
    pub lead: Lead,
    /// The client that it is joined to, before and after; `None` for a client of its own.
    joined: Option<(Lead, Lead)>,
    merge: Merge,
}

/// Decides on a conversion, into the client with this id or to a client of its own. `None` if there is nothing to do.
/// With a client, the mask says which of its fields are overwritten; the client must be locked.
///
/// # Errors
/// The refusal of the lead's state, `CLIENT_NOT_FOUND`, `CLIENT_FULL`, and `LEAD_ERASED` if the client is erased.
pub fn convert(
    unit: &UnitOfWork<'_>,
    lead: &Lead,
    transition: Transition,
    order_id: Option<Uuid>,
    into: Option<(Uuid, &Mask)>,
) -> Result<Option<Step>> {
    if lead.effect(transition)? == Effect::NoChange {
        return Ok(None);
    }
    let time = unit.clock.time_after(lead.update_time);
    let actor = (*unit.call.principal).clone();
    let client_id = into.map_or(lead.id, |(client_id, _)| client_id);
    let mut conversion = Conversion::new(time, actor, client_id, order_id);
    let (mut joined, mut merge) = (None, Merge::own(&lead.details));
    if let Some((client_id, overwrite)) = into {
        let client = joinable(unit.get(client_id), client_id)?;
        let mut leads = client
            .conversion()
            .map(|by| by.joined_leads.clone())
            .unwrap_or_default();
        if leads.len() >= MAX_JOINED_LEADS {
            return Err(errors::client_full(client_id));
        }
        leads.push(lead.id);
        merge = Merge::into_client(&lead.details, &client.details, overwrite);
        conversion.carried.clone_from(&merge.carried);
        let time = unit.clock.time_after(client.update_time);
        let after = client.next_client(merge.details.clone(), leads, time);
        joined = Some((client.clone(), after));
    }
    Ok(Some(Step {
        before: lead.clone(),
        lead: lead.next(Status::Converted { conversion }, time),
        joined,
        merge,
    }))
}

/// The client with this id, to which leads can be joined.
///
/// # Errors
/// `CLIENT_NOT_FOUND`; `LEAD_ERASED`.
pub fn joinable(found: Option<&Lead>, id: Uuid) -> Result<&Lead> {
    let client = Lead::as_client(found, id)?;
    match client.erasure {
        None => Ok(client),
        Some(_) => Err(errors::client_erased(client)),
    }
}

impl Step {
    /// The client.
    pub fn client(&self) -> &Lead {
        self.joined.as_ref().map_or(&self.lead, |(_, after)| after)
    }

    /// The changes of the lead, for its history.
    pub fn changes(&self) -> Vec<FieldChange> {
        let mut changes = vec![state_change(&self.before, &self.lead)];
        if let Some((client, _)) = &self.joined {
            let client_id = client.id.to_string();
            changes.push(FieldChange::new("conversion.client_id", "", client_id));
        }
        changes
    }

    /// The lead before.
    pub fn before(&self) -> &Lead {
        &self.before
    }

    /// Writes the next version of the client that the lead is joined to.
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be serialised as JSON.
    pub fn write_client(&self, unit: &mut UnitOfWork<'_>) -> Result<()> {
        match &self.joined {
            None => Ok(()),
            Some((before, after)) => {
                let joined = FieldChange::new("lead_ids", "", self.lead.id.to_string());
                write_client(unit, "client.lead_joined", before, after, joined)
            }
        }
    }

    /// As shown by `validate_only`.
    pub fn into_preview(self) -> Self {
        let joined = self.joined.map(|(before, after)| {
            let after = after.into_preview(&before);
            (before, after)
        });
        Self {
            lead: self.lead.into_preview(&self.before),
            joined,
            ..self
        }
    }

    /// The outcome, with what refers to the lead.
    pub fn report(self, mut references: References) -> Converted {
        let client_id = self.client().id;
        references
            .look_alikes
            .retain(|other| other.lead_id != client_id);
        Converted {
            client: self.client().clone(),
            lead: self.lead,
            report: Report {
                outcomes: self.merge.outcomes,
                references,
            },
        }
    }
}

/// Writes the next version of a client to which a lead was joined, or from which one was separated.
///
/// # Errors
/// `INTERNAL` if it cannot be serialised as JSON.
pub(super) fn write_client(
    unit: &mut UnitOfWork<'_>,
    event: &'static str,
    before: &Lead,
    after: &Lead,
    lead: FieldChange,
) -> Result<()> {
    let mut changes = after.details.changes_from(&before.details);
    changes.push(lead);
    unit.put(after.clone());
    unit.record_change(Change::of(after, event, changes).changed("lead", before, after)?);
    Ok(())
}
