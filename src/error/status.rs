//! Conversion of an error to a gRPC status, with a limit on its size.
//!
//! Message and details are sent as HTTP/2 headers: the message percent-encoded, the details in base64.
//! Clients refuse more than 8 to 16 KiB of headers, so the content of a request must not decide whether the
//! response arrives. Therefore everything that depends on a request is cut, in every error. An internal
//! cause is never sent. It travels beside the status to the place that logs the call ([`LoggedError`]); the
//! caller receives an id that is in the log line.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{Error, Fault, Parts};
use crate::core::bounded::{bounded, bounded_by};
use crate::core::clock;
use crate::core::text_enum::TextEnum as _;
use crate::core::violations::{MAX_LISTED, Violation, Violations};

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "leadsmith.v1";
/// The maximum number of bytes of an error's headers, counted as in HTTP/2: name, value and 32 more for
/// each.
pub const LARGEST: usize = 7 * 1024;
/// The bytes reserved for all headers except `grpc-message` and `grpc-status-details-bin`, and for the
/// names of these two.
const OTHER_HEADERS: usize = 448;
/// The maximum number of bytes of a message, percent-encoded.
pub const LONGEST_MESSAGE: usize = 1_536;
/// The maximum number of bytes of the details before base64, which encodes three bytes as four.
const MAX_DETAILS: usize = (LARGEST - OTHER_HEADERS - LONGEST_MESSAGE) / 4 * 3;
/// The maximum number of bytes of a precondition's description.
const MAX_DESCRIPTION: usize = 256;

impl From<Error> for Status {
    fn from(mut error: Error) -> Self {
        let reason = error.reason_name();
        let fault = error.0.fault.take();
        let error_id = match &fault {
            Some(Fault::Bug(_)) => Some(new_error_id()),
            Some(Fault::DatabaseUnavailable(_) | Fault::ConnectionLost(_)) | None => None,
        };
        if let Some(id) = &error_id {
            error = error.with("error_id", id);
        }
        let mut status = error.0.into_status(reason);
        status.set_source(Arc::new(LoggedError {
            reason,
            error_id,
            fault,
        }));
        status
    }
}

/// What the log says about the error of a call and the caller does not get. It is the source of the [`Status`], which
/// tonic does not send.
#[derive(Debug)]
pub struct LoggedError {
    /// The reason, without the enum's prefix.
    pub reason: &'static str,
    /// The id that the caller got of an internal error.
    pub error_id: Option<String>,
    fault: Option<Fault>,
}

impl LoggedError {
    /// The error behind a status; none if the status did not come from an [`Error`].
    pub fn of(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }

    /// The internal cause.
    pub fn cause(&self) -> Option<&str> {
        self.fault.as_ref().map(Fault::cause)
    }

    /// Whether the call failed because the database could not be reached in time.
    pub fn is_outage(&self) -> bool {
        match &self.fault {
            Some(Fault::DatabaseUnavailable(_) | Fault::ConnectionLost(_)) => true,
            Some(Fault::Bug(_)) | None => false,
        }
    }
}

impl Display for LoggedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for LoggedError {}

/// The name of a code as in the gRPC specification. Example: `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        Error::from(violations).into()
    }
}

/// An id in the response, by which the log line is found.
fn new_error_id() -> String {
    URL_SAFE_NO_PAD.encode(&clock::random_256_bits()[..9])
}

impl Parts {
    /// Includes as many of the violations as fit.
    fn into_status(self, reason: &'static str) -> Status {
        let metadata = self.metadata.iter();
        let metadata: HashMap<_, _> = metadata
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut listed = MAX_LISTED;
        loop {
            let mut details = self.details(reason);
            details.set_error_info(reason, DOMAIN, metadata.clone());
            let of_field = self.field.map(|(field, description)| FieldViolation {
                reason: reason.to_owned(),
                ..FieldViolation::new(field, description)
            });
            let violations = self.violations.first(listed).into_iter();
            let fields: Vec<_> = violations.map(field_violation).chain(of_field).collect();
            if !fields.is_empty() {
                details.set_bad_request(fields);
            }
            let status = Status::with_error_details(self.code, self.message.clone(), details);
            if listed == 0 || status.details().len() <= MAX_DETAILS {
                return status;
            }
            listed -= 1;
        }
    }

    fn details(&self, reason: &str) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        if let Some((kind, id)) = &self.resource {
            let why = format!("no {kind} has this id");
            details.set_resource_info(format!("leadsmith.v1.{kind}"), id, "", why);
        }
        if let Some(subject) = &self.precondition {
            let description = bounded(&self.message, MAX_DESCRIPTION);
            details.add_precondition_failure_violation(reason, subject, description);
        }
        details
    }
}

fn field_violation(violation: Violation) -> FieldViolation {
    FieldViolation {
        reason: violation.reason.as_str().to_owned(),
        ..FieldViolation::new(violation.field, violation.description)
    }
}

/// Cuts a message to at most [`LONGEST_MESSAGE`] bytes, percent-encoded.
pub fn bounded_message(text: impl Display) -> String {
    bounded_by(text, LONGEST_MESSAGE, encoded)
}

/// The length of a character in `grpc-message`, where everything except plain ASCII is percent-encoded.
fn encoded(character: char) -> usize {
    if character.is_ascii_graphic() && !"\"#%<>`?{}".contains(character) {
        1
    } else {
        3 * character.len_utf8()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use leadsmith_proto::FieldViolationReason;
    use prost::Message;

    use super::*;
    use crate::core::violations::Reason;
    use crate::error::ErrorReason;

    /// The number of bytes of an error's headers, counted as in HTTP/2.
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
                Error::from(violations),
                Error::new(Code::NotFound, ErrorReason::ActionNotFound, &long)
                    .with("action", &long)
                    .with_list("actions", "actions_omitted", &keys)
                    .resource("Action", &long),
                Error::new(
                    Code::FailedPrecondition,
                    ErrorReason::ActionPrerequisite,
                    &long,
                )
                .with("action", &long)
                .with_list("prerequisites", "prerequisites_omitted", &keys)
                .precondition(&long),
            ] {
                let reason = error.reason();
                let status = Status::from(error);
                // The headers that a server adds: status, date, length.
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

    #[test]
    fn the_reasons_are_those_that_the_contract_documents() {
        let prefix = "FIELD_VIOLATION_REASON_";
        let documented: BTreeSet<_> = (1..1_000)
            .filter_map(|number| FieldViolationReason::try_from(number).ok())
            .map(|reason| reason.as_str_name().strip_prefix(prefix).unwrap())
            .collect();
        let ours: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(ours, documented);
    }
}
