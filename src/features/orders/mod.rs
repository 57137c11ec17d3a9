//! Orders: what was sold to a lead, and the actions that fulfil it.
//!
//! Every attempt to run an action is recorded as a run in the order's log, including refused attempts. A
//! run that converts the lead is a change of the lead, with a history row and an event of the lead. Any
//! other run is a change of the order.

pub mod api;
mod errors;
mod fulfilment;
pub mod model;
pub mod store;

use uuid::Uuid;

use crate::commit::{Decision, LockSet, Mutation, UnitOfWork, check_etag};
use crate::core::page::PageInput;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::db::select::Part;
use crate::error::Result;
use crate::features::leads;
use crate::features::leads::model::{Lead, Transition};
use crate::features::opportunities::model::Opportunity;
use fulfilment::Fulfilment;
use model::{Action, ActionRun, Filter, Item, Order, OrderState};

/// The use cases of orders.
#[derive(Clone, Debug)]
pub struct Orders {
    db: Db,
}

/// The input of [`create`].
#[derive(Clone)]
pub struct NewOrder {
    /// The lead that it is sold to.
    pub lead_id: Uuid,
    /// The opportunity that it comes from.
    pub opportunity_id: Option<Uuid>,
    /// The items.
    pub items: Vec<Item>,
    /// The actions, at least one.
    pub actions: Vec<Action>,
    /// Validate without creating.
    pub validate_only: bool,
}

/// The outcome of [`create`].
pub struct CreatedOrder {
    /// The order.
    pub order: Order,
    /// The automatic runs in sequence, including failed ones.
    pub runs: Vec<ActionRun>,
    /// The order's lead after the runs.
    pub lead: Lead,
}

/// The input of [`run_action`].
#[derive(Clone)]
pub struct RunAction {
    /// The order.
    pub order_id: Uuid,
    /// The action's key.
    pub action: String,
    /// The expected etag; empty for any.
    pub etag: String,
    /// Validate without running.
    pub validate_only: bool,
}

/// The outcome of [`run_action`].
#[derive(Clone)]
pub struct RunActionOutcome {
    /// The order after the run.
    pub order: Order,
    /// The run.
    pub run: ActionRun,
    /// The order's lead after the run.
    pub lead: Lead,
}

impl Orders {
    /// Creates the use cases for this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Returns an order.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`.
    pub async fn get(&self, id: Uuid) -> Result<Order> {
        let found = store::get(self.db.read(), id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// Lists orders, newest first.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`, `QUERY_TOO_SLOW`.
    pub async fn list(&self, filter: &Filter, page: PageInput<i64>) -> Result<Part<Order>> {
        let db = self.db.pages(page.principal).await?;
        store::list(&db, filter, page.after, page.limit).await
    }

    /// Lists an order's runs, newest first.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`, and those of [`Orders::list`].
    pub async fn runs(&self, order_id: Uuid, page: PageInput<i64>) -> Result<Part<ActionRun>> {
        self.get(order_id).await?;
        let db = self.db.pages(page.principal).await?;
        store::list_runs(&db, order_id, page.after, page.limit).await
    }
}

/// Creates a PROCESSING order and runs its automatic actions that have no prerequisites.
///
/// Fails with `LEAD_NOT_FOUND`; with `LEAD_ERASED`; with `FIELD_INVALID` if the opportunity belongs to
/// another lead.
pub fn create(new: NewOrder) -> Mutation<CreatedOrder> {
    let locks = LockSet::default().record::<Lead>(new.lead_id);
    let locks = match new.opportunity_id {
        Some(id) => locks.record::<Opportunity>(id),
        None => locks,
    };
    let root = |created: &CreatedOrder| created.lead.id;
    Mutation::new(locks, root, move |unit| {
        let lead = leads::locked(unit, new.lead_id)?.clone();
        lead.effect(Transition::Attach)?;
        if let Some(id) = new.opportunity_id {
            check_opportunity(unit, id, lead.id)?;
        }
        let now = unit.clock.now();
        let order = Order {
            id: unit.clock.new_id(),
            seq: 0,
            lead_id: lead.id,
            opportunity_id: new.opportunity_id,
            version: 1,
            state: OrderState::Processing,
            items: new.items.clone(),
            actions: new.actions.clone(),
            create_time: now,
            update_time: now,
        };
        if new.validate_only {
            return Ok(Decision::Preview(CreatedOrder {
                order,
                runs: Vec::new(),
                lead,
            }));
        }
        let mut fulfilment = Fulfilment::new(order, lead);
        fulfilment.run_automatic(unit);
        fulfilment.write_created(unit)?;
        Ok(Decision::Commit(CreatedOrder {
            order: fulfilment.order,
            runs: fulfilment.runs,
            lead: fulfilment.lead,
        }))
    })
}

fn check_opportunity(unit: &UnitOfWork<'_>, id: Uuid, lead_id: Uuid) -> Result<()> {
    let found = unit.get::<Opportunity>(id);
    let mut violations = Violations::default();
    if found.is_none_or(|opportunity| opportunity.lead_id != lead_id) {
        violations.add(
            "order.opportunity_id",
            Reason::ReferenceInvalid,
            "is not an opportunity of this lead",
        );
    }
    Ok(violations.finish()?)
}

/// Runs one action of an order, and the automatic actions for which it was the last open prerequisite.
///
/// Fails with `ORDER_NOT_FOUND`, `ACTION_NOT_FOUND`, `ETAG_MISMATCH`. Also fails with the errors of
/// [`Order::check_runnable`] and the refusal of the lead's state, which the order's log records.
pub fn run_action(input: RunAction) -> Mutation<RunActionOutcome> {
    let locks = LockSet::default().with_root::<Order>(input.order_id);
    Mutation::new(
        locks,
        |outcome: &RunActionOutcome| outcome.lead.id,
        move |unit| {
            let order = unit.get::<Order>(input.order_id);
            let order = order.ok_or_else(|| errors::not_found(input.order_id))?;
            let action = order.action(&input.action)?;
            check_etag(&input.etag, order.version)?;
            let runnable = order.check_runnable(action);
            let lead = leads::locked(unit, order.lead_id)?;
            let mut fulfilment = Fulfilment::new(order.clone(), lead.clone());
            if input.validate_only {
                runnable?;
                fulfilment.run(unit, action, false)?;
                return Ok(Decision::Preview(fulfilment.preview(unit)?));
            }
            if let Err(refusal) = runnable {
                fulfilment.log_refusal(unit, action, &refusal);
                fulfilment.write_runs(unit)?;
                return Ok(Decision::Refuse(refusal));
            }
            match fulfilment.run(unit, action, false) {
                Ok(()) => fulfilment.write_run(unit, order).map(Decision::Commit),
                Err(refusal) => {
                    let refusal = fulfilment.write_refused(unit, action, refusal)?;
                    Ok(Decision::Refuse(refusal))
                }
            }
        },
    )
}
