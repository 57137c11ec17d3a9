//! Runs the actions of an order within one change: first the results, then the rows that record them.

use super::model::{Action, ActionRun, ActionState, ActionType, Order, RunKind, RunOutcome};
use super::store;
use super::{Fulfilled, Report, leads};
use crate::commit::{Change, UnitOfWork};
use crate::core::field_change::FieldChange;
use crate::core::text_enum::TextEnum as _;
use crate::error::{Error, Result};
use leads::model::{Effect, Lead, Mask, References, Transition};

/// An order and its lead while actions run.
pub(super) struct Fulfilment {
    pub order: Order,
    pub lead: Lead,
    /// The client that the lead was joined to before; `None` if it was not.
    client: Option<Lead>,
    /// What refers to the lead.
    references: References,
    /// The conversion of the lead by a run.
    converted: Option<leads::Step>,
    /// The entries of the ledger so far.
    runs: Vec<ActionRun>,
}

/// The results of running actions.
impl Fulfilment {
    /// The client that the lead was joined to is locked with the lead.
    pub fn new(unit: &UnitOfWork<'_>, order: Order, lead: Lead, references: References) -> Self {
        let client = lead.joined_to().and_then(|id| unit.get(id)).cloned();
        Self {
            order,
            lead,
            client,
            references,
            converted: None,
            runs: Vec::new(),
        }
    }

    /// Runs one action. If the lead's state does not allow it, the action becomes FAILED.
    ///
    /// # Errors
    /// The refusal.
    pub fn run(
        &mut self,
        unit: &UnitOfWork<'_>,
        action: &Action,
        report: Option<&Report>,
    ) -> Result<()> {
        let effect = match action.r#type {
            ActionType::Manual | ActionType::External => self.outside(report),
            ActionType::ProvisionClient => self.provision_client(unit),
        };
        let failed = effect.is_err() || report.is_some_and(|report| report.failed);
        let state = match failed {
            true => ActionState::Failed,
            false => ActionState::Done,
        };
        self.order.set_result(&action.key, state);
        self.log(unit, action, report, effect.as_ref().copied());
        effect.map(|_| ())
    }

    /// What was done outside of Leadsmith changes nothing but the order. Nothing is said of an erased lead any
    /// more.
    fn outside(&self, report: Option<&Report>) -> Result<Effect> {
        if report.is_some_and(Report::has_text) {
            self.lead.effect(Transition::Attach)?;
        }
        Ok(Effect::To(self.lead.state()))
    }

    fn provision_client(&mut self, unit: &UnitOfWork<'_>) -> Result<Effect> {
        let overwrite = Mask::default();
        let into = self.order.client_id.map(|id| (id, &overwrite));
        let (transition, order_id) = (Transition::ProvisionClient, Some(self.order.id));
        let Some(step) = leads::convert(unit, &self.lead, transition, order_id, into)? else {
            return Ok(Effect::NoChange);
        };
        self.lead = step.lead.clone();
        self.converted = Some(step);
        Ok(Effect::To(self.lead.state()))
    }

    /// Runs all automatic actions that are ready. An action that fails stays FAILED until somebody runs it
    /// by hand.
    pub fn run_automatic(&mut self, unit: &UnitOfWork<'_>) {
        while let Some(action) = self.order.next_automatic() {
            // The error is ignored here, because the ledger contains the refusal.
            let _ = self.run(unit, &action, None);
        }
    }

    /// Logs a run that was refused before it began.
    pub fn log_refusal(&mut self, unit: &UnitOfWork<'_>, action: &Action, refusal: &Error) {
        self.log(unit, action, Some(&Report::default()), Err(refusal));
    }

    /// Logs a run. One without a report is automatic.
    fn log(
        &mut self,
        unit: &UnitOfWork<'_>,
        action: &Action,
        report: Option<&Report>,
        result: Result<Effect, &Error>,
    ) {
        let mut run = self.entry(unit, RunKind::Run);
        run.action.clone_from(&action.key);
        run.no_change = matches!(result, Ok(Effect::NoChange));
        run.automatic = report.is_none();
        if let Some((run_id, time)) = report.and_then(|report| report.claim) {
            run.claim_run_id = Some(run_id);
            run.time = time;
        }
        match (result, report) {
            (Err(error), _) => {
                run.outcome = RunOutcome::Failed;
                run.error_reason = error.reason_name().to_owned();
                run.error_message = error.message().to_owned();
            }
            (Ok(_), Some(report)) => {
                if report.failed {
                    run.outcome = RunOutcome::Failed;
                }
                run.note.clone_from(&report.note);
                run.reference.clone_from(&report.reference);
            }
            (Ok(_), None) => {}
        }
        self.runs.push(run);
    }

    /// Logs what was done by hand. `edit` completes the entry.
    pub fn log_by_hand(
        &mut self,
        unit: &UnitOfWork<'_>,
        kind: RunKind,
        edit: impl FnOnce(&mut ActionRun),
    ) {
        let mut entry = self.entry(unit, kind);
        edit(&mut entry);
        self.runs.push(entry);
    }

    fn entry(&self, unit: &UnitOfWork<'_>, kind: RunKind) -> ActionRun {
        ActionRun {
            id: unit.clock.new_id(),
            seq: 0,
            order_id: self.order.id,
            lead_id: self.lead.id,
            kind,
            action: String::new(),
            time: unit.clock.now(),
            actor: (*unit.call.principal).clone(),
            outcome: RunOutcome::Succeeded,
            no_change: false,
            automatic: false,
            error_reason: String::new(),
            error_message: String::new(),
            note: String::new(),
            reference: String::new(),
            step: String::new(),
            claim_run_id: None,
            expire_time: None,
        }
    }

    /// The results, as they would be after a commit.
    pub fn preview(mut self) -> Fulfilled {
        self.converted = self.converted.map(leads::Step::into_preview);
        self.into_fulfilled()
    }

    fn into_fulfilled(self) -> Fulfilled {
        let converted = self.converted.map(|step| step.report(self.references));
        let (lead, client, report) = match converted {
            Some(converted) => (
                converted.lead,
                Some(converted.client),
                Some(converted.report),
            ),
            None => {
                let own = self.lead.is_client().then(|| self.lead.clone());
                (self.lead, self.client.or(own), None)
            }
        };
        Fulfilled {
            order: self.order,
            runs: self.runs,
            lead,
            client,
            report,
        }
    }
}

