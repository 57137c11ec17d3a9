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
pub(crate) mod store;

use prost::Message;
use uuid::Uuid;

use crate::auth::Call;
use crate::changes::desk::{Answering, Desk};
use crate::changes::draft::{Draft, Needs};
use crate::changes::{Change, FieldChange, Record, Subject, check_etag, time_after};
use crate::db::Verdict;
use crate::error::{Error, Result};
use crate::leads::model::{Effect, Lead, Transition};
use crate::leads::{self, state_change};
use crate::wire::page::{Page, Window};
use crate::wire::violations::{Reason, Violations};
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

/// An order that was created.
pub struct Created {
    /// The order.
    pub order: Order,
    /// What ran by itself, also what failed, in that order.
    pub runs: Vec<ActionRun>,
    /// The order's lead afterwards.
    pub lead: Lead,
}

/// Creates a PROCESSING order and runs its automatic actions that wait for nothing.
///
/// # Errors
/// [`Error::LeadNotFound`]; [`Error::LeadRefused`] when it is erased; [`Error::FieldInvalid`] when the
/// opportunity is not the lead's.
pub async fn create<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    new: NewOrder,
    validate_only: bool,
    render: fn(Created) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |created| created.lead.id,
    };
    let needs = Needs {
        opportunity: new.opportunity_id,
        ..Needs::lead(new.lead_id)
    };
    desk.change(call, needs, answering, move |draft| {
        let lead = draft.lead(new.lead_id)?.clone();
        lead.effect(Transition::Attach)?;
        if let Some(id) = new.opportunity_id {
            check_opportunity(draft, id, lead.id)?;
        }
        let now = draft.clock.now();
        let order = Order {
            id: draft.clock.new_id(),
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
        if validate_only {
            return Ok(Verdict::Checked(Created {
                order,
                runs: Vec::new(),
                lead,
            }));
        }
        let mut work = Work::new(draft, order, lead);
        work.run_automatic()?;
        work.draft.put_order(work.order.clone());
        let created = vec![FieldChange::new("state", "", work.order.state.word())];
        work.record_order(None, "order.created", created)?;
        work.record_conversion(None)?;
        work.write_runs();
        Ok(Verdict::Done(Created {
            order: work.order,
            runs: work.runs,
            lead: work.lead,
        }))
    })
    .await
}

