//! Parses a new operator and an update.

use secrecy::{ExposeSecret, SecretString};

use crate::auth::operators::Username;
use crate::auth::passwords::Passwords;
use crate::core::text;
use crate::core::violations::{Reason, Violations};
use crate::features::operators::{NewOperator, Patch, USERNAME_RULE, username};
use crate::grpc::mask::Fields;
use crate::grpc::read;
use leadsmith_proto as proto;

const FIELDS: Fields = Fields {
    editable: &["display_name", "role"],
    fixed: &[
        "id",
        "username",
        "enabled",
        "etag",
        "create_time",
        "update_time",
        "disable_time",
        "locks",
    ],
    elsewhere: &[],
};

/// Parses a new operator.
pub fn new_operator(
    violations: &mut Violations,
    passwords: &Passwords,
    operator: Option<proto::Operator>,
    password: SecretString,
    validate_only: bool,
) -> NewOperator {
    let given = operator.unwrap_or_else(|| {
        violations.add("operator", Reason::Required, "is required");
        proto::Operator::default()
    });
    let username = username(&given.username);
    if username.is_none() {
        let reason = match given.username.trim().is_empty() {
            true => Reason::Required,
            false => Reason::FormatInvalid,
        };
        let problem = format_args!("must be {USERNAME_RULE}");
        violations.add("operator.username", reason, problem);
    }
    let display_name = display_name(violations, &given.display_name);
    let role = read::role(violations, "operator.role", given.role);
    self::password(violations, passwords, "password", &password);
    NewOperator {
        // The violation prevents its use.
        username: username.unwrap_or_else(|| Username::new("")),
        display_name,
        role,
        password,
        validate_only,
    }
}

/// Checks a new password, apart from the rule about the username.
pub fn password(
    violations: &mut Violations,
    passwords: &Passwords,
    field: &str,
    password: &SecretString,
) {
    passwords.check_new(violations, field, password.expose_secret());
}

/// Parses the changes of an update.
pub fn patch(
    violations: &mut Violations,
    given: &proto::Operator,
    mask: Option<prost_types::FieldMask>,
) -> Patch {
    let named = FIELDS.parse(violations, mask, |field| match field {
        "display_name" => !text::is_blank(&given.display_name),
        _ => given.role != 0,
    });
    let mut patch = Patch::default();
    if named.contains(&"display_name") {
        patch.display_name = Some(display_name(violations, &given.display_name));
    }
    if named.contains(&"role") {
        patch.role = Some(read::role(violations, "operator.role", given.role));
    }
    patch
}

fn display_name(violations: &mut Violations, given: &str) -> String {
    let name = text::name(given);
    if name.is_none() {
        let rule = text::NAME_RULE.trim_start_matches("is ");
        let reason = match given.chars().count() > text::NAME {
            true => Reason::TooLong,
            false => Reason::CharacterInvalid,
        };
        violations.add(
            "operator.display_name",
            reason,
            format_args!("must be {rule}"),
        );
    }
    name.unwrap_or_default()
}
