//! Opportunities: possible sales. Each belongs to one lead for ever, and is shown whatever the lead's
//! state.

pub mod api;
mod change;
mod errors;
pub mod model;
pub mod store;

use uuid::Uuid;

use crate::commit::{Change, Decision, LockSet, Mutation, history};
use crate::core::field_change::FieldChange;
use crate::core::page::PageInput;
use crate::core::text_enum::TextEnum as _;
use crate::core::violations::Violations;
use crate::db::Db;
use crate::db::select::Part;
use crate::error::Result;
use crate::features::leads;
use crate::features::leads::model::{Lead, Transition};
use crate::features::operators::Ownership;
use model::{Details, Filter, Opportunity, OpportunityState, View};

pub use change::{close, reopen, update};

/// The use cases of opportunities.
#[derive(Clone, Debug)]
pub struct Opportunities {
    db: Db,
}

/// The input of [`create`].
#[derive(Clone)]
pub struct NewOpportunity {
    /// The lead that it belongs to.
    pub lead_id: Uuid,
    /// Its fields.
    pub details: Details,
    /// Whether the owner in the fields may own records.
    pub owner: Ownership,
    /// Validate without creating.
    pub validate_only: bool,
}

impl Opportunities {
    /// Creates the use cases for this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Returns an opportunity with its lead's name and state.
    ///
    /// # Errors
    /// `OPPORTUNITY_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<View> {
        let found = store::view_of(self.db.read(), id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Lists opportunities, newest first.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, filter: &Filter, page: PageInput<i64>) -> Result<Part<View>> {
        let db = self.db.pages(page.principal).await?;
        store::lists::list(&db, filter, page.after, page.limit).await
    }

    /// Lists an opportunity's changes, newest first.
    ///
    /// # Errors
    /// `OPPORTUNITY_NOT_FOUND`; those of [`Opportunities::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }
}

/// Creates an OPEN opportunity of a lead.
///
/// Fails with `LEAD_NOT_FOUND`; with `LEAD_ERASED`; with `FIELD_INVALID` if the owner is disabled.
pub fn create(new: NewOpportunity) -> Mutation<View> {
    let locks = LockSet::default().record::<Lead>(new.lead_id);
    let root = |view: &View| view.opportunity.lead_id;
    Mutation::new(locks, root, move |unit| {
        let lead = leads::locked(unit, new.lead_id)?;
        lead.effect(Transition::Attach)?;
        let mut violations = Violations::default();
        new.owner.check(&mut violations, "opportunity.owner_id");
        violations.finish()?;
        let now = unit.clock.now();
        let opportunity = Opportunity {
            id: unit.clock.new_id(),
            seq: 0,
            lead_id: new.lead_id,
            version: 1,
            state: OpportunityState::Open,
            details: new.details.clone(),
            close: None,
            create_time: now,
            update_time: now,
        };
        let view = View::of(opportunity, lead);
        if new.validate_only {
            return Ok(Decision::Preview(view));
        }
        let opportunity = &view.opportunity;
        unit.put(opportunity.clone());
        let mut changes = vec![FieldChange::new("state", "", opportunity.state.as_str())];
        changes.extend(opportunity.details.changes_from_nothing());
        let change = Change::of(opportunity, "opportunity.created", changes);
        unit.record_change(change.whole("opportunity", opportunity)?);
        Ok(Decision::Commit(view))
    })
}
