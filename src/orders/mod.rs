//! Orders: what was sold to a lead, and the actions that fulfil it.
//!
//! Every attempt to run an action is a run in the order's ledger, also one that was refused. A run
//! that converts the lead is a change of the lead, with the lead's history row and event; any other
//! is a change of the order.
//!
//! Locks are taken in one order, the order's row before the lead's, so that no two calls can wait
//! for each other.

pub mod api;
pub mod model;
mod store;

use prost::Message;
use uuid::Uuid;

use crate::auth::Call;
use crate::changes::desk::{Answering, Desk};
use crate::changes::{Change, FieldChange, Subject, check_etag, time_after};
use crate::db::json::to_json;
use crate::db::{Tx, Verdict};
use crate::error::{Error, Result};
use crate::leads::model::{Effect, Lead, Transition};
use crate::leads::{self, state_change};
use crate::opportunities;
use crate::wire::page::{Page, Window};
use crate::wire::violations::Violations;
use model::{
    Action, ActionRun, ActionState, ActionType, Filter, Item, Order, OrderState, RunOutcome,
};

/// An order that is to be created.
pub struct NewOrder {
    /// The lead it is sold to.
    pub lead_id: Uuid,
    /// The opportunity it comes from.
    pub opportunity_id: Option<Uuid>,
    /// What is sold.
    pub items: Vec<Item>,
    /// What is to be done, at least one.
    pub actions: Vec<Action>,
}

/// Creates a PROCESSING order and runs its automatic actions that wait for nothing.
///
/// # Errors
/// [`Error::LeadNotFound`]; [`Error::FieldInvalid`] when the opportunity is not the lead's.
pub async fn create<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    new: NewOrder,
    validate_only: bool,
    render: fn(Order) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |order| order.lead_id,
    };
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let lead = leads::store::get_to_change(tx, new.lead_id).await?;
            if let Some(id) = new.opportunity_id {
                check_opportunity(tx, id, lead.id).await?;
            }
            let now = tx.clock.now();
            let order = Order {
                id: tx.clock.new_id(),
                lead_id: lead.id,
                opportunity_id: new.opportunity_id,
                version: 1,
                state: OrderState::Processing,
                items: new.items,
                actions: new.actions,
                create_time: now,
                update_time: now,
            };
            if validate_only {
                return Ok(Verdict::Checked(order));
            }
            let mut work = Work {
                tx,
                call,
                order,
                lead,
                converted_from: None,
                runs: Vec::new(),
            };
            work.run_automatic().await?;
            store::insert(tx, &work.order).await?;
            let created = vec![FieldChange::new("state", "", work.order.state.word())];
            work.record_order("order.created", created).await?;
            work.record_conversion().await?;
            work.write_runs().await?;
            Ok(Verdict::Done(work.order))
        })
    })
    .await
}

async fn check_opportunity(tx: &Tx, id: Uuid, lead_id: Uuid) -> Result<()> {
    let found = opportunities::find(&**tx, id).await?;
    let mut violations = Violations::default();
    if found.is_none_or(|view| view.opportunity.lead_id != lead_id) {
        violations.add("order.opportunity_id", "is not an opportunity of this lead");
    }
    violations.finish()
}

/// An order.
///
/// # Errors
/// [`Error::OrderNotFound`].
pub async fn get(desk: &Desk, id: Uuid) -> Result<Order> {
    let found = store::get(desk.db.read(), id).await?;
    found.ok_or(Error::OrderNotFound(id))
}

/// A page of orders, newest first.
///
/// # Errors
/// [`Error::PageTokenInvalid`].
pub async fn list<R: Message>(
    desk: &Desk,
    filter: &Filter,
    window: Window,
    render: fn(Order) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    let rows = store::list(desk.db.read(), filter, before, window.limit()).await?;
    window.cut(rows, |last| last.id, render)
}

/// A page of an order's runs, newest first.
///
/// # Errors
/// [`Error::OrderNotFound`], [`Error::PageTokenInvalid`].
pub async fn list_runs<R: Message>(
    desk: &Desk,
    order_id: Uuid,
    window: Window,
    render: fn(ActionRun) -> R,
) -> Result<Page<R>> {
    let before = window.begin()?;
    get(desk, order_id).await?;
    let rows = store::list_runs(desk.db.read(), order_id, before, window.limit()).await?;
    window.cut(rows, |last| last.id, render)
}

/// What came of running an action.
#[derive(Clone)]
pub struct Ran {
    /// The order after it.
    pub order: Order,
    /// The attempt.
    pub run: ActionRun,
    /// The order's lead after it.
    pub lead: Lead,
}

/// Runs one action of an order, and the automatic ones whose last prerequisite it was.
///
/// # Errors
/// [`Error::OrderNotFound`], [`Error::ActionNotFound`], [`Error::EtagMismatch`]; those of
/// [`Order::check_runnable`] and [`Error::LeadRefused`], which are kept in the order's ledger.
pub async fn run_action<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    order_id: Uuid,
    key: String,
    etag: String,
    render: fn(Ran) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |ran| ran.lead.id,
    };
    desk.change(call, answering, move |tx, call| {
        Box::pin(async move {
            let order = store::get_to_change(tx, order_id).await?;
            let action = order.action(&key)?.clone();
            check_etag(&etag, order.version)?;
            let before = order.clone();
            let runnable = order.check_runnable(&action);
            let lead = leads::store::get_to_change(tx, order.lead_id).await?;
            let mut work = Work {
                tx,
                call,
                order,
                lead,
                converted_from: None,
                runs: Vec::new(),
            };
            if let Err(refusal) = runnable {
                work.note(&action, false, Err(&refusal));
                work.write_runs().await?;
                return Ok(Verdict::Refused(refusal));
            }
            match work.run(&action, false).await {
                Ok(()) => work.finish(&before).await.map(Verdict::Done),
                Err(refusal @ Error::LeadRefused { .. }) => {
                    work.refuse(&action, refusal).await.map(Verdict::Refused)
                }
                Err(error) => Err(error),
            }
        })
    })
    .await
}

