//! What people do to an order besides running its actions: skip, move, cancel, comment. Each of it stands in the
//! order's ledger, with a reason.

use chrono::{DateTime, Utc};

use super::fulfilment::Fulfilment;
use super::model::{Action, ActionRun, Order, RunKind};
use super::{Fulfilled, errors, leads, time_for};
use crate::commit::{Decision, LockSet, Mutation, Target, check_etag};
use crate::core::field_change::FieldChange;
use crate::core::violations::{Reason, Violations};
use crate::error::Result;
use leads::model::{References, Transition};

/// The input of a change by hand.
#[derive(Clone, Debug)]
pub struct ByHand {
    /// The order to change.
    pub target: Target,
    /// What is done to it.
    pub deed: Deed,
    /// Why; for a comment, its text. May be empty.
    pub note: String,
}

/// What is done to an order. The text is the key of the action or step.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Skip an action.
    Skip(String),
    /// Undo the skip of an action.
    UndoSkip(String),
    /// Move to a step.
    Move(String),
    /// Cancel the order.
    Cancel,
    /// Comment on the order.
    Comment,
}

/// Changes an order by hand.
///
/// Fails with `ORDER_NOT_FOUND`, `ACTION_NOT_FOUND`, `ETAG_MISMATCH`; with `LEAD_ERASED`; with the refusal of the
/// order's state; with `FIELD_INVALID` if the order cannot be moved to the step. It is stale if the action is claimed
/// and `now`, the time of the database's clock, is unknown.
pub fn change(by_hand: ByHand, now: Option<DateTime<Utc>>) -> Mutation<Fulfilled> {
    let ByHand { target, deed, note } = by_hand;
    let locks = LockSet::default().with_root::<Order>(target.id);
    let mutation = Mutation::new(
        locks,
        |fulfilled: &Fulfilled| fulfilled.lead.id,
        move |unit| {
            let before = unit.get::<Order>(target.id);
            let before = before.ok_or_else(|| errors::not_found(target.id))?;
            let action = deed.action(before)?;
            check_etag(&target.etag, before.version)?;
            let Some(now) =
                action.map_or(Some(DateTime::default()), |action| time_for(action, now))
            else {
                return Ok(Decision::Stale);
            };
            let lead = leads::locked(unit, before.lead_id)?;
            lead.effect(Transition::Attach)?;
            // The response has no report.
            let references = References::default();
            let mut fulfilment = Fulfilment::new(unit, before.clone(), lead.clone(), references);
            deed.apply(&mut fulfilment.order, now)?;
            fulfilment.log_by_hand(unit, deed.kind(), |entry| {
                deed.describe(entry);
                entry.note.clone_from(&note);
            });
            if !matches!(deed, Deed::Comment) {
                fulfilment.run_automatic(unit);
            }
            if target.validate_only {
                return Ok(Decision::Preview(fulfilment.preview()));
            }
            let more = match deed {
                Deed::Comment => vec![FieldChange::new("comment", "", &note)],
                Deed::Skip(_) | Deed::UndoSkip(_) | Deed::Move(_) | Deed::Cancel => Vec::new(),
            };
            let fulfilled = fulfilment.write_by_hand(unit, deed.event(), before, more)?;
            Ok(Decision::Commit(fulfilled))
        },
    );
    mutation.with_more_roots(Fulfilled::other_clients)
}

impl Deed {
    fn kind(&self) -> RunKind {
        match self {
            Self::Skip(_) => RunKind::Skip,
            Self::UndoSkip(_) => RunKind::UndoSkip,
            Self::Move(_) => RunKind::Move,
            Self::Cancel => RunKind::Cancel,
            Self::Comment => RunKind::Comment,
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Skip(_) => "order.action_skipped",
            Self::UndoSkip(_) => "order.skip_undone",
            Self::Move(_) => "order.moved",
            Self::Cancel => "order.canceled",
            Self::Comment => "order.commented",
        }
    }

    /// The action that it is about; none if it is about none.
    fn action<'a>(&self, order: &'a Order) -> Result<Option<&'a Action>> {
        match self {
            Self::Skip(action) | Self::UndoSkip(action) => order.action(action).map(Some),
            Self::Move(_) | Self::Cancel | Self::Comment => Ok(None),
        }
    }

    fn apply(&self, order: &mut Order, now: DateTime<Utc>) -> Result<()> {
        match self {
            Self::Skip(action) => order.skip(action, now),
            Self::UndoSkip(action) => order.undo_skip(action),
            Self::Move(step) => {
                order.check_processing()?;
                check_step(order, step)?;
                order.move_to(step)
            }
            Self::Cancel => order.cancel(),
            Self::Comment => Ok(()),
        }
    }

    fn describe(&self, entry: &mut ActionRun) {
        match self {
            Self::Skip(action) | Self::UndoSkip(action) => entry.action.clone_from(action),
            Self::Move(step) => entry.step.clone_from(step),
            Self::Cancel | Self::Comment => {}
        }
    }
}

fn check_step(order: &Order, step: &str) -> Result<()> {
    let mut violations = Violations::default();
    if !order.has_other_step(step) {
        violations.add(
            "step",
            Reason::ReferenceInvalid,
            "is not another step of this order: send the key of one of its steps that it is not in",
        );
    }
    Ok(violations.finish()?)
}
