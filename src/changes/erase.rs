//! What is kept of a lead's past when its personal data is erased: the ledger of what happened (who,
//! when, by which RPC, to which fields), without the values.

use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::FieldChange;
use super::draft::Erased;
use super::history;
use super::idempotency::Name;
use crate::db::entities::{event, history as row, idempotency_record};
use crate::db::json::to_json;
use crate::db::rows::{self, Rows};
use crate::db::{Tx, any_of};
use crate::error::Result;
use crate::orders;

/// How many history rows are erased at once.
const TOGETHER: u64 = 500;

/// The events of an erasure. They say nothing of what was erased, and so stay.
const ERASURES: [&str; 3] = ["lead.erased", "opportunity.erased", "order.erased"];

/// Erases the past of a lead that was just erased by the call of this request id.
pub(super) async fn past(tx: &Tx, erased: &Erased, name: Option<Name>) -> Result<()> {
    let mut subjects = erased.attached.clone();
    subjects.push(erased.lead_id);
    for subject in &subjects {
        history_of(tx, *subject).await?;
    }
    events_of(tx, subjects).await?;
    orders::store::erase_runs(tx, erased.lead_id).await?;
    answers_about(tx, erased.lead_id, name).await
}

async fn history_of(tx: &Tx, subject: Uuid) -> Result<()> {
    let mut before = None;
    loop {
        let entries = history::list(&**tx, subject, before, TOGETHER).await?.rows;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        before = Some(last.version);
        let mut erased = Vec::new();
        for entry in entries {
            let changes: Vec<FieldChange> = entry.changes.iter().map(FieldChange::erased).collect();
            if changes != entry.changes {
                let row = row::ActiveModel {
                    changes: Set(to_json(&changes)?),
                    ..Default::default()
                };
                erased.push((entry.id, entry.version, row));
            }
        }
        rows::write(tx, Rows::update(erased)?).await?;
    }
}

async fn events_of(tx: &Tx, subjects: Vec<Uuid>) -> Result<()> {
    let erased = serde_json::json!({ "erased": true });
    event::Entity::update_many()
        .col_expr(event::Column::Record, Expr::value(erased))
        .filter(any_of(Expr::col(event::Column::SubjectId), subjects))
        .filter(event::Column::Type.is_not_in(ERASURES))
        .exec(&**tx)
        .await?;
    Ok(())
}

/// The request ids stay taken: what was done under them is not done again.
async fn answers_about(tx: &Tx, lead_id: Uuid, name: Option<Name>) -> Result<()> {
    use idempotency_record::Column;
    let mut erase = idempotency_record::Entity::update_many()
        .col_expr(Column::Response, Expr::value(Vec::<u8>::new()))
        .filter(Column::LeadId.eq(lead_id));
    if let Some((principal, request)) = name {
        let itself = Condition::all()
            .add(Column::PrincipalId.eq(principal))
            .add(Column::RequestId.eq(request));
        erase = erase.filter(itself.not());
    }
    erase.exec(&**tx).await?;
    Ok(())
}

impl FieldChange {
    /// The same without the values. States and who works the lead stay: they say nothing about the
    /// lead itself.
    fn erased(&self) -> Self {
        let field = self.field.as_str();
        let state = field == "state" || field.starts_with("actions.") && field.ends_with(".state");
        if state || field == "owner_id" {
            return self.clone();
        }
        Self::new(field, "", "")
    }
}
