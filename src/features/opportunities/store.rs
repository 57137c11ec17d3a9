//! The storage of opportunities: read by key, lock and write. The queries that list them are in [`lists`].

pub mod lists;

use crate::core::text_enum::TextEnum as _;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait};
use uuid::Uuid;

use super::model::{Close, Details, Opportunity, OpportunityState, Stage, View};
use crate::commit::Record;
use crate::core::field_change::FieldChange;
use crate::db::entities::lead;
use crate::db::entities::opportunity::{ActiveModel, Column, Entity, Model};
use crate::db::json::{from_json, to_json};
use crate::db::rows::{self, Rows};
use crate::db::{self, LockWait, Locked, Tx};
use crate::error::{Error, Result};
use crate::features::leads::model::LeadState;

/// Reads an opportunity with its lead's name and state.
pub async fn view_of(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<View>> {
    let row = Entity::find_by_id(id)
        .find_also_related(lead::Entity)
        .one(db)
        .await?;
    let Some((row, lead)) = row else {
        return Ok(None);
    };
    let lead = lead
        .map(crate::features::leads::store::from_row)
        .transpose()?;
    let lead = lead.map(|lead| (lead.details.display_name(), lead.state()));
    view(row, lead).map(Some)
}

impl Record for Opportunity {
    const SUBJECT: &'static str = "OPPORTUNITY";
    const NAME: &'static str = "opportunity";

    fn id(&self) -> Uuid {
        self.id
    }

    fn root_id(&self) -> Uuid {
        self.lead_id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn update_time(&self) -> DateTime<Utc> {
        self.update_time
    }

    async fn get_many<C: ConnectionTrait>(db: &C, ids: Vec<Uuid>) -> Result<Vec<Self>> {
        db::get_many::<Entity, _>(db, Column::Id, ids, from_row).await
    }

    async fn lock(tx: &Tx, ids: BTreeSet<Uuid>, wait: LockWait) -> Result<Locked<Self>> {
        db::lock::<Entity, _>(tx, Column::Id, ids, wait, from_row, |record| record.id).await
    }

    async fn write(_tx: &Tx, created: Vec<Self>, changed: Vec<(Self, Self)>) -> Result<Vec<Rows>> {
        rows::of_versions(
            &created,
            &changed,
            |record| (record.id, record.version),
            to_row,
        )
    }

    async fn attached_to(tx: &Tx, root_id: Uuid) -> Result<BTreeSet<Uuid>> {
        db::ids_where::<Entity>(tx, Column::Id, Column::LeadId.eq(root_id)).await
    }

    fn without_texts(&self, time: DateTime<Utc>) -> Option<(Self, Vec<FieldChange>)> {
        self.erased(time)
    }

    fn is_kept_in_history(field: &str) -> bool {
        matches!(field, "state" | "stage" | "owner_id")
    }

    fn long_texts(&self) -> Vec<&str> {
        vec![&self.details.next_step, &self.details.description]
    }

    fn undo(&mut self, change: &FieldChange) {
        let text = match change.field.as_str() {
            "next_step" => &mut self.details.next_step,
            "description" => &mut self.details.description,
            _ => return,
        };
        text.clone_from(&change.old_value);
    }
}

/// The row of an opportunity.
fn to_row(opportunity: &Opportunity) -> Result<ActiveModel> {
    let details = opportunity.details.clone();
    let close = opportunity.close.as_ref();
    Ok(ActiveModel {
        seq: NotSet,
        id: Set(opportunity.id),
        lead_id: Set(opportunity.lead_id),
        version: Set(opportunity.version),
        name: Set(details.name),
        stage: Set(details.stage.as_str().to_owned()),
        state: Set(opportunity.state.as_str().to_owned()),
        amount: Set(details.amount.map(|amount| to_json(&amount)).transpose()?),
        probability: Set(details.probability.unwrap_or(0)),
        win_probability: Set(details.probability),
        expected_close_date: Set(details.expected_close_date),
        owner_id: Set(details.owner_id),
        next_step: Set(details.next_step),
        description: Set(details.description),
        close_time: Set(close.map(|close| close.time)),
        close_actor: Set(close.map(|close| to_json(&close.actor)).transpose()?),
        close_reason: Set(close.map(|close| close.reason.clone())),
        close_stage: Set(close.map(|close| close.stage.as_str().to_owned())),
        create_time: Set(opportunity.create_time),
        update_time: Set(opportunity.update_time),
    })
}

/// An opportunity with its lead's name and state.
fn view(row: Model, lead: Option<(String, LeadState)>) -> Result<View> {
    let without = || Error::internal(format!("opportunity {} has no lead", row.id));
    let (lead_display_name, lead_state) = lead.ok_or_else(without)?;
    Ok(View {
        opportunity: from_row(row)?,
        lead_display_name,
        lead_state,
    })
}

fn from_row(row: Model) -> Result<Opportunity> {
    let broken = || {
        Error::internal(format!(
            "the row of opportunity {} contradicts itself",
            row.id
        ))
    };
    let stage = Stage::from_text(&row.stage).ok_or_else(broken)?;
    let close_stage = row.close_stage.as_deref();
    let close = match (row.close_time, row.close_actor.clone()) {
        (Some(time), Some(actor)) => Some(Close {
            time,
            actor: from_json(actor)?,
            reason: row.close_reason.clone().unwrap_or_default(),
            stage: close_stage
                .map(|stage| Stage::from_text(stage).ok_or_else(broken))
                .transpose()?
                .unwrap_or_default(),
        }),
        _ => None,
    };
    let state = OpportunityState::from_text(&row.state).ok_or_else(broken)?;
    Ok(Opportunity {
        id: row.id,
        seq: row.seq,
        lead_id: row.lead_id,
        version: row.version,
        state,
        details: Details {
            name: row.name,
            stage,
            amount: row.amount.map(from_json).transpose()?,
            // The previous version wrote only this column, with 0 for no value.
            probability: row
                .win_probability
                .or_else(|| (row.probability != 0).then_some(row.probability)),
            expected_close_date: row.expected_close_date,
            owner_id: row.owner_id,
            next_step: row.next_step,
            description: row.description,
        },
        close,
        create_time: row.create_time,
        update_time: row.update_time,
    })
}
