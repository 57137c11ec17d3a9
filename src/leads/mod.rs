//! Leads: look up, edit, deactivate, reactivate, convert.
//!
//! Every change follows one line: lock the lead, check the etag, ask the model what the state
//! allows, write the next version by a conditional UPDATE, record it. [`convert`] is that line for
//! `LeadService.Convert` and for an order's PROVISION_CLIENT action alike.

pub mod api;
pub mod model;
pub mod store;

use prost::Message;
use secrecy::SecretString;
use uuid::Uuid;

use crate::auth::{self, Call};
use crate::changes::desk::{Answering, Desk};
use crate::changes::history;
use crate::changes::{Change, FieldChange, Subject, check_etag, idempotency, time_after};
use crate::db::json::to_json;
use crate::db::{Tx, Verdict};
use crate::error::{Error, Result};
use crate::wire::page::{Page, Window};
use crate::wire::violations::Violations;
use model::{
    Conversion, Deactivation, Details, Effect, Filter, Lead, LeadState, Ordering, Patch, Status,
    Transition,
};

/// How often an update whose email turned out to change meanwhile is begun anew.
const UPDATE_TRIES: usize = 3;

/// Creates an OPEN lead.
///
/// # Errors
/// [`Error::DuplicateLead`] when another lead has the email and `allow_duplicate` does not say so.
pub async fn create<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    details: Details,
    allow_duplicate: bool,
    validate_only: bool,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let email = details.email_key();
            if !email.is_empty() && !allow_duplicate {
                // Two who create the same lead at once: the second waits and finds the first.
                tx.lock(&format!("email/{email}")).await?;
                if let Some(other) = store::with_email(&**tx, &email).await? {
                    return Err(Error::DuplicateLead {
                        id: other.id,
                        state: other.state(),
                    });
                }
            }
            let now = tx.clock.now();
            let lead = Lead {
                id: tx.clock.new_id(),
                seq: 0,
                version: 1,
                details,
                status: Status::Open,
                create_time: now,
                update_time: now,
            };
            if validate_only {
                return Ok(Verdict::Checked(lead));
            }
            store::insert(tx, &lead).await?;
            let mut changes = lead.details.changes_from(&Details::default());
            changes.push(FieldChange::new("state", "", lead.state().word()));
            record(tx, call, &lead, "lead.created", changes).await?;
            Ok(Verdict::Done(lead))
        })
    })
    .await
}

/// A lead, whatever its state.
///
/// # Errors
/// [`Error::LeadNotFound`].
pub async fn get(desk: &Desk, id: Uuid) -> Result<Lead> {
    let found = store::get(desk.db.read(), id).await?;
    found.ok_or(Error::LeadNotFound(id))
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
    let rows = store::list(
        desk.db.read(),
        filter,
        ordering,
        after.as_ref(),
        window.limit(),
    )
    .await?;
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
    let rows = store::search(desk.db.read(), &query, states, before, window.limit()).await?;
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
            if let Some(kept) = idempotency::replay(desk.db.read(), &call).await? {
                return Ok(kept);
            }
            let lead = get(desk, update.id).await?;
            let after = update.check(&lead)?;
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
                Answering {
                    render,
                    lead: |lead| lead.id,
                },
                move |tx, call| Box::pin(async move { update.apply(tx, call, verified).await }),
            )
            .await;
        match outcome {
            Err(Error::CurrentPasswordRequired) if !verified => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    async fn apply(&self, tx: &Tx, call: &Call, verified: bool) -> Result<Verdict<Lead>> {
        let lead = store::get_to_change(tx, self.id).await?;
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
            ..lead.next(Status::Open, time_after(tx, lead.update_time))
        };
        store::update(tx, &lead, &after).await?;
        record(tx, call, &after, "lead.updated", changes).await?;
        Ok(Verdict::Done(after))
    }
}

/// Sets an OPEN lead aside.
///
/// # Errors
/// [`Error::LeadNotFound`], [`Error::EtagMismatch`], [`Error::LeadRefused`].
pub async fn deactivate<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    id: Uuid,
    etag: String,
    reason: String,
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let lead = store::get_to_change(tx, id).await?;
            check_etag(&etag, lead.version)?;
            lead.effect(Transition::Deactivate)?;
            let time = time_after(tx, lead.update_time);
            let actor = call.principal.clone();
            let mut changes = Vec::new();
            if !reason.is_empty() {
                changes.push(FieldChange::new("deactivation.reason", "", &reason));
            }
            let deactivation = Deactivation {
                time,
                actor,
                reason,
            };
            let after = lead.next(Status::Deactivated { deactivation }, time);
            transit(tx, call, &lead, after, "lead.deactivated", changes).await
        })
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
    render: fn(Lead) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let lead = store::get_to_change(tx, id).await?;
            check_etag(&etag, lead.version)?;
            lead.effect(Transition::Reactivate)?;
            let after = lead.next(Status::Open, time_after(tx, lead.update_time));
            transit(tx, call, &lead, after, "lead.reactivated", Vec::new()).await
        })
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
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let lead = store::get_to_change(tx, id).await?;
            check_etag(&etag, lead.version)?;
            let (converted, _) = convert(tx, call, &lead, Transition::Convert, None)?;
            if validate_only {
                let unchanged = Lead {
                    version: lead.version,
                    update_time: lead.update_time,
                    ..converted
                };
                return Ok(Verdict::Checked(unchanged));
            }
            transit(tx, call, &lead, converted, "lead.converted", Vec::new()).await
        })
    })
    .await
}

/// Decides on a conversion: the lead as converted, or as it is when there is nothing to do, and
/// which of the two.
///
/// # Errors
/// [`Error::LeadRefused`].
pub fn convert(
    tx: &Tx,
    call: &Call,
    lead: &Lead,
    transition: Transition,
    order_id: Option<Uuid>,
) -> Result<(Lead, Effect)> {
    let effect = lead.effect(transition)?;
    if effect == Effect::NoChange {
        return Ok((lead.clone(), effect));
    }
    let time = time_after(tx, lead.update_time);
    let conversion = Conversion::new(time, call.principal.clone(), lead.id, order_id);
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
    let rows = history::list(desk.db.read(), id, before, window.limit()).await?;
    window.cut(rows, |last| last.version, render)
}

/// Writes a lead's transition to another state.
async fn transit(
    tx: &Tx,
    call: &Call,
    before: &Lead,
    after: Lead,
    event: &'static str,
    mut changes: Vec<FieldChange>,
) -> Result<Verdict<Lead>> {
    store::update(tx, before, &after).await?;
    changes.insert(0, state_change(before, &after));
    record(tx, call, &after, event, changes).await?;
    Ok(Verdict::Done(after))
}

/// How a lead's state changed, for the history.
pub fn state_change(before: &Lead, after: &Lead) -> FieldChange {
    FieldChange::new("state", before.state().word(), after.state().word())
}

async fn record(
    tx: &Tx,
    call: &Call,
    lead: &Lead,
    event: &'static str,
    changes: Vec<FieldChange>,
) -> Result<()> {
    Change {
        subject: Subject::Lead,
        subject_id: lead.id,
        lead_id: lead.id,
        version: lead.version,
        event,
        time: lead.update_time,
        changes,
        record: serde_json::json!({ "lead": to_json(lead)? }),
    }
    .record(tx, call)
    .await
}
