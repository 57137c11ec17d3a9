//! The errors of the rules of service accounts.

use tonic::Code;
use uuid::Uuid;

use crate::error::{Error, ErrorReason};

/// No service account has this id.
pub fn not_found(id: Uuid) -> Error {
    let reason = ErrorReason::ServiceAccountNotFound;
    let key = "service_account_id";
    Error::not_found(reason, "service account", "ServiceAccount", key, id)
}

/// No API key has this id.
pub fn key_not_found(id: Uuid) -> Error {
    let reason = ErrorReason::ApiKeyNotFound;
    Error::not_found(reason, "API key", "ApiKey", "api_key_id", id)
}

/// Another account has the name.
pub fn duplicate(id: Uuid, name: &str) -> Error {
    let message = format_args!("A service account {name:?} already exists: choose another name.");
    let reason = ErrorReason::DuplicateServiceAccount;
    Error::new(Code::AlreadyExists, reason, message)
        .with("service_account_id", id)
        .field("service_account.name", "belongs to another service account")
}

/// The certificate name is registered for another account.
pub fn duplicate_certificate(id: Uuid) -> Error {
    let message = "This certificate name is registered for another service account: remove it from that account first.";
    let reason = ErrorReason::DuplicateCertificateName;
    Error::new(Code::AlreadyExists, reason, message)
        .with("service_account_id", id)
        .field(
            "service_account.certificate_name",
            "is registered for another service account",
        )
}
