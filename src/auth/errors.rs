//! The errors of authentication and authorisation.
//!
//! Each function builds an error value with a message for the caller. How an error becomes a gRPC status is not
//! known here.

use std::time::Duration;

use tonic::Code;

use crate::core::role::Role;
use crate::error::{Error, ErrorReason};

pub(super) fn sign_in_failed() -> Error {
    let message = "The username or the password is wrong. Check both and try again.";
    Error::new(Code::Unauthenticated, ErrorReason::SignInFailed, message)
}

/// The caller's role does not allow the RPC.
pub fn role_insufficient(role: Role, required: Role) -> Error {
    let message = format_args!(
        "This call requires the role {required}, and your role is {role}. Ask an administrator for the required \
         role."
    );
    Error::new(
        Code::PermissionDenied,
        ErrorReason::RoleInsufficient,
        message,
    )
    .with("role", role)
    .with("required_role", required)
}

/// The change needs the operator's own password, and the request has none.
pub fn current_password_required() -> Error {
    let message = "This change requires your own current password. Send it in current_password.";
    Error::new(
        Code::InvalidArgument,
        ErrorReason::CurrentPasswordRequired,
        message,
    )
    .field(
        "current_password",
        "is required for this change: send your own current password",
    )
}

/// The password that should be the operator's own is wrong.
pub fn current_password_invalid() -> Error {
    let message =
        "The current password is wrong, and nothing was changed. Send your own current password.";
    Error::new(
        Code::PermissionDenied,
        ErrorReason::CurrentPasswordInvalid,
        message,
    )
}

pub(super) fn password_attempts_exceeded(retry_after: Duration) -> Error {
    let message = format_args!(
        "Too many wrong passwords. Try again in {}, or ask an administrator to unlock your account.",
        in_words(retry_after)
    );
    Error::new(
        Code::ResourceExhausted,
        ErrorReason::PasswordAttemptsExceeded,
        message,
    )
    .retry_after(retry_after)
}

/// A duration as a person reads it.
fn in_words(duration: Duration) -> String {
    match duration.as_millis().div_ceil(1_000) {
        0 | 1 => "1 second".to_owned(),
        seconds @ 2..90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}
