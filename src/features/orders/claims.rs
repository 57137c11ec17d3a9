//! Claims of EXTERNAL actions by workers, over all servers.
//!
//! A claim is a change of the order like every other: the order is locked, so only one worker gets the action. Whether
//! an earlier claim has expired is decided by the database's clock, which all servers share, as read before the order is
//! locked. The time of the decision is later, so a claim that is found expired has expired, whatever waited in between.
//! The expiry of a lease writes nothing.

use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use super::fulfilment::Fulfilment;
use super::model::{ActionRun, Claim, Claiming, Order, RunKind};
use super::{Fulfilled, Orders, Report, errors, leads, store};
use crate::commit::{Decision, LockSet, Mutation, Record as _, UnitOfWork};
use crate::core::clock;
use crate::error::Result;
use leads::model::{Lead, References, Transition};

/// The maximum number of actions that one call claims.
pub const MAX_CLAIMS: usize = 100;
/// No further action is claimed when the texts of those that are exceed this number of bytes. With the last one they
/// are below the limit of a response.
const MAX_TEXTS: usize = 2 << 20;

/// The input of [`Orders::prepare_claim`].
#[derive(Clone, Debug)]
pub struct ClaimActions {
    /// The queue.
    pub queue_id: Uuid,
    /// Which actions.
    pub wanted: Claiming,
    /// The maximum number of actions.
    pub max: usize,
    /// How long the claims last.
    pub lease: Duration,
    /// Validate without claiming.
    pub validate_only: bool,
}

/// A claimed action.
pub struct Claimed {
    /// The entry of the ledger. Its id identifies the claim.
    pub run: ActionRun,
    /// The order.
    pub order: Order,
    /// Its lead.
    pub lead: Lead,
}

/// The input of [`Orders::prepare_report`].
#[derive(Clone, Debug)]
pub struct ReportAction {
    /// The claim.
    pub run_id: Uuid,
    /// What the worker says.
    pub report: Report,
    /// Validate without reporting.
    pub validate_only: bool,
}

/// The input of [`Orders::prepare_release`].
#[derive(Clone, Debug)]
pub struct ReleaseAction {
    /// The claim.
    pub run_id: Uuid,
    /// Why; may be empty.
    pub reason: String,
    /// Validate without releasing.
    pub validate_only: bool,
}

impl Orders {
    /// Prepares a claim: finds orders with an action to claim. None if there are none.
    ///
    /// # Errors
    /// `ORDER_QUEUE_NOT_FOUND`.
    pub async fn prepare_claim(
        &self,
        input: &ClaimActions,
    ) -> Result<Option<Mutation<Vec<Claimed>>>> {
        let now = self.db.time().await?;
        let found = store::claims::find(self.db.read(), input.queue_id, &input.wanted, now).await?;
        if found.is_empty() {
            self.queues.get(input.queue_id).await?;
            return Ok(None);
        }
        let candidates = sample(found, input.max);
        Ok(Some(claim(input.clone(), candidates, now)))
    }

    /// Prepares a report: finds the claim.
    ///
    /// # Errors
    /// `CLAIM_NOT_FOUND`; and later `CLAIM_LOST`, `ORDER_CANCELED`, and `LEAD_ERASED` if there is a note or a reference.
    pub async fn prepare_report(&self, input: &ReportAction) -> Result<Mutation<Fulfilled>> {
        let now = self.db.time().await?;
        let found = self.find_claim(input.run_id).await?;
        // An automatic action that becomes ready may convert the lead.
        let order = self.find(found.order_id).await?;
        let references = self
            .references(order.lead_id, order.may_convert(None))
            .await?;
        let place = found_in(&found);
        let mut report = input.report.clone();
        report.claim = Some((found.id, now));
        let edit = move |unit: &UnitOfWork<'_>, fulfilment: &mut Fulfilment| {
            let action = fulfilment.order.action(&found.action)?.clone();
            fulfilment.run(unit, &action, Some(&report))?;
            fulfilment.run_automatic(unit);
            Ok(())
        };
        let event = "order.action_reported";
        Ok(end(
            place,
            now,
            event,
            references,
            input.validate_only,
            edit,
        ))
    }

    /// Prepares a release: finds the claim.
    ///
    /// # Errors
    /// `CLAIM_NOT_FOUND`; and later `CLAIM_LOST`, `ORDER_CANCELED`, and `LEAD_ERASED` if there is a reason.
    pub async fn prepare_release(&self, input: &ReleaseAction) -> Result<Mutation<Fulfilled>> {
        let now = self.db.time().await?;
        let found = self.find_claim(input.run_id).await?;
        let place = found_in(&found);
        let reason = input.reason.clone();
        let edit = move |unit: &UnitOfWork<'_>, fulfilment: &mut Fulfilment| {
            if !reason.is_empty() {
                fulfilment.lead.effect(Transition::Attach)?;
            }
            fulfilment.order.release(&found.action);
            fulfilment.log_by_hand(unit, RunKind::Release, |entry| {
                entry.action.clone_from(&found.action);
                entry.time = now;
                entry.note.clone_from(&reason);
                entry.claim_run_id = Some(found.id);
            });
            Ok(())
        };
        let event = "order.action_released";
        let references = References::default();
        Ok(end(
            place,
            now,
            event,
            references,
            input.validate_only,
            edit,
        ))
    }

    async fn find_claim(&self, run_id: Uuid) -> Result<ActionRun> {
        let found = store::claims::get(self.db.read(), run_id).await?;
        found.ok_or_else(|| errors::claim_not_found(run_id))
    }
}

