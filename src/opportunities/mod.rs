//! Opportunities: possible sales, attached to a lead and staying attached for life, shown whatever
//! the lead's state.

pub mod api;
pub mod model;
pub(crate) mod store;

use prost::Message;
use uuid::Uuid;

use crate::auth::Call;
use crate::changes::desk::{Answering, Desk};
use crate::changes::draft::{Draft, Needs};
use crate::changes::{Change, FieldChange, Record, Subject, time_after};
use crate::db::Verdict;
use crate::error::{Error, Result};
use crate::leads::model::Transition;
use crate::operators::model::Ownership;
use crate::wire::page::{Page, Window};
use crate::wire::violations::Violations;
use model::{Details, Filter, Opportunity, OpportunityState, View};

/// An opportunity that is to be created.
pub struct NewOpportunity {
    /// The lead it belongs to.
    pub lead_id: Uuid,
    /// What is known of it.
    pub details: Details,
    /// Whether the owner named there may become it.
    pub owner: Ownership,
}

/// Creates an OPEN opportunity of a lead.
///
/// # Errors
/// [`Error::LeadNotFound`]; [`Error::LeadRefused`] when it is erased; [`Error::FieldInvalid`] when the
/// owner is disabled.
pub async fn create<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    new: NewOpportunity,
    validate_only: bool,
    render: fn(View) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |view| view.opportunity.lead_id,
    };
    let lead_id = new.lead_id;
    desk.change(call, Needs::lead(lead_id), answering, move |draft| {
        let lead = draft.lead(lead_id)?;
        lead.effect(Transition::Attach)?;
        let mut violations = Violations::default();
        new.owner.check(&mut violations, "opportunity.owner_id");
        violations.finish()?;
        let now = draft.clock.now();
        let opportunity = Opportunity {
            id: draft.clock.new_id(),
            seq: 0,
            lead_id,
            version: 1,
            state: OpportunityState::Open,
            details: new.details.clone(),
            close: None,
            create_time: now,
            update_time: now,
        };
        let view = View {
            opportunity,
            lead_display_name: lead.details.display_name(),
            lead_state: lead.state(),
        };
        if validate_only {
            return Ok(Verdict::Checked(view));
        }
        let opportunity = &view.opportunity;
        draft.put_opportunity(opportunity.clone());
        draft.record(Change {
            subject: Subject::Opportunity,
            subject_id: opportunity.id,
            lead_id,
            version: opportunity.version,
            event: "opportunity.created",
            time: now,
            changes: vec![
                FieldChange::new("state", "", opportunity.state.word()),
                FieldChange::new("name", "", &opportunity.details.name),
            ],
            record: Record::default().whole("opportunity", opportunity)?,
        });
        Ok(Verdict::Done(view))
    })
    .await
}

/// Erases what is said in free text in the opportunities of a lead that is held with all that is
/// attached to it. Answers which opportunities it has.
pub(crate) fn erase_texts(draft: &mut Draft<'_>, lead_id: Uuid) -> Result<Vec<Uuid>> {
    let opportunities = draft.opportunities_of(lead_id);
    for opportunity in &opportunities {
        let time = time_after(draft.clock, opportunity.update_time);
        let Some((after, changes)) = opportunity.erased(time) else {
            continue;
        };
        draft.put_opportunity(after.clone());
        draft.record(Change {
            subject: Subject::Opportunity,
            subject_id: after.id,
            lead_id,
            version: after.version,
            event: "opportunity.erased",
            time,
            changes,
            record: Record::default().whole("opportunity", &after)?,
        });
    }
    Ok(opportunities
        .iter()
        .map(|opportunity| opportunity.id)
        .collect())
}

/// An opportunity with its lead's name and state.
///
/// # Errors
/// [`Error::OpportunityNotFound`].
pub async fn get(desk: &Desk, id: Uuid) -> Result<View> {
    let found = store::get(desk.db.read(), id).await?;
    found.ok_or(Error::OpportunityNotFound(id))
}

/// A page of opportunities, newest first.
///
/// # Errors
/// [`Error::PageTokenInvalid`].
pub async fn list<R: Message>(
    desk: &Desk,
    filter: &Filter,
    window: Window,
    render: fn(View) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    let db = desk.db.pages(window.principal).await?;
    let rows = store::list(&db, filter, before, window.limit()).await?;
    window.cut(rows, |last| last.opportunity.seq, render)
}
