//! Leads: read, edit, deactivate, reactivate, convert, revert, erase.
//!
//! Every change has the same steps: lock the lead, check the etag, ask the model whether the state allows
//! the change, write the next version, and record it. `LeadService.Convert` and an order's PROVISION_CLIENT
//! action both use [`convert()`].

pub mod api;
mod batch_get;
pub mod convert;
pub mod duplicates;
pub mod erase;
pub mod errors;
pub mod lists;
pub mod model;
pub mod report;
mod revert;
pub mod search;
pub mod store;
mod update;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::auth::Auth;
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag, history};
use crate::core::field_change::FieldChange;
use crate::core::page::PageInput;
use crate::core::text_enum::TextEnum as _;
use crate::core::violations::Violations;
use crate::db::Db;
use crate::db::batch_loader::BatchLoader;
use crate::db::reader::Reader;
use crate::db::search::Needles;
use crate::db::select::Part;
use crate::error::{Error, Result};
use crate::features::operators::Ownership;
use model::{
    Deactivation, Details, Filter, Lead, LeadState, Ordering, Position, Status, Total, Transition,
};
use report::Reports;

pub use batch_get::Batch;
pub use convert::{Convert, Converted, Join, Step, convert, joinable};
pub use report::Converting;
pub use revert::Reversal;
pub use update::Update;

/// The use cases of leads.
#[derive(Clone, Debug)]
pub struct Leads {
    db: Db,
    auth: Arc<Auth>,
    reversal: Reversal,
    loader: Arc<BatchLoader<Lead>>,
    reports: Arc<Reports>,
}

/// The input of [`create`].
#[derive(Clone)]
pub struct NewLead {
    /// Its fields.
    pub details: Details,
    /// Whether the owner in the fields may own records.
    pub owner: Ownership,
    /// Whether another lead may have the same email.
    pub allow_duplicate: bool,
    /// Validate without creating.
    pub validate_only: bool,
}

impl Leads {
    /// Creates the use cases for this database.
    pub fn new(db: Db, auth: Arc<Auth>, reversal: Reversal) -> Self {
        Self {
            db,
            auth,
            reversal,
            loader: Arc::new(BatchLoader::new(load_many)),
            reports: Arc::new(Reports::new()),
        }
    }

    /// Returns a lead in any state.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<Lead> {
        let found = self.find(id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Returns the lead with this id, if there is one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find(&self, id: Uuid) -> Result<Option<Lead>> {
        self.loader.get(&self.db, id).await
    }

    /// Lists leads by filter and order.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(
        &self,
        filter: &Filter,
        ordering: Ordering,
        page: PageInput<Position>,
    ) -> Result<Part<Lead>> {
        let db = self.db.pages(page.principal).await?;
        lists::list(&db, filter, ordering, page.after.as_ref(), page.limit).await
    }

    /// Counts the leads that match a filter.
    ///
    /// # Errors
    /// See [`Leads::list`].
    pub async fn total(&self, filter: &Filter, principal: Uuid) -> Result<Total> {
        let db = self.db.pages(principal).await?;
        lists::total(&db, filter).await
    }

    /// Counts the leads whose texts contain `needles`.
    ///
    /// # Errors
    /// See [`Leads::list`].
    pub async fn total_found(
        &self,
        needles: &Needles,
        states: &[LeadState],
        principal: Uuid,
    ) -> Result<Total> {
        let db = self.db.pages(principal).await?;
        search::total(&db, needles, states).await
    }

    /// Lists leads whose texts contain `needles`, newest first.
    ///
    /// # Errors
    /// See [`Leads::list`].
    pub async fn search(
        &self,
        needles: &Needles,
        states: &[LeadState],
        page: PageInput<i64>,
    ) -> Result<Part<Lead>> {
        let db = self.db.pages(page.principal).await?;
        search::search(&db, needles, states, page.after, page.limit).await
    }

    /// Lists a lead's changes, newest first.
    ///
    /// # Errors
    /// `LEAD_NOT_FOUND`, and those of [`Leads::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }
}