/// Some of the orders that were found, from a random one on. Workers that look at the same moment, on whatever server,
/// then do not all try the same. There are a few more than are to be claimed, because some may be gone meanwhile.
fn sample(mut found: Vec<Uuid>, max: usize) -> Vec<Uuid> {
    let mut number = [0; 8];
    number.copy_from_slice(&clock::random_256_bits()[..8]);
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX).max(1);
    let from = usize::try_from(u64::from_be_bytes(number) % count).unwrap_or(0);
    found.rotate_left(from);
    found.truncate(max + max / 2 + 3);
    found
}

/// Claims an action of each candidate that still has one to claim, up to the maximum.
fn claim(input: ClaimActions, candidates: Vec<Uuid>, now: DateTime<Utc>) -> Mutation<Vec<Claimed>> {
    let locks = candidates.iter().fold(LockSet::default(), |locks, id| {
        locks.candidate::<Order>(*id)
    });
    let root = |claimed: &Vec<Claimed>| claimed.first().map_or(Uuid::nil(), |first| first.lead.id);
    let decide = move |unit: &mut UnitOfWork<'_>| {
        let (mut claimed, mut texts) = (Vec::new(), 0);
        for id in &candidates {
            if claimed.len() == input.max || texts > MAX_TEXTS {
                break;
            }
            let Some(before) = unit.get::<Order>(*id) else {
                continue;
            };
            let Some(lead) = unit.get::<Lead>(before.lead_id) else {
                continue;
            };
            let Some(action) = before.find_claimable(&input.wanted, now) else {
                continue;
            };
            let long_texts = before.long_texts().into_iter().chain(lead.long_texts());
            texts += long_texts.map(str::len).sum::<usize>();
            claimed.push(claim_one(unit, before, lead, &action, &input, now)?);
        }
        Ok(match (claimed.is_empty(), input.validate_only) {
            (true, _) => Decision::Stale,
            (false, true) => Decision::Preview(claimed),
            (false, false) => Decision::Commit(claimed),
        })
    };
    let roots = |claimed: &Vec<Claimed>| claimed.iter().map(|one| one.lead.id).collect();
    Mutation::new(locks, root, decide).with_more_roots(roots)
}

fn claim_one(
    unit: &mut UnitOfWork<'_>,
    before: &Order,
    lead: &Lead,
    action: &str,
    input: &ClaimActions,
    now: DateTime<Utc>,
) -> Result<Claimed> {
    let claim = Claim {
        run_id: unit.clock.new_id(),
        actor: (*unit.call.principal).clone(),
        expire_time: now + input.lease,
    };
    let references = References::default();
    let mut fulfilment = Fulfilment::new(unit, before.clone(), lead.clone(), references);
    fulfilment.order.claim(action, claim.clone());
    fulfilment.log_by_hand(unit, RunKind::Claim, |entry| {
        entry.id = claim.run_id;
        action.clone_into(&mut entry.action);
        entry.time = now;
        entry.expire_time = Some(claim.expire_time);
    });
    let fulfilled = match input.validate_only {
        true => fulfilment.preview(),
        false => fulfilment.write_by_hand(unit, "order.action_claimed", before, Vec::new())?,
    };
    let mut runs = fulfilled.runs.into_iter();
    let run = runs
        .next()
        .ok_or_else(|| crate::error::Error::internal("a claim has no entry in the ledger"))?;
    Ok(Claimed {
        run,
        order: fulfilled.order,
        lead: fulfilled.lead,
    })
}

/// Where a claim was found: the order, the key of the action, and the id of the claim.
type Place = (Uuid, String, Uuid);

fn found_in(claim: &ActionRun) -> Place {
    (claim.order_id, claim.action.clone(), claim.id)
}

/// Ends a claim that the caller holds at `now`, as `edit` does it.
fn end(
    (order_id, action, run_id): Place,
    now: DateTime<Utc>,
    event: &'static str,
    references: References,
    validate_only: bool,
    edit: impl Fn(&UnitOfWork<'_>, &mut Fulfilment) -> Result<()> + Send + 'static,
) -> Mutation<Fulfilled> {
    let locks = LockSet::default().with_root::<Order>(order_id);
    let root = |fulfilled: &Fulfilled| fulfilled.lead.id;
    let mutation = Mutation::new(locks, root, move |unit| {
        let before = unit.get::<Order>(order_id);
        let before = before.ok_or_else(|| errors::not_found(order_id))?;
        before.check_claim(&action, run_id, unit.call.principal.id, now)?;
        let lead = leads::locked(unit, before.lead_id)?;
        let references = references.clone();
        let mut fulfilment = Fulfilment::new(unit, before.clone(), lead.clone(), references);
        edit(unit, &mut fulfilment)?;
        if validate_only {
            return Ok(Decision::Preview(fulfilment.preview()));
        }
        let fulfilled = fulfilment.write_by_hand(unit, event, before, Vec::new())?;
        Ok(Decision::Commit(fulfilled))
    });
    mutation.with_more_roots(Fulfilled::other_clients)
}
