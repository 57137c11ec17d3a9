//! Renders the parts of responses.

use chrono::{DateTime, Utc};

use super::enums::WireEnum as _;
use crate::commit::history::Entry;
use crate::core::call::Principal;
use crate::core::field_change::FieldChange;
use leadsmith_proto as proto;

/// Renders a time.
pub fn time(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        // Always below 10^9.
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// Renders a principal.
pub fn principal(principal: Principal) -> proto::Principal {
    proto::Principal {
        kind: principal.kind.to_wire(),
        // The command line has none.
        id: match principal.id.is_nil() {
            true => String::new(),
            false => principal.id.to_string(),
        },
        name: principal.name,
    }
}

/// Renders a history entry.
pub fn entry(entry: Entry) -> proto::HistoryEntry {
    let change = |change: FieldChange| proto::FieldChange {
        field: change.field,
        old_value: change.old_value,
        new_value: change.new_value,
    };
    proto::HistoryEntry {
        id: entry.id.to_string(),
        time: Some(time(entry.time)),
        actor: Some(principal(entry.actor)),
        rpc: entry.rpc,
        request_id: match entry.request_id.is_nil() {
            true => String::new(),
            false => entry.request_id.to_string(),
        },
        changes: entry.changes.into_iter().map(change).collect(),
    }
}
