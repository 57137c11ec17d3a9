//! Runs the actions of an order within one change: first the results, then the rows that record them.

use super::model::{Action, ActionRun, ActionState, ActionType, Order, RunOutcome};
use super::store;
use super::{RunActionOutcome, leads};
use crate::commit::{Change, UnitOfWork};
use crate::core::field_change::FieldChange;
use crate::core::text_enum::TextEnum as _;
use crate::error::{Error, Result};
use leads::model::{Effect, Lead, Transition};

/// An order and its lead while actions run.
pub(super) struct Fulfilment {
    pub order: Order,
    pub lead: Lead,
    /// The lead before a run converted it.
    converted_from: Option<Lead>,
    /// The runs so far.
    pub runs: Vec<ActionRun>,
}

/// The results of running actions.
impl Fulfilment {
    pub fn new(order: Order, lead: Lead) -> Self {
        Self {
            order,
            lead,
            converted_from: None,
            runs: Vec::new(),
        }
    }

    /// Runs one action. If the lead's state does not allow it, the action becomes FAILED.
    ///
    /// # Errors
    /// The refusal.
    pub fn run(&mut self, unit: &UnitOfWork<'_>, action: &Action, automatic: bool) -> Result<()> {
        let effect = match action.r#type {
            ActionType::Manual => Ok(Effect::To(self.lead.state())),
            ActionType::ProvisionClient => self.provision_client(unit),
        };
        let (state, result) = match effect {
            Ok(effect) => (ActionState::Done, Ok(effect)),
            Err(refusal) => (ActionState::Failed, Err(refusal)),
        };
        self.order.set_action(&action.key, state);
        self.log(unit, action, automatic, result.as_ref().copied());
        result.map(|_| ())
    }

    fn provision_client(&mut self, unit: &UnitOfWork<'_>) -> Result<Effect> {
        let order_id = Some(self.order.id);
        let (lead, effect) =
            leads::convert(unit, &self.lead, Transition::ProvisionClient, order_id)?;
        if effect != Effect::NoChange {
            self.converted_from = Some(std::mem::replace(&mut self.lead, lead));
        }
        Ok(effect)
    }

    /// Runs all automatic actions that are ready. An action that fails stays FAILED until somebody runs it
    /// by hand.
    pub fn run_automatic(&mut self, unit: &UnitOfWork<'_>) {
        while let Some(action) = self.order.next_automatic() {
            // The error is ignored here, because the log contains the refusal.
            let _ = self.run(unit, &action, true);
        }
    }

    /// Logs a run that was refused before it began.
    pub fn log_refusal(&mut self, unit: &UnitOfWork<'_>, action: &Action, refusal: &Error) {
        self.log(unit, action, false, Err(refusal));
    }

    fn log(
        &mut self,
        unit: &UnitOfWork<'_>,
        action: &Action,
        automatic: bool,
        result: Result<Effect, &Error>,
    ) {
        let (error_reason, error_message) = match result {
            Ok(_) => (String::new(), String::new()),
            Err(error) => (error.reason_name().to_owned(), error.message().to_owned()),
        };
        self.runs.push(ActionRun {
            id: unit.clock.new_id(),
            seq: 0,
            order_id: self.order.id,
            lead_id: self.lead.id,
            action: action.key.clone(),
            time: unit.clock.now(),
            actor: (*unit.call.principal).clone(),
            outcome: match result {
                Ok(_) => RunOutcome::Succeeded,
                Err(_) => RunOutcome::Failed,
            },
            no_change: matches!(result, Ok(Effect::NoChange)),
            automatic,
            error_reason,
            error_message,
        });
    }

    /// The result that a successful run and the automatic runs after it would have.
    pub fn preview(mut self, unit: &UnitOfWork<'_>) -> Result<RunActionOutcome> {
        self.run_automatic(unit);
        if let Some(before) = &self.converted_from {
            self.lead = self.lead.into_preview(before);
        }
        self.into_outcome()
    }

    /// The first run is the requested one.
    fn into_outcome(self) -> Result<RunActionOutcome> {
        let run = self.runs.into_iter().next();
        let run = run.ok_or_else(|| Error::internal("a run was not logged"))?;
        Ok(RunActionOutcome {
            order: self.order,
            run,
            lead: self.lead,
        })
    }
}

/// The rows that record the results.
impl Fulfilment {
    /// Writes a new order and its automatic runs.
    pub fn write_created(&self, unit: &mut UnitOfWork<'_>) -> Result<()> {
        unit.put(self.order.clone());
        let created = vec![FieldChange::new("state", "", self.order.state.as_str())];
        let change = Change::of(&self.order, "order.created", created);
        unit.record_change(
            change
                .whole("order", &self.order)?
                .whole("runs", &self.runs)?,
        );
        if let Some(before) = &self.converted_from {
            let change = self.conversion(before)?;
            self.write_conversion(unit, change)?;
        }
        self.write_runs(unit)
    }

    /// Writes a successful run and the automatic runs after it. `before` is the order before the run.
    pub fn write_run(
        mut self,
        unit: &mut UnitOfWork<'_>,
        before: &Order,
    ) -> Result<RunActionOutcome> {
        self.run_automatic(unit);
        self.write_next_order(unit);
        match &self.converted_from {
            Some(lead_before) => {
                let change = self.conversion(lead_before)?;
                self.write_conversion(unit, change.changed("order", before, &self.order)?)?;
            }
            None => {
                let changes = self.order.changes_from(before);
                let change = Change::of(&self.order, "order.action_run", changes);
                let change = change.changed("order", before, &self.order)?;
                unit.record_change(change.whole("runs", &self.runs)?);
            }
        }
        self.write_runs(unit)?;
        self.into_outcome()
    }

    /// Writes a refused run: the action is FAILED, and the error contains the order's new etag.
    pub fn write_refused(
        mut self,
        unit: &mut UnitOfWork<'_>,
        action: &Action,
        refusal: Error,
    ) -> Result<Error> {
        if action.state != ActionState::Failed {
            self.write_next_order(unit);
        }
        self.write_runs(unit)?;
        Ok(refusal.with("order_etag", self.order.etag()))
    }

    /// Writes the runs to the log.
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

    /// The change of the lead by its conversion.
    fn conversion(&self, before: &Lead) -> Result<Change> {
        let state = vec![leads::state_change(before, &self.lead)];
        Change::of(&self.lead, "lead.converted", state).changed("lead", before, &self.lead)
    }

    fn write_conversion(&self, unit: &mut UnitOfWork<'_>, change: Change) -> Result<()> {
        unit.put(self.lead.clone());
        unit.record_change(change.whole("runs", &self.runs)?);
        Ok(())
    }
}
