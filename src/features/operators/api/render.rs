//! Renders operators and their sessions as messages.

use crate::auth::locks::{Lock, Scope};
use crate::auth::operators::Operator;
use crate::auth::sessions::Session;
use crate::core::call::TokenHash;
use crate::core::etag::etag;
use crate::db::select::Part;
use crate::error::Result;
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::page::{Page, PageRequest};
use crate::grpc::render::time;
use leadsmith_proto as proto;

/// Renders what every role may see.
pub fn public(operator: Operator) -> proto::Operator {
    proto::Operator {
        enabled: operator.is_enabled(),
        id: operator.id.to_string(),
        username: operator.username,
        display_name: operator.display_name,
        ..Default::default()
    }
}

/// Renders what the operator may see.
pub fn own(operator: Operator) -> proto::Operator {
    let role = operator.role.to_wire();
    proto::Operator {
        role,
        ..public(operator)
    }
}

/// Renders what an ADMIN may see.
pub fn whole(operator: Operator, locks: Vec<Lock>) -> proto::Operator {
    let lock = |lock: Lock| proto::OperatorLock {
        scope: lock.scope.to_wire(),
        address: lock.address,
        end_time: Some(time(lock.end_time)),
    };
    proto::Operator {
        etag: etag(operator.version),
        create_time: Some(time(operator.create_time)),
        update_time: Some(time(operator.update_time)),
        disable_time: operator.disable_time.map(time),
        locks: locks.into_iter().map(lock).collect(),
        ..own(operator)
    }
}

/// Renders an operator that was only validated, without the fields that are set when it is stored.
pub fn preview(operator: Operator) -> proto::Operator {
    proto::Operator {
        id: String::new(),
        ..own(operator)
    }
}

/// Renders a page of sessions. `own` is the session of the call.
pub fn sessions(
    page: &PageRequest,
    rows: Part<Session>,
    own: Option<TokenHash>,
) -> Result<Page<proto::Session>> {
    let rows = rows.map(|session| {
        let is_own = own == Some(session.hash);
        Ok((session, is_own))
    })?;
    page.build(
        rows,
        |(last, _)| last.position(),
        |(row, own)| session(row, own),
    )
}

fn session(session: Session, current: bool) -> proto::Session {
    proto::Session {
        id: session.id.map(|id| id.to_string()).unwrap_or_default(),
        create_time: Some(time(session.create_time)),
        expire_time: Some(time(session.expire_time)),
        last_use_time: Some(time(session.last_use_time)),
        peer_address: session.peer_address.unwrap_or_default(),
        current,
    }
}

wire_enum!(
    Scope = proto::OperatorLockScope {
        CurrentPassword,
        SignIn,
        SignInFromAddress
    }
);
