//! Helpers for inspecting errors.

use std::fmt::Write as _;

use tonic::Status;
use tonic_types::StatusExt;
use uuid::Uuid;

/// The reason of an error. Every error must have one.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("an error without a reason: {status:?}"));
    assert_eq!(info.domain, "leadsmith.v1");
    info.reason.clone()
}

/// A value in an error's metadata.
pub fn metadata(status: &Status, key: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    info.metadata
        .get(key)
        .cloned()
        .unwrap_or_else(|| panic!("no {key} in {info:?}"))
}

/// Whether an error's metadata is empty.
pub fn metadata_free(status: &Status) -> bool {
    status
        .get_error_details()
        .error_info()
        .is_some_and(|info| info.metadata.is_empty())
}

/// The field violations of an error.
pub fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(reason(status), "FIELD_INVALID", "{status:?}");
    let details = status.get_error_details();
    let bad = details.bad_request().expect("a BadRequest");
    let pair = |violation: &tonic_types::FieldViolation| {
        (violation.field.clone(), violation.description.clone())
    };
    bad.field_violations.iter().map(pair).collect()
}

/// A complete error for a snapshot: code, message and every detail. Ids differ in each run and are replaced.
pub fn whole(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = format!("{:?}: {}\n", status.code(), status.message());
    if let Some(info) = details.error_info() {
        writeln!(text, "reason {} of {}", info.reason, info.domain).unwrap();
        let mut pairs: Vec<_> = info.metadata.iter().collect();
        pairs.sort();
        for (key, value) in pairs {
            writeln!(text, "  {key}: {value}").unwrap();
        }
    }
    if let Some(bad) = details.bad_request() {
        for violation in &bad.field_violations {
            writeln!(
                text,
                "field {}: {} {}",
                violation.field, violation.reason, violation.description
            )
            .unwrap();
        }
    }
    if let Some(failure) = details.precondition_failure() {
        for violation in &failure.violations {
            writeln!(
                text,
                "precondition {} of {}: {}",
                violation.r#type, violation.subject, violation.description
            )
            .unwrap();
        }
    }
    if let Some(resource) = details.resource_info() {
        writeln!(
            text,
            "resource {} {}",
            resource.resource_type, resource.resource_name
        )
        .unwrap();
    }
    if details.retry_info().is_some() {
        writeln!(text, "retry later").unwrap();
    }
    without_ids(&text)
}

fn without_ids(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let id = rest.get(..36).filter(|id| Uuid::try_parse(id).is_ok());
        let step = if id.is_some() {
            36
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        result.push_str(if id.is_some() { "[id]" } else { &rest[..step] });
        rest = &rest[step..];
    }
    result
}
