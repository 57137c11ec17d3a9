//! Orders: what was sold to a lead, and the actions that fulfil it.
//!
//! Every attempt to run an action is recorded as a run in the order's ledger, including refused attempts. A
//! run that converts the lead is a change of the lead, with a history row and an event of the lead. Any
//! other run is a change of the order. What is done by hand is a change of the order, and, if an automatic
//! action then converts the lead, of the lead too.

pub mod api;
pub mod by_hand;
pub mod claims;
mod errors;
mod fulfilment;
pub mod model;
pub mod store;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::commit::{Decision, LockSet, Mutation, UnitOfWork, check_etag, history};
use crate::core::page::PageInput;
use crate::core::violations::{Reason, Violations};
use crate::db::Db;
use crate::db::batch_loader::BatchLoader;
use crate::db::reader::Reader;
use crate::db::select::Part;
use crate::error::Result;
use crate::features::leads::model::{Lead, References, Transition};
use crate::features::leads::{self, Leads};
use crate::features::opportunities::model::Opportunity;
use crate::features::order_queues::model::{OrderQueue, Template, in_steps};
use crate::features::order_queues::{OrderQueues, check_steps};
use fulfilment::Fulfilment;
use model::{Action, ActionRun, ActionType, Filter, Item, Order, OrderState};

/// The use cases of orders.
#[derive(Clone, Debug)]
pub struct Orders {
    db: Db,
    leads: Leads,
    queues: OrderQueues,
    loader: Arc<BatchLoader<Order>>,
}

/// The input of [`create`].
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// The lead that it is sold to.
    pub lead_id: Uuid,
    /// The client that the lead is joined to when it is converted.
    pub client_id: Option<Uuid>,
    /// The opportunity that it comes from.
    pub opportunity_id: Option<Uuid>,
    /// The items.
    pub items: Vec<Item>,
    /// The actions of its own; none for those of its queue.
    pub actions: Vec<Template>,
    /// Validate without creating.
    pub validate_only: bool,
}

/// An order after a change.
pub struct Fulfilled {
    /// The order.
    pub order: Order,
    /// The entries of the ledger that the change has written: what was asked for, and the automatic runs in
    /// sequence, including failed ones.
    pub runs: Vec<ActionRun>,
    /// The order's lead after the runs.
    pub lead: Lead,
    /// The lead's client, if the lead is converted.
    pub client: Option<Lead>,
    /// What the runs did to convert the lead, if they did.
    pub report: Option<leads::model::Report>,
}

impl Fulfilled {
    /// The other leads that it contains: the client that its lead was joined to.
    fn other_clients(&self) -> Vec<Uuid> {
        self.lead.joined_to().into_iter().collect()
    }
}

/// The input of [`run_action`].
#[derive(Clone)]
pub struct RunAction {
    /// The order.
    pub order_id: Uuid,
    /// The action's key.
    pub action: String,
    /// What the caller says of it.
    pub report: Report,
    /// The expected etag; empty for any.
    pub etag: String,
    /// Validate without running.
    pub validate_only: bool,
}

/// What the caller says of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// That it failed.
    pub failed: bool,
    /// A note; may be empty.
    pub note: String,
    /// What it refers to outside of Leadsmith; may be empty.
    pub reference: String,
    /// The claim that a worker reports, and the time, by the database's clock; none for a run by hand.
    pub claim: Option<(Uuid, DateTime<Utc>)>,
}

impl Report {
    fn has_text(&self) -> bool {
        !self.note.is_empty() || !self.reference.is_empty()
    }
}