/// The rows that record the results.
impl Fulfilment {
    /// Writes a new order and its automatic runs.
    pub fn write_created(self, unit: &mut UnitOfWork<'_>) -> Result<Fulfilled> {
        unit.put(self.order.clone());
        let created = vec![FieldChange::new("state", "", self.order.state.as_str())];
        let change = Change::of(&self.order, "order.created", created);
        unit.record_change(
            change
                .whole("order", &self.order)?
                .whole("runs", &self.runs)?,
        );
        self.write_conversion(unit)?;
        self.write_runs(unit)?;
        Ok(self.into_fulfilled())
    }

    /// Writes a run and the automatic runs after it. `before` is the order before the run. If they convert the
    /// lead, this is a change of the lead.
    pub fn write_run(mut self, unit: &mut UnitOfWork<'_>, before: &Order) -> Result<Fulfilled> {
        self.write_next_order(unit);
        match &self.converted {
            Some(step) => {
                let change = conversion(step)?;
                self.put_lead(unit, step, change.changed("order", before, &self.order)?)?;
            }
            None => {
                let changes = self.order.changes_from(before);
                self.record_order(unit, "order.action_run", changes, before)?;
            }
        }
        self.write_runs(unit)?;
        Ok(self.into_fulfilled())
    }

    /// Writes what was done by hand, and the automatic runs after it. `more` are changes for the history that the
    /// states of the order do not show.
    pub fn write_by_hand(
        mut self,
        unit: &mut UnitOfWork<'_>,
        event: &'static str,
        before: &Order,
        more: Vec<FieldChange>,
    ) -> Result<Fulfilled> {
        self.write_next_order(unit);
        let mut changes = self.order.changes_from(before);
        changes.extend(more);
        self.record_order(unit, event, changes, before)?;
        self.write_conversion(unit)?;
        self.write_runs(unit)?;
        Ok(self.into_fulfilled())
    }

    /// Writes a refused run: the action is FAILED, and the error contains the order's new etag.
    pub fn write_refused(
        mut self,
        unit: &mut UnitOfWork<'_>,
        before: &Order,
        refusal: Error,
    ) -> Result<Error> {
        if self.order.actions != before.actions {
            self.write_next_order(unit);
        }
        self.write_runs(unit)?;
        Ok(refusal.with("order_etag", self.order.etag()))
    }

    /// Writes the entries of the ledger.
    pub fn write_runs(&self, unit: &mut UnitOfWork<'_>) -> Result<()> {
        for run in &self.runs {
            unit.append(run.id, store::run_to_row(run)?)?;
        }
        Ok(())
    }

    fn write_next_order(&mut self, unit: &mut UnitOfWork<'_>) {
        self.order.update_time = unit.clock.time_after(self.order.update_time);
        self.order.version += 1;
        unit.put(self.order.clone());
    }

    fn record_order(
        &self,
        unit: &mut UnitOfWork<'_>,
        event: &'static str,
        changes: Vec<FieldChange>,
        before: &Order,
    ) -> Result<()> {
        let change = Change::of(&self.order, event, changes);
        let change = change.changed("order", before, &self.order)?;
        unit.record_change(change.whole("runs", &self.runs)?);
        Ok(())
    }

    fn write_conversion(&self, unit: &mut UnitOfWork<'_>) -> Result<()> {
        match &self.converted {
            Some(step) => self.put_lead(unit, step, conversion(step)?),
            None => Ok(()),
        }
    }

    /// Writes the converted lead, and the client that it is joined to.
    fn put_lead(
        &self,
        unit: &mut UnitOfWork<'_>,
        step: &leads::Step,
        change: Change,
    ) -> Result<()> {
        unit.put(step.lead.clone());
        unit.record_change(change.whole("runs", &self.runs)?);
        step.write_client(unit)
    }
}

/// The change of the lead by its conversion.
fn conversion(step: &leads::Step) -> Result<Change> {
    Change::of(&step.lead, "lead.converted", step.changes()).changed(
        "lead",
        step.before(),
        &step.lead,
    )
}
