//! What the caller sees of an error: the one table of codes, reasons, messages and details.

use std::fmt::Display;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use super::{DOMAIN, Error};
use crate::leads::model::{LeadState, Transition};
use crate::wire::proto::ErrorReason;

/// What the caller sees of an error.
pub struct Answer {
    code: Code,
    /// The reason, as `error_reason.proto` names it.
    pub reason: ErrorReason,
    /// A sentence that says what to do next.
    pub message: String,
    metadata: Vec<(&'static str, String)>,
    details: ErrorDetails,
}

impl Answer {
    fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            details: ErrorDetails::new(),
        }
    }

    fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.details.set_retry_info(Some(after));
        self
    }

    fn field(mut self, field: &str, description: &str) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    fn resource(mut self, kind: &str, id: impl Display) -> Self {
        let why = format!("no {kind} has this id");
        self.details
            .set_resource_info(format!("leadsmith.v1.{kind}"), id.to_string(), "", why);
        self
    }

    fn precondition(mut self, subject: impl Into<String>) -> Self {
        let kind = reason_name(self.reason);
        self.details
            .add_precondition_failure_violation(kind, subject, self.message.clone());
        self
    }

    /// The reason as ErrorInfo has it.
    pub fn reason_name(&self) -> &'static str {
        reason_name(self.reason)
    }
}

/// The name of a reason without the enum's prefix.
fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