impl Orders {
    /// Creates the use cases for this database.
    pub fn new(db: Db, leads: Leads) -> Self {
        Self {
            queues: OrderQueues::new(db.clone()),
            loader: Arc::new(BatchLoader::new(load_many).one_at_a_time()),
            leads,
            db,
        }
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

    /// Prepares creating an order: reads its queue, whose steps and actions it gets as they are now, and if an automatic
    /// action may convert the lead, what refers to the lead.
    ///
    /// # Errors
    /// `ORDER_QUEUE_NOT_FOUND`, `ORDER_QUEUE_ARCHIVED`; `FIELD_INVALID` if an action belongs to none of the
    /// steps; and later as [`create`].
    pub async fn prepare_create(
        &self,
        new: NewOrder,
        queue_id: Option<Uuid>,
    ) -> Result<Mutation<Fulfilled>> {
        let queue = self.queues.for_new_orders(queue_id).await?;
        let mut violations = Violations::default();
        check_steps(&mut violations, "order.actions", &new.actions, &queue.steps);
        violations.finish()?;
        let actions = match new.actions.is_empty() {
            true => &queue.actions,
            false => &new.actions,
        };
        let mut actions = actions.iter();
        let may_convert = actions.any(|action| action.automatic && is_provision(action.r#type));
        let references = self.references(new.lead_id, may_convert).await?;
        Ok(create(new, queue, references))
    }

    /// Prepares running an action: reads what refers to the order's lead, which the run may convert, and the time, which
    /// is needed if the action is claimed.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`; and later as [`run_action`].
    pub async fn prepare_run(
        &self,
        input: RunAction,
        with_time: bool,
    ) -> Result<Mutation<Fulfilled>> {
        let order = self.find(input.order_id).await?;
        let may_convert = order.may_convert(Some(&input.action));
        let references = self.references(order.lead_id, may_convert).await?;
        let now = match with_time {
            true => Some(self.time().await?),
            false => None,
        };
        Ok(run_action(input, references, now))
    }

    /// The order that a change is about. Concurrent changes share a query.
    async fn find(&self, id: Uuid) -> Result<Order> {
        let found = self.loader.get(&self.db, id).await?;
        found.ok_or_else(|| errors::not_found(id))
    }

    /// See [`Leads::converting`].
    pub fn converting(&self) -> leads::Converting {
        self.leads.converting()
    }

    /// What the report of a conversion needs, if a change may convert the lead.
    async fn references(&self, lead_id: Uuid, may_convert: bool) -> Result<References> {
        match may_convert {
            true => self.leads.references(lead_id).await,
            false => Ok(References::default()),
        }
    }

    /// The time of the database's clock, by which claims expire.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn time(&self) -> Result<DateTime<Utc>> {
        self.db.time().await
    }

    /// Lists an order's changes, newest first.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`, and those of [`Orders::list`].
    pub async fn history(&self, id: Uuid, page: PageInput<i64>) -> Result<Part<history::Entry>> {
        self.get(id).await?;
        let db = self.db.pages(page.principal).await?;
        history::list(&db, id, page.after, page.limit).await
    }

    /// Lists an order's ledger, newest first.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`, and those of [`Orders::list`].
    pub async fn runs(&self, order_id: Uuid, page: PageInput<i64>) -> Result<Part<ActionRun>> {
        self.get(order_id).await?;
        let db = self.db.pages(page.principal).await?;
        store::list_runs(&db, order_id, page.after, page.limit).await
    }
}

/// Creates an order in the first step of a queue, and runs its automatic actions that are ready.
///
/// Fails with `LEAD_NOT_FOUND`; with `LEAD_ERASED`; with `CLIENT_NOT_FOUND`; with `FIELD_INVALID` if the opportunity
/// belongs to another lead.
pub fn create(new: NewOrder, queue: OrderQueue, references: References) -> Mutation<Fulfilled> {
    let locks = LockSet::default().record::<Lead>(new.lead_id);
    let locks = match new.client_id {
        Some(id) => locks.record::<Lead>(id),
        None => locks,
    };
    let locks = match new.opportunity_id {
        Some(id) => locks.record::<Opportunity>(id),
        None => locks,
    };
    let actions = match new.actions.is_empty() {
        true => queue.actions,
        false => in_steps(new.actions, &queue.steps),
    };
    let actions: Vec<Action> = actions.into_iter().map(Action::from).collect();
    let first = queue.steps.first().map(|step| step.key.clone());
    let first = first.unwrap_or_default();
    let root = |created: &Fulfilled| created.lead.id;
    let mutation = Mutation::new(locks, root, move |unit| {
        let lead = leads::locked(unit, new.lead_id)?.clone();
        lead.effect(Transition::Attach)?;
        if let Some(id) = new.client_id {
            leads::joinable(unit.get(id), id)?;
        }
        if let Some(id) = new.opportunity_id {
            check_opportunity(unit, id, lead.id)?;
        }
        let now = unit.clock.now();
        let mut order = Order {
            id: unit.clock.new_id(),
            seq: 0,
            lead_id: lead.id,
            opportunity_id: new.opportunity_id,
            version: 1,
            queue_id: queue.id,
            client_id: new.client_id,
            steps: queue.steps.clone(),
            step: first.clone(),
            state: OrderState::Processing,
            items: new.items.clone(),
            actions: actions.clone(),
            create_time: now,
            update_time: now,
        };
        order.advance();
        let references = references.clone().with_order(order.id);
        let mut fulfilment = Fulfilment::new(unit, order, lead, references);
        if new.validate_only {
            return Ok(Decision::Preview(fulfilment.preview()));
        }
        fulfilment.run_automatic(unit);
        Ok(Decision::Commit(fulfilment.write_created(unit)?))
    });
    mutation.with_more_roots(Fulfilled::other_clients)
}

/// An order of a lead that is COMPLETE. The lead is locked with everything that belongs to it.
pub fn complete_order(unit: &UnitOfWork<'_>, lead_id: Uuid) -> Option<Uuid> {
    let orders = unit.attached::<Order>(lead_id).into_iter();
    let mut complete = orders.filter(|order| order.state == OrderState::Complete);
    complete.next().map(|order| order.id)
}

/// Loads orders in one query.
fn load_many(db: Reader, ids: Vec<Uuid>) -> BoxFuture<'static, Result<HashMap<Uuid, Order>>> {
    Box::pin(async move {
        let orders = store::get_many(&db, ids).await?;
        Ok(orders.into_iter().map(|order| (order.id, order)).collect())
    })
}

fn is_provision(r#type: ActionType) -> bool {
    r#type == ActionType::ProvisionClient
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

/// Runs one action of an order, and the automatic actions that become ready by it.
///
/// Fails with `ORDER_NOT_FOUND`, `ACTION_NOT_FOUND`, `ETAG_MISMATCH`; with `FIELD_INVALID` if a failure is
/// reported of an action that the service does itself. Also fails with the errors of
/// [`Order::check_runnable`] and the refusal of the lead's state, which the order's ledger records. It is stale if the
/// action is claimed and `now`, the time of the database's clock, is unknown.
pub fn run_action(
    input: RunAction,
    references: References,
    now: Option<DateTime<Utc>>,
) -> Mutation<Fulfilled> {
    let locks = LockSet::default().with_root::<Order>(input.order_id);
    let mutation = Mutation::new(
        locks,
        |fulfilled: &Fulfilled| fulfilled.lead.id,
        move |unit| {
            let before = unit.get::<Order>(input.order_id);
            let before = before.ok_or_else(|| errors::not_found(input.order_id))?;
            let action = before.action(&input.action)?;
            check_etag(&input.etag, before.version)?;
            let Some(now) = time_for(action, now) else {
                return Ok(Decision::Stale);
            };
            let runnable = before.check_runnable(action, now);
            let lead = leads::locked(unit, before.lead_id)?;
            let references = references.clone();
            let mut fulfilment = Fulfilment::new(unit, before.clone(), lead.clone(), references);
            if let Err(refusal) = runnable {
                if input.validate_only {
                    return Err(refusal);
                }
                fulfilment.log_refusal(unit, action, &refusal);
                fulfilment.write_runs(unit)?;
                return Ok(Decision::Refuse(refusal));
            }
            check_report(action, &input.report)?;
            let ran = fulfilment.run(unit, action, Some(&input.report));
            match (ran, input.validate_only) {
                (Err(refusal), true) => Err(refusal),
                (Err(refusal), false) => {
                    let refusal = fulfilment.write_refused(unit, before, refusal)?;
                    Ok(Decision::Refuse(refusal))
                }
                (Ok(()), validate_only) => {
                    fulfilment.run_automatic(unit);
                    Ok(match validate_only {
                        true => Decision::Preview(fulfilment.preview()),
                        false => Decision::Commit(fulfilment.write_run(unit, before)?),
                    })
                }
            }
        },
    );
    mutation.with_more_roots(Fulfilled::other_clients)
}

/// The time by which it is decided whether an action is free, if that is known. It makes no difference for one that is
/// not claimed.
fn time_for(action: &Action, now: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match action.claim {
        Some(_) => now,
        None => Some(now.unwrap_or_default()),
    }
}

/// Whether provisioning a client fails is decided here, not by the caller.
fn check_report(action: &Action, report: &Report) -> Result<()> {
    let mut violations = Violations::default();
    if report.failed && action.r#type == ActionType::ProvisionClient {
        violations.add(
            "outcome",
            Reason::ValueNotAllowed,
            "must not be FAILED for a PROVISION_CLIENT action: leave it out",
        );
    }
    Ok(violations.finish()?)
}
