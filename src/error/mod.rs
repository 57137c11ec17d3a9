//! Errors of calls, as values: a code and a reason for programs, a message that says what to do next,
//! metadata, details, and for internal errors the cause, which only the log shows.
//!
//! Each feature builds the errors of its own rules with [`Error::new`]. This folder contains the errors
//! that several layers share, and the conversion of database errors. The module `status` converts errors to gRPC
//! statuses.

mod database;
mod status;

use std::fmt::Display;
use std::time::Duration;

use tonic::Code;
use uuid::Uuid;

use crate::core::bounded::{bounded, listed};
use crate::core::violations::Violations;
pub use leadsmith_proto::ErrorReason;

pub use database::{is_conflict, is_locked, is_lost, too_slow};
pub use status::{LARGEST, LONGEST_MESSAGE, LoggedError, bounded_message, code_name};

/// The result of an operation of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The maximum number of bytes of a metadata value.
const MAX_VALUE: usize = 256;
/// The maximum number of bytes of a token in the metadata.
const MAX_TOKEN: usize = 1_024;
/// The maximum number of bytes of a list of keys in the metadata.
const MAX_LIST: usize = 768;
/// The maximum number of bytes of a precondition's subject.
const MAX_SUBJECT: usize = 256;

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    /// The invalid fields of the request.
    violations: Violations,
    /// The field of the request that the error is about, and a description.
    field: Option<(&'static str, &'static str)>,
    retry_after: Option<Duration>,
    /// The message type of the record that was not found, and its id.
    resource: Option<(&'static str, String)>,
    /// The record's id or the action's key whose state does not allow the call.
    precondition: Option<String>,
    fault: Option<Fault>,
}

/// The internal cause, for the log.
#[derive(Clone, Debug)]
enum Fault {
    /// A bug, or data that the service cannot have written.
    Bug(String),
    /// The database could not be reached in time.
    DatabaseUnavailable(String),
    /// The connection was lost. A retry may reach another server.
    ConnectionLost(String),
}

impl Fault {
    fn cause(&self) -> &str {
        match self {
            Self::Bug(cause) | Self::DatabaseUnavailable(cause) | Self::ConnectionLost(cause) => {
                cause
            }
        }
    }
}

impl Error {
    /// The error for a broken rule. `message` is one or two sentences that say what to do next.
    pub fn new(code: Code, reason: ErrorReason, message: impl Display) -> Self {
        Self(Box::new(Parts {
            code,
            reason,
            message: bounded_message(message),
            metadata: Vec::new(),
            violations: Violations::default(),
            field: None,
            retry_after: None,
            resource: None,
            precondition: None,
            fault: None,
        }))
    }

    /// Adds a metadata value, cut to 256 bytes.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.0.metadata.push((key, bounded(value, MAX_VALUE)));
        self
    }

    /// Adds a token, whole. A token that is too long for the headers of an error is left out.
    #[must_use]
    pub fn with_token(mut self, key: &'static str, token: String) -> Self {
        if token.len() <= MAX_TOKEN {
            self.0.metadata.push((key, token));
        }
        self
    }

    /// Adds as many of `words` as fit into 768 bytes, separated by commas. If some are omitted, adds their
    /// number under `omitted`.
    #[must_use]
    pub fn with_list(mut self, key: &'static str, omitted: &'static str, words: &[String]) -> Self {
        let (some, left_out) = listed(words, ",", MAX_LIST);
        self.0.metadata.push((key, some));
        if left_out > 0 {
            self = self.with(omitted, left_out);
        }
        self
    }

    /// The caller may retry after this time.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The field of the request that the error is about.
    #[must_use]
    pub fn field(mut self, field: &'static str, description: &'static str) -> Self {
        self.0.field = Some((field, description));
        self
    }

    /// The message type and the id of the record that was not found.
    #[must_use]
    pub fn resource(mut self, kind: &'static str, id: impl Display) -> Self {
        self.0.resource = Some((kind, bounded(id, MAX_VALUE)));
        self
    }

    /// The record or action whose state does not allow the call.
    #[must_use]
    pub fn precondition(mut self, subject: impl Display) -> Self {
        self.0.precondition = Some(bounded(subject, MAX_SUBJECT));
        self
    }

    fn with_fault(mut self, fault: Fault) -> Self {
        self.0.fault = Some(fault);
        self
    }

    /// The reason, as named in the contract.
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// The reason as in `google.rpc.ErrorInfo`: without the enum's prefix.
    pub fn reason_name(&self) -> &'static str {
        let name = self.0.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// Whether this is the reason.
    pub fn is(&self, reason: ErrorReason) -> bool {
        self.0.reason == reason
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The internal cause, for the log and the command line; `None` if the caller can correct the error.
    pub fn cause(&self) -> Option<&str> {
        self.0.fault.as_ref().map(Fault::cause)
    }

    /// The internal cause or, where there is none, the message: for the log and the command line.
    pub fn detail(&self) -> &str {
        self.cause().unwrap_or(self.message())
    }

    /// Whether a later attempt may succeed without any change, as when the database is away.
    pub fn is_unavailable(&self) -> bool {
        self.0.code == Code::Unavailable
    }

    /// Whether the connection to the database was lost. If a transaction was being committed, its outcome
    /// is unknown.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self.0.fault, Some(Fault::ConnectionLost(_)))
    }
}

