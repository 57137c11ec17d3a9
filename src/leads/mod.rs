//! Leads: look up, edit, deactivate, reactivate, convert.
//!
//! Every change follows one line: lock the lead, check the etag, ask the model what the state
//! allows, write the next version by a conditional UPDATE, record it. [`convert`] is that line for
//! `LeadService.Convert` and for an order's PROVISION_CLIENT action alike.

pub mod api;
pub mod erase;
pub mod lists;
pub mod model;
pub mod search;
pub mod store;

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use prost::Message;
use secrecy::SecretString;
use uuid::Uuid;

use crate::auth::{self, Call};
use crate::changes::desk::{Answering, Desk};
use crate::changes::draft::{Draft, Needs};
use crate::changes::history;
use crate::changes::{Change, FieldChange, Record, Subject, check_etag, idempotency, time_after};
use crate::db::Verdict;
use crate::error::{Error, Result};
use crate::operators::model::Ownership;
use crate::wire::page::{Page, Window};
use crate::wire::violations::Violations;
use model::{
    Conversion, Deactivation, Details, Effect, Filter, Lead, LeadState, Ordering, Patch, Status,
    Transition,
};

/// How often an update whose email turned out to change meanwhile is begun anew.
const UPDATE_TRIES: usize = 3;

/// A lead that is to be created.
pub struct NewLead {
    /// What is known of it.
    pub details: Details,
    /// Whether the owner named there may become it.
    pub owner: Ownership,
    /// Whether another lead may have its email.
    pub allow_duplicate: bool,
}

/// Creates an OPEN lead.
///
/// # Errors
/// [`Error::DuplicateLead`] when another lead has the email and none may; [`Error::FieldInvalid`] when
/// the owner is disabled.
pub async fn create<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    new: NewLead,
    validate_only: bool,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    // Two who create the same lead at once: the second waits and finds the first.
    let email = new.details.email_key();
    let needs = Needs {
        email: (!email.is_empty() && !new.allow_duplicate).then_some(email),
        ..Needs::default()
    };
    let asked = needs.email.clone().unwrap_or_default();
    desk.change(call, needs, answering, move |draft| {
        let mut violations = Violations::default();
        new.owner.check(&mut violations, "lead.owner_id");
        violations.finish()?;
        if let Some((id, state)) = draft.lead_with_email(&asked) {
            return Err(Error::DuplicateLead { id, state });
        }
        let now = draft.clock.now();
        let lead = Lead {
            id: draft.clock.new_id(),
            seq: 0,
            version: 1,
            details: new.details.clone(),
            status: Status::Open,
            erasure: None,
            create_time: now,
            update_time: now,
        };
        if validate_only {
            return Ok(Verdict::Checked(lead));
        }
        draft.put_lead(lead.clone());
        let mut changes = lead.details.changes_from(&Details::default());
        changes.push(FieldChange::new("state", "", lead.state().word()));
        record(draft, None, &lead, "lead.created", changes)?;
        Ok(Verdict::Done(lead))
    })
    .await
}

/// A lead, whatever its state.
///
/// # Errors
/// [`Error::LeadNotFound`].
pub async fn get(desk: &Desk, id: Uuid) -> Result<Lead> {
    let found = desk.leads.get(&desk.db, id).await?;
    found.ok_or(Error::LeadNotFound(id))
}

/// Looks leads up together, for [`Desk::leads`].
pub fn look_up(
    db: crate::db::reader::Reader,
    ids: Vec<Uuid>,
) -> BoxFuture<'static, Result<HashMap<Uuid, Lead>>> {
    Box::pin(async move {
        let leads = store::get_many(&db, ids).await?;
        Ok(leads.into_iter().map(|lead| (lead.id, lead)).collect())
    })
}

/// A page of leads by filter and order.
///
/// # Errors
/// [`Error::PageTokenInvalid`].
pub async fn list<R: Message>(
    desk: &Desk,
    filter: &Filter,
    ordering: Ordering,
    window: Window,
    render: fn(Lead) -> R,
) -> Result<Page<R>> {
    let after = window.begin()?;
    let db = desk.db.pages(window.principal).await?;
    let rows = lists::list(&db, filter, ordering, after.as_ref(), window.limit()).await?;
    window.cut(rows, |last| ordering.position(last), render)
}

