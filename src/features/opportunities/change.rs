//! How an opportunity is changed: the decision that all changes share.

use chrono::{DateTime, Utc};

use super::errors;
use super::model::{Close, Field, Opportunity, OpportunityState, Outcome, Patch, Transition, View};
use crate::commit::{Change, Decision, LockSet, Mutation, Target, UnitOfWork, check_etag};
use crate::core::violations::Violations;
use crate::error::Result;
use crate::features::leads;
use crate::features::leads::model::Transition as LeadTransition;
use crate::features::operators::Ownership;

/// Edits an OPEN opportunity. `owner` is whether the new owner may own records.
///
/// Fails as [`close`]; with `FIELD_INVALID` if the new owner is disabled.
pub fn update(target: Target, patch: Patch, owner: Ownership) -> Mutation<View> {
    change(
        target,
        Transition::Update,
        "opportunity.updated",
        move |before, _| {
            let mut after = before.opportunity.clone();
            after.details = patch.apply(&after.details);
            if patch.names(Field::OwnerId)
                && after.details.owner_id != before.opportunity.details.owner_id
            {
                let mut violations = Violations::default();
                owner.check(&mut violations, "opportunity.owner_id");
                violations.finish()?;
            }
            Ok(after)
        },
    )
}

/// Closes an OPEN opportunity. The reason may be empty.
///
/// Fails with `OPPORTUNITY_NOT_FOUND`, `ETAG_MISMATCH`, `LEAD_ERASED`, `OPPORTUNITY_CLOSED`.
pub fn close(target: Target, outcome: Outcome, reason: String) -> Mutation<View> {
    change(
        target,
        Transition::Close(outcome),
        "opportunity.closed",
        move |before, unit| {
            let opportunity = before.opportunity;
            let close = Close {
                time: before.time,
                actor: (*unit.call.principal).clone(),
                reason: reason.clone(),
                stage: opportunity.details.stage,
            };
            Ok(opportunity.closed(before.state, close))
        },
    )
}

/// Reopens a WON or LOST opportunity.
///
/// Fails with `OPPORTUNITY_NOT_FOUND`, `ETAG_MISMATCH`, `LEAD_ERASED`, `OPPORTUNITY_OPEN`.
pub fn reopen(target: Target) -> Mutation<View> {
    change(
        target,
        Transition::Reopen,
        "opportunity.reopened",
        |before, _| Ok(before.opportunity.reopened(before.state)),
    )
}

/// An opportunity that is about to change.
struct Before<'a> {
    opportunity: &'a Opportunity,
    /// The state that the lifecycle leads to.
    state: OpportunityState,
    /// The time of the change.
    time: DateTime<Utc>,
}

/// A change of an opportunity. `next` makes it, without the version and the time. If it changes no value,
/// nothing is written.
fn change(
    target: Target,
    transition: Transition,
    event: &'static str,
    next: impl Fn(Before<'_>, &UnitOfWork<'_>) -> Result<Opportunity> + Send + 'static,
) -> Mutation<View> {
    // The lead is locked, so that it is not erased meanwhile.
    let locks = LockSet::default().with_root::<Opportunity>(target.id);
    let root = |view: &View| view.opportunity.lead_id;
    Mutation::new(locks, root, move |unit| {
        let before = unit.get::<Opportunity>(target.id);
        let before = before.ok_or_else(|| errors::not_found(target.id))?;
        check_etag(&target.etag, before.version)?;
        let lead = leads::locked(unit, before.lead_id)?;
        lead.effect(LeadTransition::Attach)?;
        let state = before.effect(transition)?;
        let time = unit.clock.time_after(before.update_time);
        let prepared = Before {
            opportunity: before,
            state,
            time,
        };
        let mut after = next(prepared, unit)?;
        let changes = after.changes_from(before);
        match (changes.is_empty(), target.validate_only) {
            (_, true) => return Ok(Decision::Preview(View::of(after, lead))),
            (true, false) => return Ok(Decision::Commit(View::of(after, lead))),
            (false, false) => {}
        }
        after.version += 1;
        after.update_time = time;
        unit.put(after.clone());
        let change = Change::of(&after, event, changes).changed("opportunity", before, &after)?;
        unit.record_change(change);
        Ok(Decision::Commit(View::of(after, lead)))
    })
}
