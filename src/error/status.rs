//! An error as it goes to the caller: what is in it, and how large it may be.
//!
//! Message and details are HTTP/2 headers, the message percent-encoded and the details in base64, and
//! clients refuse more than 8 to 16 KiB of headers: what a caller sent must not decide whether the
//! answer arrives. So everything that depends on a request is cut here, whatever the error.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{DOMAIN, Error};
use crate::wire::bounded::{bounded, bounded_by, listed};
use crate::wire::proto::ErrorReason;
use crate::wire::violations::{LISTED, Violation, Violations};

/// How many bytes an error's headers may have together, counted as HTTP/2 does: name, value and 32 more
/// for each.
pub const LARGEST: usize = 7 * 1024;
/// How many of these are for all others than `grpc-message` and `grpc-status-details-bin`, and for the
/// names of these two.
const OTHERS: usize = 448;
/// How many bytes a message may have, percent-encoded.
pub const LONGEST_MESSAGE: usize = 1_536;
/// How many bytes the details may have before base64, which makes four of three.
const DETAILS: usize = (LARGEST - OTHERS - LONGEST_MESSAGE) / 4 * 3;
/// How many bytes a value of the metadata may have.
const VALUE: usize = 256;
/// How many bytes of keys a list in the metadata may have.
const LIST: usize = 768;
/// How many bytes a precondition's subject or description may have.
const PRECONDITION: usize = 256;

/// What the caller sees of an error.
pub struct Answer {
    code: Code,
    /// The reason, as `error_reason.proto` names it.
    pub reason: ErrorReason,
    /// A sentence that says what to do next.
    pub message: String,
    metadata: Vec<(&'static str, String)>,
    /// The wrong fields of the request.
    wrong: Violations,
    /// The one field that an error other than FIELD_INVALID is about.
    field: Option<FieldViolation>,
    details: ErrorDetails,
}

impl Answer {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl Display) -> Self {
        Self {
            code,
            reason,
            message: bounded_message(message),
            metadata: Vec::new(),
            wrong: Violations::default(),
            field: None,
            details: ErrorDetails::new(),
        }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.metadata.push((key, bounded(value, VALUE)));
        self
    }

    /// As many of `words` as there is room for, separated by commas, and under `omitted` how many
    /// there are beyond.
    pub(super) fn with_list(
        mut self,
        key: &'static str,
        omitted: &'static str,
        words: &[String],
    ) -> Self {
        let (some, left_out) = listed(words, ",", LIST);
        self.metadata.push((key, some));
        if left_out > 0 {
            self = self.with(omitted, left_out);
        }
        self
    }

    pub(super) fn retry(mut self, after: Duration) -> Self {
        self.details.set_retry_info(Some(after));
        self
    }

    pub(super) fn wrong(mut self, violations: &Violations) -> Self {
        self.wrong = violations.clone();
        self.with("violations", violations.count())
    }

    /// The error is about this field, which is wrong for the error's own reason.
    pub(super) fn field(mut self, field: &str, description: &str) -> Self {
        self.field = Some(FieldViolation {
            reason: self.reason_name().to_owned(),
            ..FieldViolation::new(field, description)
        });
        self
    }

    pub(super) fn resource(mut self, kind: &str, id: impl Display) -> Self {
        let (id, why) = (bounded(id, VALUE), format!("no {kind} has this id"));
        self.details
            .set_resource_info(format!("leadsmith.v1.{kind}"), id, "", why);
        self
    }

    pub(super) fn precondition(mut self, subject: impl Display) -> Self {
        let (kind, subject) = (self.reason_name(), bounded(subject, PRECONDITION));
        let description = bounded(&self.message, PRECONDITION);
        self.details
            .add_precondition_failure_violation(kind, subject, description);
        self
    }

    /// The reason as ErrorInfo has it.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// With as many of the violations as there is room for.
    fn into_status(self) -> Status {
        let metadata = self.metadata.iter();
        let metadata: HashMap<_, _> = metadata
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut listed = LISTED;
        loop {
            let mut details = self.details.clone();
            details.set_error_info(self.reason_name(), DOMAIN, metadata.clone());
            let fields: Vec<_> = self
                .wrong
                .first(listed)
                .into_iter()
                .map(wire)
                .chain(self.field.clone())
                .collect();
            if !fields.is_empty() {
                details.set_bad_request(fields);
            }
            let status = Status::with_error_details(self.code, self.message.clone(), details);
            if listed == 0 || status.details().len() <= DETAILS {
                return status;
            }
            listed -= 1;
        }
    }
}

fn wire(violation: Violation) -> FieldViolation {
    FieldViolation {
        reason: violation.reason.word().to_owned(),
        ..FieldViolation::new(violation.field, violation.description)
    }
}

/// A message of at most [`LONGEST_MESSAGE`] bytes, percent-encoded.
pub fn bounded_message(text: impl Display) -> String {
    bounded_by(text, LONGEST_MESSAGE, encoded)
}

/// How long a character is in `grpc-message`: all but plain ASCII is percent-encoded.
fn encoded(character: char) -> usize {
    if character.is_ascii_graphic() && !"\"#%<>`?{}".contains(character) {
        1
    } else {
        3 * character.len_utf8()
    }
}

impl From<Error> for Status {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only faults are logged above debug"
    )]
    fn from(error: Error) -> Self {
        let answer = error.answer();
        let reason = answer.reason_name();
        match &error {
            Error::Internal(cause) => {
                let id = answer.metadata.first().map(|(_, id)| id.as_str());
                tracing::error!(
                    error_id = id,
                    cause,
                    "a call failed by a fault in the service"
                );
            }
            Error::DatabaseUnavailable(cause) | Error::DatabaseLost(cause) => {
                tracing::warn!(cause, "a call failed because the database is unavailable");
            }
            // What the caller did, or others at the same time.
            _ => tracing::debug!(reason, "a call was refused"),
        }
        answer.into_status()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::violations::Reason;

    /// How many bytes of headers an error is, as HTTP/2 counts them.
    fn headers(status: &Status) -> usize {
        let response = status.clone().into_http::<tonic::body::Body>();
        let headers = response.headers().iter();
        headers
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum()
    }

    #[test]
    fn an_error_full_of_long_mistakes_has_a_size_that_clients_accept() {
        for text in ["x", "\u{0}", "é", "\u{202e}", "𝔘", "%"] {
            let long = text.repeat(60_000);
            let mut violations = Violations::default();
            for index in 0..60_000 {
                violations.add(format_args!("{long}[{index}]"), Reason::TooLong, &long);
            }
            let keys: Vec<_> = (0..50).map(|_| text.repeat(64)).collect();
            for error in [
                Error::FieldInvalid(violations),
                Error::ActionNotFound {
                    action: long.clone(),
                    actions: keys.clone(),
                },
                Error::ActionPrerequisite {
                    action: long.clone(),
                    open: keys.clone(),
                },
                Error::EtagMismatch {
                    current: long.clone(),
                },
            ] {
                let reason = error.answer().reason;
                let status = Status::from(error);
                // What a server adds: a status, a date, a length.
                let size = headers(&status) + 200;
                assert!(size <= LARGEST, "{reason:?} of {text:?}: {size}");
                assert!(status.message().len() < 2_048);
                let details = status.check_error_details().unwrap();
                let info = details.error_info().unwrap();
                let metadata = info.metadata.iter();
                let metadata: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
                assert!(metadata < 2_048, "{reason:?} of {text:?}: {metadata}");
                let whole = tonic_types::Status::decode(status.details()).unwrap();
                assert_eq!(whole.message, status.message(), "clients compare the two");
            }
        }
    }
}
