//! Erases the past of a root whose personal data is erased. The log of events remains (who, when, by which
//! RPC, which fields), without the values.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::Record;
use super::history;
use super::idempotency::ScopedId;
use crate::core::field_change::FieldChange;
use crate::db::entities::{event, history as row, idempotency_record, idempotency_root};
use crate::db::json::to_json;
use crate::db::rows::{self, Rows};
use crate::db::{Tx, any_of};
use crate::error::Result;

/// The number of history rows that are erased at once.
const BATCH_SIZE: u64 = 500;

/// The type pattern of erasure events. They contain no erased data, so they are kept.
const ERASURES: &str = "%.erased";

/// A root whose past is to be erased.
pub(super) struct ErasedRoot {
    pub id: Uuid,
    /// The root and the records that belong to it.
    pub subjects: Vec<ErasedSubject>,
}

/// A record whose history is to be erased.
#[derive(Clone, Copy)]
pub(super) struct ErasedSubject {
    id: Uuid,
    /// Whether the values of this field are kept.
    is_kept: fn(&str) -> bool,
}

impl ErasedSubject {
    pub fn of<R: Record>(id: Uuid) -> Self {
        Self {
            id,
            is_kept: R::is_kept_in_history,
        }
    }

    fn without_values(self, change: &FieldChange) -> FieldChange {
        match (self.is_kept)(&change.field) {
            true => change.clone(),
            false => FieldChange::new(&change.field, "", ""),
        }
    }
}

/// Erases the past of a root that the call with this request id has just erased.
pub(super) async fn erase_past(
    tx: &Tx,
    root: ErasedRoot,
    erased_by: Option<ScopedId>,
) -> Result<()> {
    for subject in &root.subjects {
        erase_history(tx, *subject).await?;
    }
    let subjects = root.subjects.iter().map(|subject| subject.id);
    erase_events(tx, subjects.collect()).await?;
    erase_responses(tx, root.id, erased_by).await
}

async fn erase_history(tx: &Tx, subject: ErasedSubject) -> Result<()> {
    let mut before = None;
    loop {
        let entries = history::list(&**tx, subject.id, before, BATCH_SIZE)
            .await?
            .rows;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        before = Some(last.version);
        let mut erased = Vec::new();
        for entry in entries {
            let changes: Vec<FieldChange> = entry
                .changes
                .iter()
                .map(|change| subject.without_values(change))
                .collect();
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

async fn erase_events(tx: &Tx, subjects: Vec<Uuid>) -> Result<()> {
    let erased = serde_json::json!({ "erased": true });
    event::Entity::update_many()
        .col_expr(event::Column::Record, Expr::value(erased))
        .filter(any_of(Expr::col(event::Column::SubjectId), subjects))
        .filter(event::Column::Type.not_like(ERASURES))
        .exec(&**tx)
        .await?;
    Ok(())
}

/// The request ids stay in use, so that a retry of an earlier call does not run again.
async fn erase_responses(tx: &Tx, root_id: Uuid, erased_by: Option<ScopedId>) -> Result<()> {
    use idempotency_record::Column;
    let mut erase = idempotency_record::Entity::update_many()
        .col_expr(Column::Response, Expr::value(Vec::<u8>::new()))
        .filter(Column::LeadId.eq(root_id));
    if let Some((principal, request)) = erased_by {
        let own_request = Condition::all()
            .add(Column::PrincipalId.eq(principal))
            .add(Column::RequestId.eq(request));
        erase = erase.filter(own_request.not());
    }
    erase.exec(&**tx).await?;
    // Responses about several roots, of which this is not the one in the record. From now on it is: a retry names it.
    let more = idempotency_root::Entity::find()
        .select_only()
        .columns([
            idempotency_root::Column::PrincipalId,
            idempotency_root::Column::RequestId,
        ])
        .filter(idempotency_root::Column::LeadId.eq(root_id));
    let key = Expr::tuple([Expr::col(Column::PrincipalId), Expr::col(Column::RequestId)]);
    idempotency_record::Entity::update_many()
        .col_expr(Column::Response, Expr::value(Vec::<u8>::new()))
        .col_expr(Column::LeadId, Expr::value(root_id))
        .filter(key.in_subquery(more.into_query()))
        .exec(&**tx)
        .await?;
    Ok(())
}
