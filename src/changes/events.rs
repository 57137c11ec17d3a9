//! The outbox: one event for every accepted change, with the whole record after it, so that those
//! outside can follow without asking back. `seq` is the order in which events were written.

use sea_orm::{ActiveValue::NotSet, ActiveValue::Set};

use super::Change;
use crate::auth::Call;
use crate::db::json::to_json;
use crate::db::{Tx, entities::event};
use crate::error::Result;

pub(super) fn to_row(tx: &Tx, call: &Call, change: Change) -> Result<event::ActiveModel> {
    Ok(event::ActiveModel {
        seq: NotSet,
        id: Set(tx.clock.new_id()),
        lead_id: Set(change.lead_id),
        r#type: Set(change.event.to_owned()),
        subject_id: Set(change.subject_id),
        version: Set(change.recorded_version()),
        time: Set(change.time),
        actor: Set(to_json(&call.principal)?),
        record: Set(change.record),
    })
}