/// The running of an order's actions inside one transaction.
struct Work<'a> {
    tx: &'a Tx,
    call: &'a Call,
    order: Order,
    lead: Lead,
    /// The lead before a run converted it.
    converted_from: Option<Lead>,
    runs: Vec<ActionRun>,
}

impl Work<'_> {
    /// Runs one action and notes the attempt.
    async fn run(&mut self, action: &Action, automatic: bool) -> Result<()> {
        let effect = match action.r#type {
            ActionType::Manual => Ok(Effect::To(self.lead.state())),
            ActionType::ProvisionClient => self.provision_client().await,
        };
        match effect {
            Ok(effect) => {
                self.order.set_action(&action.key, ActionState::Done);
                self.note(action, automatic, Ok(effect));
                Ok(())
            }
            Err(refusal @ Error::LeadRefused { .. }) => {
                self.order.set_action(&action.key, ActionState::Failed);
                self.note(action, automatic, Err(&refusal));
                Err(refusal)
            }
            Err(error) => Err(error),
        }
    }

    async fn provision_client(&mut self) -> Result<Effect> {
        let order_id = Some(self.order.id);
        let (lead, effect) = leads::convert(
            self.tx,
            self.call,
            &self.lead,
            Transition::ProvisionClient,
            order_id,
        )?;
        if effect != Effect::NoChange {
            leads::store::update(self.tx, &self.lead, &lead).await?;
            self.converted_from = Some(std::mem::replace(&mut self.lead, lead));
        }
        Ok(effect)
    }

    /// Runs what runs by itself now. What fails stays FAILED and waits for a person.
    async fn run_automatic(&mut self) -> Result<()> {
        while let Some(action) = self.order.next_automatic() {
            match self.run(&action, true).await {
                Ok(()) | Err(Error::LeadRefused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes an attempt for the ledger.
    fn note(&mut self, action: &Action, automatic: bool, result: Result<Effect, &Error>) {
        let (error_reason, error_message) = match result {
            Ok(_) => (String::new(), String::new()),
            Err(error) => {
                let answer = error.answer();
                (answer.reason_name().to_owned(), answer.message)
            }
        };
        self.runs.push(ActionRun {
            id: self.tx.clock.new_id(),
            order_id: self.order.id,
            lead_id: self.lead.id,
            action: action.key.clone(),
            time: self.tx.clock.now(),
            actor: self.call.principal.clone(),
            outcome: if result.is_ok() {
                RunOutcome::Succeeded
            } else {
                RunOutcome::Failed
            },
            no_change: matches!(result, Ok(Effect::NoChange)),
            automatic,
            error_reason,
            error_message,
        });
    }

    /// Writes what a successful run and the automatic ones behind it came to.
    async fn finish(mut self, before: &Order) -> Result<Ran> {
        self.run_automatic().await?;
        self.write_order().await?;
        if self.converted_from.is_some() {
            self.record_conversion().await?;
        } else {
            let changes = self.order.changes_from(before);
            self.record_order("order.action_run", changes).await?;
        }
        self.write_runs().await?;
        // The first run is the one that was asked for.
        let run = self.runs.into_iter().next();
        let run = run.ok_or_else(|| Error::internal("a run was not noted"))?;
        Ok(Ran {
            order: self.order,
            run,
            lead: self.lead,
        })
    }

    /// Writes a refused run: the action is FAILED, and the caller learns the order's new etag.
    async fn refuse(mut self, action: &Action, mut refusal: Error) -> Result<Error> {
        if action.state != ActionState::Failed {
            self.write_order().await?;
        }
        self.write_runs().await?;
        if let Error::LeadRefused { order_etag, .. } = &mut refusal {
            *order_etag = Some(self.order.etag());
        }
        Ok(refusal)
    }

    async fn write_order(&mut self) -> Result<()> {
        self.order.update_time = time_after(self.tx, self.order.update_time);
        self.order.version += 1;
        store::update(self.tx, &self.order).await
    }

    async fn write_runs(&self) -> Result<()> {
        for run in &self.runs {
            store::insert_run(self.tx, run).await?;
        }
        Ok(())
    }

    async fn record_order(&self, event: &'static str, changes: Vec<FieldChange>) -> Result<()> {
        Change {
            subject: Subject::Order,
            subject_id: self.order.id,
            lead_id: self.lead.id,
            version: self.order.version,
            event,
            time: self.order.update_time,
            changes,
            record: serde_json::json!({
                "order": to_json(&self.order)?,
                "runs": to_json(&self.runs)?,
            }),
        }
        .record(self.tx, self.call)
        .await
    }

    /// Records that the lead was converted, if it was.
    async fn record_conversion(&self) -> Result<()> {
        let Some(before) = &self.converted_from else {
            return Ok(());
        };
        Change {
            subject: Subject::Lead,
            subject_id: self.lead.id,
            lead_id: self.lead.id,
            version: self.lead.version,
            event: "lead.converted",
            time: self.lead.update_time,
            changes: vec![state_change(before, &self.lead)],
            record: serde_json::json!({
                "lead": to_json(&self.lead)?,
                "order": to_json(&self.order)?,
                "runs": to_json(&self.runs)?,
            }),
        }
        .record(self.tx, self.call)
        .await
    }
}