fn check_opportunity(draft: &Draft<'_>, id: Uuid, lead_id: Uuid) -> Result<()> {
    let found = draft.opportunity(id);
    let mut violations = Violations::default();
    if found.is_none_or(|opportunity| opportunity.lead_id != lead_id) {
        violations.add(
            "order.opportunity_id",
            Reason::ReferenceInvalid,
            "is not an opportunity of this lead",
        );
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
    let db = desk.db.pages(window.principal).await?;
    let rows = store::list(&db, filter, before, window.limit()).await?;
    window.cut(rows, |last| last.seq, render)
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
    let db = desk.db.pages(window.principal).await?;
    let rows = store::list_runs(&db, order_id, before, window.limit()).await?;
    window.cut(rows, |last| last.seq, render)
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

/// Which action to run.
#[derive(Clone)]
pub struct RunAction {
    /// The order.
    pub order_id: Uuid,
    /// The action's key.
    pub action: String,
    /// The version it is meant for; empty for any.
    pub etag: String,
    /// Check only.
    pub validate_only: bool,
}

/// Runs one action of an order, and the automatic ones whose last prerequisite it was.
///
/// # Errors
/// [`Error::OrderNotFound`], [`Error::ActionNotFound`], [`Error::EtagMismatch`]; those of
/// [`Order::check_runnable`] and [`Error::LeadRefused`], which are kept in the order's ledger.
pub async fn run_action<R: Message + Default + 'static>(
    desk: &Desk,
    call: Call,
    asked: RunAction,
    render: fn(Ran) -> R,
) -> Result<R> {
    let answering = Answering {
        render,
        lead: |ran| ran.lead.id,
    };
    let needs = Needs {
        order: Some(asked.order_id),
        ..Needs::default()
    };
    desk.change(call, needs, answering, move |draft| {
        let order = draft.order(asked.order_id)?.clone();
        let action = order.action(&asked.action)?.clone();
        check_etag(&asked.etag, order.version)?;
        let before = order.clone();
        let runnable = order.check_runnable(&action);
        let lead = draft.lead(order.lead_id)?.clone();
        let mut work = Work::new(draft, order, lead);
        if asked.validate_only {
            runnable?;
            work.run(&action, false)?;
            return work.checked().map(Verdict::Checked);
        }
        if let Err(refusal) = runnable {
            work.note(&action, false, Err(&refusal));
            work.write_runs();
            return Ok(Verdict::Refused(refusal));
        }
        match work.run(&action, false) {
            Ok(()) => work.finish(&before).map(Verdict::Done),
            Err(refusal @ Error::LeadRefused { .. }) => {
                Ok(Verdict::Refused(work.refuse(&action, refusal)))
            }
            Err(error) => Err(error),
        }
    })
    .await
}

/// Erases what is said in free text in the orders of a lead that is held with all that is attached to
/// it. Answers which orders it has.
pub(crate) fn erase_texts(draft: &mut Draft<'_>, lead_id: Uuid) -> Result<Vec<Uuid>> {
    let orders = draft.orders_of(lead_id);
    for order in &orders {
        let time = time_after(draft.clock, order.update_time);
        let Some((after, changes)) = order.erased(time) else {
            continue;
        };
        draft.put_order(after.clone());
        draft.record(Change {
            subject: Subject::Order,
            subject_id: after.id,
            lead_id,
            version: after.version,
            event: "order.erased",
            time,
            changes,
            record: Record::default().whole("order", &after)?,
        });
    }
    Ok(orders.iter().map(|order| order.id).collect())
}

/// The running of an order's actions inside one change.
struct Work<'a, 'b> {
    draft: &'a mut Draft<'b>,
    order: Order,
    lead: Lead,
    /// The lead before a run converted it.
    converted_from: Option<Lead>,
    runs: Vec<ActionRun>,
}

impl<'a, 'b> Work<'a, 'b> {
    fn new(draft: &'a mut Draft<'b>, order: Order, lead: Lead) -> Self {
        Self {
            draft,
            order,
            lead,
            converted_from: None,
            runs: Vec::new(),
        }
    }

    /// Runs one action and notes the attempt.
    fn run(&mut self, action: &Action, automatic: bool) -> Result<()> {
        let effect = match action.r#type {
            ActionType::Manual => Ok(Effect::To(self.lead.state())),
            ActionType::ProvisionClient => self.provision_client(),
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

    fn provision_client(&mut self) -> Result<Effect> {
        let order_id = Some(self.order.id);
        let transition = Transition::ProvisionClient;
        let (lead, effect) = leads::convert(self.draft, &self.lead, transition, order_id)?;
        if effect != Effect::NoChange {
            self.draft.put_lead(lead.clone());
            self.converted_from = Some(std::mem::replace(&mut self.lead, lead));
        }
        Ok(effect)
    }

    /// Runs what runs by itself now. What fails stays FAILED and waits for a person.
    fn run_automatic(&mut self) -> Result<()> {
        while let Some(action) = self.order.next_automatic() {
            match self.run(&action, true) {
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
            id: self.draft.clock.new_id(),
            seq: 0,
            order_id: self.order.id,
            lead_id: self.lead.id,
            action: action.key.clone(),
            time: self.draft.clock.now(),
            actor: self.draft.call.principal.clone(),
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
    fn finish(mut self, before: &Order) -> Result<Ran> {
        self.run_automatic()?;
        self.write_order();
        if self.converted_from.is_some() {
            self.record_conversion(Some(before))?;
        } else {
            let changes = self.order.changes_from(before);
            self.record_order(Some(before), "order.action_run", changes)?;
        }
        self.write_runs();
        self.ran()
    }

    /// What a successful run and the automatic ones behind it would come to.
    fn checked(mut self) -> Result<Ran> {
        self.run_automatic()?;
        if let Some(before) = &self.converted_from {
            self.lead = self.lead.unwritten(before);
        }
        self.ran()
    }

    /// The first run is the one that was asked for.
    fn ran(self) -> Result<Ran> {
        let run = self.runs.into_iter().next();
        let run = run.ok_or_else(|| Error::internal("a run was not noted"))?;
        Ok(Ran {
            order: self.order,
            run,
            lead: self.lead,
        })
    }

    /// Writes a refused run: the action is FAILED, and the caller learns the order's new etag.
    fn refuse(mut self, action: &Action, mut refusal: Error) -> Error {
        if action.state != ActionState::Failed {
            self.write_order();
        }
        self.write_runs();
        if let Error::LeadRefused { order_etag, .. } = &mut refusal {
            *order_etag = Some(self.order.etag());
        }
        refusal
    }

    fn write_order(&mut self) {
        self.order.update_time = time_after(self.draft.clock, self.order.update_time);
        self.order.version += 1;
        self.draft.put_order(self.order.clone());
    }

    fn write_runs(&mut self) {
        for run in &self.runs {
            self.draft.put_run(run.clone());
        }
    }

    /// What became of the order since `before`; of a new one, all of it.
    fn record(&self, before: Option<&Order>) -> Result<Record> {
        match before {
            Some(before) => Record::default().changed("order", before, &self.order),
            None => Record::default().whole("order", &self.order),
        }
    }

    fn record_order(
        &mut self,
        before: Option<&Order>,
        event: &'static str,
        changes: Vec<FieldChange>,
    ) -> Result<()> {
        self.draft.record(Change {
            subject: Subject::Order,
            subject_id: self.order.id,
            lead_id: self.lead.id,
            version: self.order.version,
            event,
            time: self.order.update_time,
            changes,
            record: self.record(before)?.whole("runs", &self.runs)?,
        });
        Ok(())
    }

    /// Records that the lead was converted, if it was. With it what became of the order, unless that
    /// is new and so recorded already.
    fn record_conversion(&mut self, order_before: Option<&Order>) -> Result<()> {
        let Some(before) = &self.converted_from else {
            return Ok(());
        };
        let record = match order_before {
            Some(_) => self.record(order_before)?,
            None => Record::default(),
        };
        self.draft.record(Change {
            subject: Subject::Lead,
            subject_id: self.lead.id,
            lead_id: self.lead.id,
            version: self.lead.version,
            event: "lead.converted",
            time: self.lead.update_time,
            changes: vec![state_change(before, &self.lead)],
            record: record
                .changed("lead", before, &self.lead)?
                .whole("runs", &self.runs)?,
        });
        Ok(())
    }
}
