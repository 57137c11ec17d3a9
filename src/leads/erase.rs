//! Erasing a lead: its personal data goes, from the lead and from everything that was kept of it;
//! that there was a lead, where it stood, and who did what to it when, stays.

use prost::Message;
use secrecy::SecretString;
use uuid::Uuid;

use super::model::{Lead, Transition};
use super::{get, record};
use crate::auth::{self, Call};
use crate::changes::desk::{Answering, Desk};
use crate::changes::draft::{Draft, Erased, Needs};
use crate::changes::{FieldChange, check_etag, idempotency, time_after};
use crate::db::Verdict;
use crate::error::Result;
use crate::{opportunities, orders};

/// What is to be erased, and what allows it.
#[derive(Clone)]
pub struct Erase {
    /// Which lead.
    pub id: Uuid,
    /// The version it is meant for; empty for any.
    pub etag: String,
    /// The operator's own password.
    pub current_password: Option<SecretString>,
    /// Check only.
    pub validate_only: bool,
}

/// Erases a lead, in whatever state it is. The operator's own password is verified first, with no
/// connection held. When this answers, SQLite's files hold nothing of it any more; PostgreSQL is
/// about to vacuum what it held.
///
/// # Errors
/// [`crate::error::Error::LeadNotFound`], [`crate::error::Error::EtagMismatch`],
/// [`crate::error::Error::LeadRefused`], those of [`auth::verify_own_password`].
pub async fn erase<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    erase: Erase,
    render: fn(Lead) -> R,
) -> Result<R> {
    if let Some(kept) = idempotency::replay(&desk.db, &call).await? {
        return Ok(kept);
    }
    if let Err(refusal) = erase.check(&get(desk, erase.id).await?) {
        return idempotency::refuse(&desk.db, &call, refusal).await;
    }
    auth::verify_own_password(desk, &call, erase.current_password.as_ref()).await?;
    let needs = Needs {
        attached: true,
        ..Needs::lead(erase.id)
    };
    let answering = Answering {
        render,
        lead: |lead| lead.id,
    };
    let decide = move |draft: &mut Draft<'_>| erase.apply(draft);
    desk.change(call, needs, answering, decide).await
}

impl Erase {
    fn check(&self, lead: &Lead) -> Result<()> {
        check_etag(&self.etag, lead.version)?;
        lead.effect(Transition::Erase)?;
        Ok(())
    }

    fn apply(&self, draft: &mut Draft<'_>) -> Result<Verdict<Lead>> {
        let lead = draft.lead(self.id)?;
        self.check(lead)?;
        let time = time_after(draft.clock, lead.update_time);
        let after = lead.erased(draft.call.principal.clone(), time);
        if self.validate_only {
            return Ok(Verdict::Checked(after.unwritten(lead)));
        }
        // Which fields there were, not what stood in them.
        let fields = after.details.changes_from(&lead.details).into_iter();
        let changes = fields.map(|change| FieldChange::new(change.field, "", ""));
        draft.put_lead(after.clone());
        record(draft, None, &after, "lead.erased", changes.collect())?;
        let mut attached = opportunities::erase_texts(draft, after.id)?;
        attached.extend(orders::erase_texts(draft, after.id)?);
        draft.erase_past(Erased {
            lead_id: after.id,
            attached,
        });
        Ok(Verdict::Done(after))
    }
}