/// A page of leads that contain `query`, newest first.
///
/// # Errors
/// [`Error::PageTokenInvalid`].
pub async fn search<R: Message>(
    desk: &Desk,
    query: &str,
    states: &[LeadState],
    window: Window,
    render: fn(Lead) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    let query = model::fold(query);
    let db = desk.db.pages(window.principal).await?;
    let rows = search::search(&db, &query, states, before, window.limit()).await?;
    window.cut(rows, |last| last.seq, render)
}

/// An update: what to change and what allows it.
#[derive(Clone)]
pub struct Update {
    /// Which lead.
    pub id: Uuid,
    /// The version it is meant for; empty for any.
    pub etag: String,
    /// What to change.
    pub patch: Patch,
    /// Whether the owner it names may become the lead's.
    pub owner: Ownership,
    /// The operator's own password, for when the email changes.
    pub current_password: Option<SecretString>,
    /// Check only.
    pub validate_only: bool,
}

/// Edits an OPEN lead. When the email changes, the operator's own password is verified first, with
/// no connection held; the transaction then decides again on the lead as it finds it.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::EtagMismatch`], [`Error::LeadRefused`], those of
/// [`auth::verify_own_password`], [`Error::WriteConflict`].
pub async fn update<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    update: Update,
    render: fn(Lead) -> R,
) -> Result<R> {
    let mut verified = false;
    for _ in 0..UPDATE_TRIES {
        if update.patch.names("email") && !verified {
            if let Some(kept) = idempotency::replay(&desk.db, &call).await? {
                return Ok(kept);
            }
            let lead = get(desk, update.id).await?;
            let after = match update.check(&lead) {
                Ok(after) => after,
                Err(refusal) => {
                    return idempotency::refuse(&desk.db, &call, refusal).await;
                }
            };
            if after.email_key() != lead.details.email_key() {
                auth::verify_own_password(desk, &call, update.current_password.as_ref()).await?;
                verified = true;
            }
        }
        match update.write(desk, call.clone(), verified, render).await? {
            Some(answer) => return Ok(answer),
            None => continue,
        }
    }
    Err(Error::WriteConflict)
}

impl Update {
    /// The details after the update, if the lead allows it.
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

    /// Makes the update; none when the email changes and nothing was verified for it.
    async fn write<R: Message + Default + 'static>(
        &self,
        desk: &Desk,
        call: Call,
        verified: bool,
        render: fn(Lead) -> R,
    ) -> Result<Option<R>> {
        let update = self.clone();
        let outcome = desk
            .change(
                call,
                Needs::lead(self.id),
                Answering {
                    render,
                    lead: |lead| lead.id,
                },
                move |draft| update.apply(draft, verified),
            )
            .await;
        match outcome {
            Err(Error::CurrentPasswordRequired) if !verified => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn apply(&self, draft: &mut Draft<'_>, verified: bool) -> Result<Verdict<Lead>> {
        let lead = draft.lead(self.id)?.clone();
        let details = self.check(&lead)?;
        if details.email_key() != lead.details.email_key() && !verified {
            return Err(Error::CurrentPasswordRequired);
        }
        let changes = details.changes_from(&lead.details);
        if changes.is_empty() {
            return Ok(if self.validate_only {
                Verdict::Checked(lead)
            } else {
                Verdict::Done(lead)
            });
        }
        if self.validate_only {
            return Ok(Verdict::Checked(Lead { details, ..lead }));
        }
        let after = Lead {
            details,
            ..lead.next(Status::Open, time_after(draft.clock, lead.update_time))
        };
        draft.put_lead(after.clone());
        record(draft, Some(&lead), &after, "lead.updated", changes)?;
        Ok(Verdict::Done(after))
    }
}

/// A deactivation.
#[derive(Clone)]
pub struct Deactivate {
    /// Which lead.
    pub id: Uuid,
    /// The version it is meant for; empty for any.
    pub etag: String,
    /// Why; may be empty.
    pub reason: String,
    /// Check only.
    pub validate_only: bool,
}

/// Deactivates an OPEN lead.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::EtagMismatch`], [`Error::LeadRefused`].
pub async fn deactivate<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    deactivate: Deactivate,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, Needs::lead(deactivate.id), answering, move |draft| {
        let lead = draft.lead(deactivate.id)?;
        check_etag(&deactivate.etag, lead.version)?;
        lead.effect(Transition::Deactivate)?;
        let time = time_after(draft.clock, lead.update_time);
        let actor = draft.call.principal.clone();
        let mut changes = Vec::new();
        let reason = deactivate.reason.clone();
        if !reason.is_empty() {
            changes.push(FieldChange::new("deactivation.reason", "", &reason));
        }
        let deactivation = Deactivation {
            time,
            actor,
            reason,
        };
        let after = lead.next(Status::Deactivated { deactivation }, time);
        if deactivate.validate_only {
            return Ok(Verdict::Checked(after.unwritten(lead)));
        }
        transit(draft, lead, after, "lead.deactivated", changes)
    })
    .await
}