/// Loads leads in one query.
fn load_many(db: Reader, ids: Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, Lead>>> {
    Box::pin(async move {
        let leads = store::get_many(&db, ids).await?;
        Ok(leads.into_iter().map(|lead| (lead.id, lead)).collect())
    })
}

fn mutation(
    locks: LockSet,
    decide: impl Fn(&mut UnitOfWork<'_>) -> Result<Decision<Lead>> + Send + 'static,
) -> Mutation<Lead> {
    Mutation::new(locks, |lead: &Lead| lead.id, decide)
}

/// Returns the lead that a change has locked.
///
/// # Errors
/// `LEAD_NOT_FOUND`.
pub fn locked<'a>(unit: &UnitOfWork<'a>, id: Uuid) -> Result<&'a Lead> {
    unit.get(id).ok_or_else(|| errors::not_found(id))
}

/// Creates an OPEN lead.
///
/// Fails with `DUPLICATE_LEAD` if another lead has the email and duplicates are not allowed, and with
/// `FIELD_INVALID` if the owner is disabled.
pub fn create(new: NewLead) -> Mutation<Lead> {
    let key = new.details.email_key();
    let locks = LockSet::default();
    // The lock makes the second of two concurrent calls wait and find the lead of the first.
    let locks = match key.is_empty() || new.allow_duplicate {
        true => locks,
        false => locks.key::<Lead>(key.clone()),
    };
    mutation(locks, move |unit| {
        let mut violations = Violations::default();
        new.owner.check(&mut violations, "lead.owner_id");
        violations.finish()?;
        if let Some(lead) = unit.find::<Lead>(&key) {
            return Err(errors::duplicate(lead));
        }
        let now = unit.clock.now();
        let lead = Lead {
            id: unit.clock.new_id(),
            seq: 0,
            version: 1,
            details: new.details.clone(),
            status: Status::Open,
            erasure: None,
            create_time: now,
            update_time: now,
        };
        if new.validate_only {
            return Ok(Decision::Preview(lead));
        }
        unit.put(lead.clone());
        let mut changes = lead.details.changes_from(&Details::default());
        changes.push(FieldChange::new("state", "", lead.state().as_str()));
        unit.record_change(Change::of(&lead, "lead.created", changes).whole("lead", &lead)?);
        Ok(Decision::Commit(lead))
    })
}

/// Deactivates an OPEN lead. The reason may be empty.
pub fn deactivate(change: Target, reason: String) -> Mutation<Lead> {
    transition(change, move |unit, lead| {
        lead.effect(Transition::Deactivate)?;
        let time = unit.clock.time_after(lead.update_time);
        let deactivation = Deactivation {
            time,
            actor: (*unit.call.principal).clone(),
            reason: reason.clone(),
        };
        let mut changes = Vec::new();
        if !reason.is_empty() {
            changes.push(FieldChange::new("deactivation.reason", "", &reason));
        }
        let after = lead.next(Status::Deactivated { deactivation }, time);
        Ok((after, "lead.deactivated", changes))
    })
}

/// Reactivates a DEACTIVATED lead, which becomes OPEN.
pub fn reactivate(change: Target) -> Mutation<Lead> {
    transition(change, |unit, lead| {
        lead.effect(Transition::Reactivate)?;
        let after = lead.next(Status::Open, unit.clock.time_after(lead.update_time));
        Ok((after, "lead.reactivated", Vec::new()))
    })
}

/// The next version of a lead, the type of the event, and the changed fields without the state.
type Next = (Lead, &'static str, Vec<FieldChange>);

/// A transition to another state. Fails with `LEAD_NOT_FOUND`, `ETAG_MISMATCH`, or the error of `next`.
fn transition(
    change: Target,
    next: impl Fn(&UnitOfWork<'_>, &Lead) -> Result<Next, Error> + Send + 'static,
) -> Mutation<Lead> {
    mutation(LockSet::default().record::<Lead>(change.id), move |unit| {
        let lead = locked(unit, change.id)?;
        check_etag(&change.etag, lead.version)?;
        let (after, event, mut changes) = next(unit, lead)?;
        if change.validate_only {
            return Ok(Decision::Preview(after.into_preview(lead)));
        }
        unit.put(after.clone());
        changes.insert(0, state_change(lead, &after));
        unit.record_change(Change::of(&after, event, changes).changed("lead", lead, &after)?);
        Ok(Decision::Commit(after))
    })
}

/// The change of a lead's state, for the history.
pub fn state_change(before: &Lead, after: &Lead) -> FieldChange {
    FieldChange::new("state", before.state().as_str(), after.state().as_str())
}
