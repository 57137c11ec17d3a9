//! Writing the parts of an answer.

use chrono::{DateTime, Utc};

use super::proto;
use crate::auth::Principal;

/// A moment.
pub fn time(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        // Below 10^9 by definition.
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// Whoever did something.
pub fn principal(principal: Principal) -> proto::Principal {
    proto::Principal {
        kind: principal.kind.to_wire(),
        id: principal.id.to_string(),
        name: principal.name,
    }
}
