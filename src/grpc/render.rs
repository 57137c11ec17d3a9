//! Renders the parts of responses.

use chrono::{DateTime, Utc};

use super::enums::WireEnum as _;
use crate::core::call::Principal;
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
        id: principal.id.to_string(),
        name: principal.name,
    }
}
