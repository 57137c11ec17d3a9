//! What can be done to an order in these tests, and what the domain's rules say about it.

use super::*;

/// The time of every call. Claims that are held expire later, and those that have expired have expired just now.
pub(super) const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// The worker that claims, reports and releases.
pub(super) const WORKER: Uuid = Uuid::from_u128(7);

/// What can be done to an order. The numbers are places of actions and steps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Run(usize, ActionState),
    Skip(usize),
    UndoSkip(usize),
    Move(usize),
    Cancel,
    /// Of an action that is FAILED, or of one that is not.
    Claim(usize, bool),
    /// With the number of the claim.
    Report(usize, u128, ActionState),
    Release(usize, u128),
    /// That the time of a claim passes.
    Expire(usize),
}

#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    NothingToClaim,
    For(Reason),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::For(error.reason())
    }
}

/// The number of the claim that an action has, 1 or 2; 0 if it has none.
pub(super) fn claim_of(order: &Order, number: usize) -> u128 {
    let claim = order.actions[number].claim.as_ref();
    claim.map_or(0, |claim| claim.run_id.as_u128())
}

pub(super) fn is_held(order: &Order, number: usize) -> bool {
    let claim = order.actions[number].claim.as_ref();
    claim.is_some_and(|claim| claim.expire_time > NOW)
}

pub(super) fn apply(order: &mut Order, call: Call) -> Result<(), Refused> {
    let action = |number: usize| format!("a{number}");
    match call {
        Call::Claim(number, retry_failed) => {
            let wanted = Claiming {
                actions: vec![action(number)],
                retry_failed,
            };
            let found = order.find_claimable(&wanted, NOW);
            let key = found.ok_or(Refused::NothingToClaim)?;
            let claim = Claim {
                run_id: Uuid::from_u128(if claim_of(order, number) == 1 { 2 } else { 1 }),
                actor: Principal {
                    kind: PrincipalKind::ServiceAccount,
                    id: WORKER,
                    name: String::new(),
                },
                expire_time: NOW + Duration::seconds(1),
            };
            order.claim(&key, claim);
            return Ok(());
        }
        Call::Report(number, claim, result) => {
            let key = action(number);
            order.check_claim(&key, Uuid::from_u128(claim), WORKER, NOW)?;
            order.set_result(&key, result);
            return Ok(());
        }
        Call::Release(number, claim) => {
            let key = action(number);
            order.check_claim(&key, Uuid::from_u128(claim), WORKER, NOW)?;
            order.release(&key);
            return Ok(());
        }
        Call::Expire(number) => {
            if let Some(claim) = &mut order.actions[number].claim {
                claim.expire_time = NOW;
            }
            return Ok(());
        }
        _ => {}
    }
    match call {
        Call::Run(number, result) => {
            let action = order.action(&action(number))?.clone();
            order.check_runnable(&action, NOW)?;
            order.set_result(&action.key, result);
            Ok(())
        }
        Call::Skip(number) => order.skip(&action(number), NOW),
        Call::UndoSkip(number) => order.undo_skip(&action(number)),
        Call::Move(number) => order.move_to(&format!("s{number}")),
        Call::Cancel => order.cancel(),
        _ => Ok(()),
    }?;
    Ok(())
}

/// Why the table of the domain refuses a call; `None` if it allows it.
pub(super) fn refusal(order: &Order, call: Call) -> Option<Refused> {
    if let Call::Claim(number, retry_failed) = call {
        let action = &order.actions[number];
        let is_free = match action.state {
            ActionState::Pending => !retry_failed,
            ActionState::Claimed => !retry_failed && !is_held(order, number),
            ActionState::Failed => retry_failed,
            _ => false,
        };
        let can_run = refusal(order, Call::Run(number, ActionState::Done)).is_none();
        let is_ready = order.state == OrderState::Processing && can_run;
        return (!is_free || !is_ready).then_some(Refused::NothingToClaim);
    }
    reason(order, call).map(Refused::For)
}

/// Why it refuses a call that is no claim.
pub(super) fn reason(order: &Order, call: Call) -> Option<Reason> {
    let canceled = order.state == OrderState::Canceled;
    let complete = order.state == OrderState::Complete;
    let at = |key: &str| order.steps.iter().position(|step| step.key == key);
    match call {
        Call::Expire(_) => None,
        _ if canceled => Some(Reason::OrderCanceled),
        Call::Report(number, claim, _) | Call::Release(number, claim) => {
            let holds = is_held(order, number) && claim_of(order, number) == claim;
            (!holds).then_some(Reason::ClaimLost)
        }
        Call::Run(number, _) => {
            let action = &order.actions[number];
            let is_open = |key: &String| {
                let found = order.actions.iter().find(|other| other.key == *key);
                found.is_some_and(|other| other.state.is_open())
            };
            match action.state {
                ActionState::Skipped => Some(Reason::ActionDone),
                ActionState::Done if !action.repeatable => Some(Reason::ActionDone),
                _ if is_held(order, number) => Some(Reason::ActionClaimed),
                _ if action.prerequisites.iter().any(is_open) => Some(Reason::ActionPrerequisite),
                _ if at(&action.step) > at(&order.step) => Some(Reason::ActionStep),
                _ => None,
            }
        }
        Call::Skip(number) => {
            let is_open = order.actions[number].state.is_open();
            let claimed = is_held(order, number).then_some(Reason::ActionClaimed);
            (!is_open).then_some(Reason::ActionDone).or(claimed)
        }
        Call::UndoSkip(number) => {
            let is_skipped = order.actions[number].state == ActionState::Skipped;
            (!is_skipped).then_some(Reason::ActionNotSkipped)
        }
        Call::Move(_) | Call::Cancel => complete.then_some(Reason::OrderComplete),
        Call::Claim(..) => None,
    }
}