/// Brings a DEACTIVATED lead back to OPEN.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::EtagMismatch`], [`Error::LeadRefused`].
pub async fn reactivate<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    id: Uuid,
    etag: String,
    validate_only: bool,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, Needs::lead(id), answering, move |draft| {
        let lead = draft.lead(id)?;
        check_etag(&etag, lead.version)?;
        lead.effect(Transition::Reactivate)?;
        let after = lead.next(Status::Open, time_after(draft.clock, lead.update_time));
        if validate_only {
            return Ok(Verdict::Checked(after.unwritten(lead)));
        }
        transit(draft, lead, after, "lead.reactivated", Vec::new())
    })
    .await
}

/// Converts an OPEN lead by hand.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::EtagMismatch`], [`Error::LeadRefused`].
pub async fn convert_by_hand<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    id: Uuid,
    etag: String,
    validate_only: bool,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, Needs::lead(id), answering, move |draft| {
        let lead = draft.lead(id)?;
        check_etag(&etag, lead.version)?;
        let (converted, _) = convert(draft, lead, Transition::Convert, None)?;
        if validate_only {
            return Ok(Verdict::Checked(converted.unwritten(lead)));
        }
        transit(draft, lead, converted, "lead.converted", Vec::new())
    })
    .await
}

/// Decides on a conversion: the lead as converted, or as it is when there is nothing to do, and
/// which of the two.
///
/// # Errors
/// [`Error::LeadRefused`].
pub fn convert(
    draft: &Draft<'_>,
    lead: &Lead,
    transition: Transition,
    order_id: Option<Uuid>,
) -> Result<(Lead, Effect)> {
    let effect = lead.effect(transition)?;
    if effect == Effect::NoChange {
        return Ok((lead.clone(), effect));
    }
    let time = time_after(draft.clock, lead.update_time);
    let conversion = Conversion::new(time, draft.call.principal.clone(), lead.id, order_id);
    Ok((lead.next(Status::Converted { conversion }, time), effect))
}

/// A page of a lead's changes, newest first.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::PageTokenInvalid`].
pub async fn list_history<R: Message>(
    desk: &Desk,
    id: Uuid,
    window: Window,
    render: fn(history::Entry) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    get(desk, id).await?;
    let db = desk.db.pages(window.principal).await?;
    let rows = history::list(&db, id, before, window.limit()).await?;
    window.cut(rows, |last| last.version, render)
}

/// Writes a lead's transition to another state.
fn transit(
    draft: &mut Draft<'_>,
    before: &Lead,
    after: Lead,
    event: &'static str,
    mut changes: Vec<FieldChange>,
) -> Result<Verdict<Lead>> {
    draft.put_lead(after.clone());
    changes.insert(0, state_change(before, &after));
    record(draft, Some(before), &after, event, changes)?;
    Ok(Verdict::Done(after))
}

/// How a lead's state changed, for the history.
pub fn state_change(before: &Lead, after: &Lead) -> FieldChange {
    FieldChange::new("state", before.state().word(), after.state().word())
}

/// Records a change of a lead; `before` is none where the event is to hold the whole lead.
fn record(
    draft: &mut Draft<'_>,
    before: Option<&Lead>,
    lead: &Lead,
    event: &'static str,
    changes: Vec<FieldChange>,
) -> Result<()> {
    let record = match before {
        Some(before) => Record::default().changed("lead", before, lead)?,
        None => Record::default().whole("lead", lead)?,
    };
    draft.record(Change {
        subject: Subject::Lead,
        subject_id: lead.id,
        lead_id: lead.id,
        version: lead.version,
        event,
        time: lead.update_time,
        changes,
        record,
    });
    Ok(())
}
