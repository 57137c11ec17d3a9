//! The outbox: one event for each accepted change, for external consumers. `seq` is the order in which
//! events were written; the order in which they are read is that of `db::event_log`.
//!
//! An event contains the whole record when it is created or erased, and otherwise the fields that changed,
//! with old and new values. So its size is in proportion to the change, and each version of a record can be
//! reconstructed: backwards from the current record, or forwards from its creation.

use sea_orm::{ActiveValue::NotSet, ActiveValue::Set};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Change;
use crate::core::call::Call;
use crate::db::json::to_json;
use crate::db::{Tx, entities::event};
use crate::error::Result;

pub(super) fn to_row(tx: &Tx, call: &Call, change: Change) -> Result<event::ActiveModel> {
    Ok(event::ActiveModel {
        seq: NotSet,
        id: Set(tx.clock.new_id()),
        lead_id: Set(change.root_id),
        subject_id: Set(change.subject_id),
        version: Set(change.version),
        r#type: Set(change.event),
        time: Set(change.time),
        actor: Set(to_json(&*call.principal)?),
        record: Set(change.payload.into_json()),
        // The database's default is the id of the transaction.
        transaction_id: NotSet,
    })
}

/// The content of an event: `{"lead": {…}}` for a whole record, and `{"changed": {"lead": [{"path":
/// "/phone", "before": "1", "after": "2"}]}}` for a change. A path is a JSON pointer. `before` or `after`
/// is omitted if there was no value.
#[derive(Default)]
pub(super) struct Payload {
    whole: Map<String, Value>,
    changed: Map<String, Value>,
}

impl Payload {
    /// A whole record, or a list of them.
    pub fn whole<T: Serialize>(mut self, name: &str, record: &T) -> Result<Self> {
        self.whole.insert(name.to_owned(), to_json(record)?);
        Ok(self)
    }

    /// The differences between two versions of a record.
    pub fn changed<T: Serialize>(mut self, name: &str, before: &T, after: &T) -> Result<Self> {
        let mut found = Vec::new();
        differences(String::new(), to_json(before)?, to_json(after)?, &mut found);
        self.changed.insert(name.to_owned(), Value::Array(found));
        Ok(self)
    }

    fn into_json(self) -> Value {
        let mut json = self.whole;
        if !self.changed.is_empty() {
            json.insert("changed".to_owned(), Value::Object(self.changed));
        }
        Value::Object(json)
    }
}

/// Collects the differences at the deepest possible level. Lists of the same length are compared element by
/// element.
fn differences(path: String, before: Value, after: Value, found: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(before), Value::Object(mut after)) => {
            for (key, before) in before {
                let path = format!("{path}/{}", escaped(&key));
                match after.remove(&key) {
                    Some(after) => differences(path, before, after, found),
                    None => found.push(json!({ "path": path, "before": before })),
                }
            }
            for (key, after) in after {
                let path = format!("{path}/{}", escaped(&key));
                found.push(json!({ "path": path, "after": after }));
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.into_iter().zip(after).enumerate() {
                differences(format!("{path}/{index}"), before, after, found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            found.push(json!({ "path": path, "before": before, "after": after }));
        }
    }
}

/// Escapes a key for a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