/// The errors that several layers share.
impl Error {
    /// A bug, with its cause for the log.
    pub fn internal(cause: impl Display) -> Self {
        let message = "An internal error occurred. Report the error_id to the service's administrator, who can find \
                       the cause in the log.";
        Self::new(Code::Internal, ErrorReason::Internal, message)
            .with_fault(Fault::Bug(cause.to_string()))
    }

    /// The database could not be reached in time.
    pub fn database_unavailable(cause: impl Display) -> Self {
        unavailable().with_fault(Fault::DatabaseUnavailable(cause.to_string()))
    }

    /// The connection was lost.
    pub fn connection_lost(cause: impl Display) -> Self {
        unavailable().with_fault(Fault::ConnectionLost(cause.to_string()))
    }

    /// Concurrent changes of the same record.
    pub fn write_conflict() -> Self {
        let message = "The call conflicted with concurrent changes of the record, and nothing was changed. Retry in \
                       a moment.";
        Self::new(Code::Aborted, ErrorReason::WriteConflict, message)
            .retry_after(Duration::from_millis(100))
    }

    /// A query exceeded its time limit.
    pub fn query_too_slow() -> Self {
        let message = "The query exceeded its time limit (--statement-time) and was canceled. Request less, with a \
                       longer search text (an index is used for three or more characters), other filters or a \
                       smaller page.";
        Self::new(Code::ResourceExhausted, ErrorReason::QueryTooSlow, message)
    }

    /// The server is overloaded.
    pub fn server_overloaded() -> Self {
        let message = "The server has reached its limit of concurrent calls and did not start this call. Retry in a \
                       second.";
        Self::new(
            Code::ResourceExhausted,
            ErrorReason::ServerOverloaded,
            message,
        )
        .retry_after(Duration::from_secs(1))
    }

    /// The RPC is for operators only.
    pub fn operator_required() -> Self {
        let message = "Only an operator can make this call. Send the session token of the operator who requests it, \
                       not a service account's API key.";
        Self::new(
            Code::PermissionDenied,
            ErrorReason::OperatorRequired,
            message,
        )
    }

    /// There is no valid credential.
    pub fn token_invalid() -> Self {
        let message = "The call requires a valid session token or API key in its metadata (authorization: Bearer \
                       TOKEN). Get one from AuthService.SignIn or from an administrator.";
        Self::new(Code::Unauthenticated, ErrorReason::TokenInvalid, message)
    }

    /// No record has this id. `noun` is the record's name in sentences, `kind` its message type, `key` the
    /// name of its id in the metadata.
    pub fn not_found(
        reason: ErrorReason,
        noun: &str,
        kind: &'static str,
        key: &'static str,
        id: Uuid,
    ) -> Self {
        let message =
            format_args!("No {noun} has the id {id}. Check the id, or find the {noun} in a list.");
        Self::new(Code::NotFound, reason, message)
            .with(key, id)
            .resource(kind, id)
    }
}

fn unavailable() -> Error {
    let message = "The database cannot be reached or is too busy. Retry in a second with the same request_id.";
    Error::new(Code::Unavailable, ErrorReason::DatabaseUnavailable, message)
        .retry_after(Duration::from_secs(1))
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        let mut error = Self::new(
            Code::InvalidArgument,
            ErrorReason::FieldInvalid,
            &violations,
        )
        .with("violations", violations.count());
        error.0.violations = violations;
        error
    }
}
