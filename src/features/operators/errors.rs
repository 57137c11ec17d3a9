//! The errors of the rules of operators.

use tonic::Code;
use uuid::Uuid;

use crate::error::{Error, ErrorReason};

/// No operator has this id.
pub fn not_found(id: Uuid) -> Error {
    let reason = ErrorReason::OperatorNotFound;
    Error::not_found(reason, "operator", "Operator", "operator_id", id)
}

/// Another operator has the username.
pub fn duplicate(id: Uuid, username: &str) -> Error {
    let message = format_args!("An operator {username:?} already exists: choose another username.");
    Error::new(Code::AlreadyExists, ErrorReason::DuplicateOperator, message)
        .with("operator_id", id)
        .field("operator.username", "belongs to another operator")
}

/// The change would leave no enabled ADMIN.
pub fn last_admin(id: Uuid) -> Error {
    let message = "This is the last enabled operator with the role ADMIN, who can be neither disabled nor given another \
                   role. Create or enable another ADMIN first.";
    Error::new(Code::FailedPrecondition, ErrorReason::LastAdmin, message)
        .with("operator_id", id)
        .precondition(id)
}