impl Error {
    /// What the caller sees: the only place where a code, a reason or a message is chosen.
    #[expect(clippy::too_many_lines, reason = "one table, read from top to bottom")]
    pub fn answer(&self) -> Answer {
        use {Code as C, ErrorReason as R};
        match self {
            Self::FieldInvalid(violations) => {
                let mut answer = Answer::new(C::InvalidArgument, R::FieldInvalid, violations.to_string());
                for violation in violations {
                    answer = answer.field(&violation.field, &violation.description);
                }
                answer
            }
            Self::PageTokenInvalid => Answer::new(
                C::InvalidArgument,
                R::PageTokenInvalid,
                "The page token does not belong to this call: send the next_page_token of the \
                 answer before with the same filters and order, or start again without one.",
            )
            .field("page_token", "does not belong to this call"),
            Self::RequestIdReused => Answer::new(
                C::InvalidArgument,
                R::RequestIdReused,
                "This request id was used before with another request: use a new UUID.",
            )
            .field("request_id", "was used before with another request"),
            Self::RequestInFlight => Answer::new(
                C::Aborted,
                R::RequestInFlight,
                "The first call with this request id is still running: repeat the call in a moment \
                 to get its answer.",
            )
            .retry(Duration::from_millis(100)),
            Self::EtagMismatch { current } => Answer::new(
                C::Aborted,
                R::EtagMismatch,
                "The record has changed since its etag was read: get it again, look at what \
                 changed, and repeat the call with the new etag.",
            )
            .with("etag", current),
            Self::WriteConflict => Answer::new(
                C::Aborted,
                R::WriteConflict,
                "Others are changing the record at the same time; nothing was changed. Repeat the \
                 call in a moment.",
            )
            .retry(Duration::from_millis(100)),
            Self::MessageMalformed => Answer::new(
                C::InvalidArgument,
                R::MessageMalformed,
                "The request cannot be read as this RPC's message: build it with stubs from the \
                 current .proto files; text must be valid UTF-8.",
            ),
            Self::MessageTooLarge { limit } => Answer::new(
                C::ResourceExhausted,
                R::MessageTooLarge,
                format!("The request is larger than {limit} bytes: send less at once."),
            )
            .with("limit_bytes", limit),
            Self::MethodUnknown => Answer::new(
                C::Unimplemented,
                R::MethodUnknown,
                "There is no such RPC: list what there is by reflection (grpcurl HOST:PORT list).",
            ),
            Self::EncodingUnsupported {
                encoding,
                supported,
            } => Answer::new(
                C::Unimplemented,
                R::EncodingUnsupported,
                format!(
                    "The encoding {encoding:?} of the request is not supported: send it without \
                     compression or with gzip."
                ),
            )
            .with("encoding", encoding)
            .with("supported", supported),
            Self::SymbolNotFound => Answer::new(
                C::NotFound,
                R::SymbolNotFound,
                "The server has no service, file or symbol of this name: list what there is by \
                 reflection (grpcurl HOST:PORT list).",
            ),
            Self::TokenInvalid => Answer::new(
                C::Unauthenticated,
                R::TokenInvalid,
                "The call needs a valid session token or API key in its metadata \
                 (authorization: Bearer TOKEN): get one from AuthService.SignIn or an administrator.",
            ),
            Self::SignInFailed => Answer::new(
                C::Unauthenticated,
                R::SignInFailed,
                "The username or the password is wrong: check both and try again.",
            ),
            Self::RoleInsufficient { role, required } => Answer::new(
                C::PermissionDenied,
                R::RoleInsufficient,
                format!(
                    "This call needs the role {required} and yours is {role}: ask an administrator \
                     for it."
                ),
            )
            .with("role", role)
            .with("required_role", required),
            Self::OperatorRequired => Answer::new(
                C::PermissionDenied,
                R::OperatorRequired,
                "Only an operator can do this: call with the session token of the operator who \
                 wants it, not with a service account's API key.",
            ),
            Self::CurrentPasswordRequired => Answer::new(
                C::InvalidArgument,
                R::CurrentPasswordRequired,
                "This change needs your own current password: send it in current_password.",
            )
            .field("current_password", "is needed for this change: send your own current password"),
            Self::CurrentPasswordInvalid => Answer::new(
                C::PermissionDenied,
                R::CurrentPasswordInvalid,
                "The current password is wrong and nothing was changed: send your own current \
                 password.",
            ),
            Self::PasswordAttemptsExceeded { retry_after } => Answer::new(
                C::ResourceExhausted,
                R::PasswordAttemptsExceeded,
                format!(
                    "Too many wrong passwords: try again in {}, or ask an administrator to unlock \
                     you.",
                    minutes(*retry_after)
                ),
            )
            .retry(*retry_after),
            Self::LeadNotFound(id) => not_found(R::LeadNotFound, "Lead", *id, "lead"),
            Self::DuplicateLead { id, state } => Answer::new(
                C::AlreadyExists,
                R::DuplicateLead,
                format!(
                    "The lead {id} has this email already and is {state}: {}; or create another one \
                     with allow_duplicate.",
                    match state {
                        LeadState::Open => "work that one",
                        LeadState::Deactivated => "reactivate that one",
                        LeadState::Converted => "open its client, which has the same id",
                    }
                ),
            )
            .with("lead_id", id)
            .with("state", state),
            Self::LeadRefused { id, state, erased: true, order_etag, .. } => {
                lead_erased(*id, *state, order_etag.as_deref())
            }
            Self::LeadRefused { id, state, erased: false, transition, order_etag } => {
                lead_refused(*id, *state, *transition, order_etag.as_deref())
            }
            Self::LeadErased(id) => Answer::new(
                C::FailedPrecondition,
                R::LeadErased,
                format!(
                    "This call was made before and is not made again; its answer was erased with \
                     the personal data of the lead {id}: get the lead to see what is left of it."
                ),
            )
            .with("lead_id", id)
            .precondition(id.to_string()),
            Self::ClientNotFound(id) => Answer::new(
                C::NotFound,
                R::ClientNotFound,
                format!(
                    "No client has the id {id}: check it, or convert the lead of this id first."
                ),
            )
            .resource("Client", *id),
            Self::OpportunityNotFound(id) => {
                not_found(R::OpportunityNotFound, "Opportunity", *id, "opportunity")
            }
            Self::OrderNotFound(id) => not_found(R::OrderNotFound, "Order", *id, "order"),
            Self::ActionNotFound { action, actions } => Answer::new(
                C::NotFound,
                R::ActionNotFound,
                format!(
                    "The order has no action {action:?}: run one that it has, {}.",
                    actions.join(", ")
                ),
            )
            .with("actions", actions.join(","))
            .resource("Action", action),
            Self::ActionPrerequisite { action, open } => Answer::new(
                C::FailedPrecondition,
                R::ActionPrerequisite,
                format!("The action {action:?} has to wait: run {} first.", open.join(", ")),
            )
            .with("prerequisites", open.join(","))
            .precondition(action.clone()),
            Self::ActionDone { action, state } => Answer::new(
                C::FailedPrecondition,
                R::ActionDone,
                format!("The action {action:?} is {state} already: go on with the order's next action."),
            )
            .with("action_state", state)
            .precondition(action.clone()),
            Self::OrderCanceled(id) => Answer::new(
                C::FailedPrecondition,
                R::OrderCanceled,
                "The order is CANCELED, which is final: create a new order.",
            )
            .precondition(id.to_string()),
            Self::ServerOverloaded => Answer::new(
                C::ResourceExhausted,
                R::ServerOverloaded,
                "The server has too many calls at once and did not begin this one: repeat it in a \
                 second.",
            )
            .retry(Duration::from_secs(1)),
            Self::RateLimited { retry_after } => Answer::new(
                C::ResourceExhausted,
                R::RateLimited,
                "You make more calls a second than you may, and this one was not begun: repeat it \
                 after the delay, and make fewer.",
            )
            .retry(*retry_after),
            Self::DeadlineExceeded => Answer::new(
                C::DeadlineExceeded,
                R::DeadlineExceeded,
                "The call took longer than its deadline. A change may still have been made: repeat \
                 the call with the same request_id to learn.",
            ),
            Self::DatabaseUnavailable(_) | Self::DatabaseLost(_) => Answer::new(
                C::Unavailable,
                R::DatabaseUnavailable,
                "The database cannot be reached or is too busy: repeat the call in a second, with \
                 the same request_id.",
            )
            .retry(Duration::from_secs(1)),
            Self::Internal(_) => Answer::new(
                C::Internal,
                R::Internal,
                "A fault in the service: tell its administrator the error_id, under which its log \
                 has the cause.",
            )
            .with("error_id", error_id()),
        }
    }
}

