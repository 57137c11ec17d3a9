//! Parses and renders service accounts and their keys.

use crate::core::etag::etag;
use crate::core::violations::{Reason, Violations};
use crate::features::service_accounts::model::{
    CERTIFICATE_RULE, Key, NAME_RULE, Patch, ServiceAccount, certificate_name, name,
};
use crate::features::service_accounts::{KeyChange, NewAccount};
use crate::grpc::enums::WireEnum as _;
use crate::grpc::mask::Fields;
use crate::grpc::read;
use crate::grpc::render::time;
use leadsmith_proto as proto;

const FIELDS: Fields = Fields {
    editable: &["role", "certificate_name"],
    fixed: &[
        "id",
        "name",
        "enabled",
        "etag",
        "create_time",
        "update_time",
        "disable_time",
    ],
    elsewhere: &[],
};

/// Parses a new account.
pub fn new_account(
    violations: &mut Violations,
    account: Option<proto::ServiceAccount>,
    validate_only: bool,
) -> NewAccount {
    let given = account.unwrap_or_else(|| {
        violations.add("service_account", Reason::Required, "is required");
        proto::ServiceAccount::default()
    });
    let name = name(&given.name);
    if name.is_none() {
        let reason = match given.name.trim().is_empty() {
            true => Reason::Required,
            false => Reason::FormatInvalid,
        };
        let problem = format_args!("must be {NAME_RULE}");
        violations.add("service_account.name", reason, problem);
    }
    let role = read::role(violations, "service_account.role", given.role);
    let certificate = certificate(violations, &given.certificate_name);
    NewAccount {
        // The violation prevents its use.
        name: name.unwrap_or_default(),
        role,
        certificate_name: (!certificate.is_empty()).then_some(certificate),
        validate_only,
    }
}

/// Parses the changes of an update.
pub fn patch(
    violations: &mut Violations,
    given: &proto::ServiceAccount,
    mask: Option<prost_types::FieldMask>,
) -> Patch {
    let named = FIELDS.parse(violations, mask, |field| match field {
        "role" => given.role != 0,
        _ => !given.certificate_name.trim().is_empty(),
    });
    let mut patch = Patch::default();
    if named.contains(&"role") {
        patch.role = Some(read::role(violations, "service_account.role", given.role));
    }
    if named.contains(&"certificate_name") {
        patch.certificate_name = Some(certificate(violations, &given.certificate_name));
    }
    patch
}

fn certificate(violations: &mut Violations, given: &str) -> String {
    if given.trim().is_empty() {
        return String::new();
    }
    let name = certificate_name(given);
    if name.is_none() {
        let problem = format_args!("must be {CERTIFICATE_RULE}");
        violations.add(
            "service_account.certificate_name",
            Reason::FormatInvalid,
            problem,
        );
    }
    name.unwrap_or_default()
}

/// Renders an account.
pub fn account(account: ServiceAccount) -> proto::ServiceAccount {
    proto::ServiceAccount {
        id: account.id.to_string(),
        name: account.name,
        role: account.role.to_wire(),
        certificate_name: account.certificate_name.unwrap_or_default(),
        enabled: account.disable_time.is_none(),
        etag: etag(account.version),
        create_time: Some(time(account.create_time)),
        update_time: Some(time(account.update_time)),
        disable_time: account.disable_time.map(time),
    }
}

/// Renders an account that was only validated, without the fields that are set when it is stored.
pub fn preview(account: ServiceAccount) -> proto::ServiceAccount {
    proto::ServiceAccount {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..self::account(account)
    }
}

/// Renders a key.
pub fn key(key: Key) -> proto::ApiKey {
    proto::ApiKey {
        id: key.id.to_string(),
        service_account_id: key.account_id.to_string(),
        create_time: Some(time(key.create_time)),
        revoke_time: key.revoke_time.map(time),
        last_use_time: key.last_use_time.map(time),
    }
}

/// Renders a new key, without the key itself.
pub fn created_key(change: KeyChange) -> proto::CreateKeyResponse {
    proto::CreateKeyResponse {
        api_key: String::new(),
        key: Some(key(change.key)),
        service_account: Some(account(change.account)),
    }
}

/// Renders a key that was only validated, without the fields that are set when it is stored.
pub fn key_preview(change: KeyChange) -> proto::CreateKeyResponse {
    proto::CreateKeyResponse {
        api_key: String::new(),
        key: Some(proto::ApiKey {
            service_account_id: change.account.id.to_string(),
            ..Default::default()
        }),
        service_account: Some(account(change.account)),
    }
}
