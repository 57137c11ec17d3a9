//! The outbox: one event for every accepted change, so that those outside can follow. `seq` is the
//! order in which events were written.
//!
//! An event holds the record as a whole where it begins (created, erased), and otherwise what changed
//! in it, before and after. So it is as large as the change, and each version of a record can be put
//! together: from the record as it is now, the changes undone one by one, or from where it begins.

use sea_orm::{ActiveValue::NotSet, ActiveValue::Set};
use serde::Serialize;
use serde_json::{Map, Value, json};

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
        version: Set(change.version),
        time: Set(change.time),
        actor: Set(to_json(&call.principal)?),
        record: Set(change.record.into_json()),
    })
}

/// What an event says of records: `{"lead": {…}}` where it is all of one, and
/// `{"changed": {"lead": [{"path": "/phone", "before": "1", "after": "2"}]}}` where it is what changed.
/// A path is a JSON pointer; what there was not before, or is not after, is left out.
#[derive(Default)]
pub struct Record {
    whole: Map<String, Value>,
    changed: Map<String, Value>,
}

impl Record {
    /// All of a record, or of several.
    pub fn whole<T: Serialize>(mut self, name: &str, record: &T) -> Result<Self> {
        self.whole.insert(name.to_owned(), to_json(record)?);
        Ok(self)
    }

    /// What changed in a record.
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

/// Notes what differs, as deep inside as it does. Lists of one length differ by their elements.
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

/// A key inside a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