fn not_found(reason: ErrorReason, kind: &str, id: Uuid, word: &str) -> Answer {
    let message = format!("No {word} has the id {id}: check it, or look for the {word} in a list.");
    Answer::new(Code::NotFound, reason, message).resource(kind, id)
}

fn lead_refused(
    id: Uuid,
    state: LeadState,
    transition: Transition,
    order_etag: Option<&str>,
) -> Answer {
    let (reason, message) = match state {
        LeadState::Open => (
            ErrorReason::LeadNotDeactivated,
            "The lead is OPEN, so there is nothing to reactivate: go on with it as it is."
                .to_owned(),
        ),
        LeadState::Deactivated => (
            ErrorReason::LeadDeactivated,
            match transition {
                Transition::Deactivate => {
                    "The lead is DEACTIVATED already: reactivate it to go on with it.".to_owned()
                }
                Transition::Update
                | Transition::Reactivate
                | Transition::Convert
                | Transition::ProvisionClient
                | Transition::Attach
                | Transition::Erase => "The lead is DEACTIVATED: reactivate it first.".to_owned(),
            },
        ),
        LeadState::Converted => (
            ErrorReason::LeadConverted,
            format!("The lead is CONVERTED, which is final: go on with the client {id}."),
        ),
    };
    let allowed: Vec<&str> = state.allowed(false).map(Transition::rpc).collect();
    let mut answer = Answer::new(Code::FailedPrecondition, reason, message)
        .with("current_state", state)
        .with("allowed", allowed.join(","))
        .with("lead_id", id)
        .precondition(id.to_string());
    if state == LeadState::Converted {
        answer = answer.with("client_id", id);
    }
    if let Some(etag) = order_etag {
        answer = answer.with("order_etag", etag);
    }
    answer
}

fn lead_erased(id: Uuid, state: LeadState, order_etag: Option<&str>) -> Answer {
    let message = "The lead's personal data is erased, which is final: create a new lead.";
    let allowed: Vec<&str> = state.allowed(true).map(Transition::rpc).collect();
    let answer = Answer::new(Code::FailedPrecondition, ErrorReason::LeadErased, message)
        .with("current_state", state)
        .with("allowed", allowed.join(","))
        .with("lead_id", id)
        .precondition(id.to_string());
    match order_etag {
        Some(etag) => answer.with("order_etag", etag),
        None => answer,
    }
}

/// A duration for people.
fn minutes(duration: Duration) -> String {
    match duration.as_millis().div_ceil(1_000) {
        0 | 1 => "1 second".to_owned(),
        seconds @ 2..90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

/// An id that leads from what the caller has to the line in the log.
fn error_id() -> String {
    use base64::Engine;
    let bits = crate::clock::random_256_bits();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bits[..9])
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
        let mut details = answer.details;
        let metadata = answer
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        details.set_error_info(
            reason,
            DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        Status::with_error_details(answer.code, answer.message, details)
    }
}
