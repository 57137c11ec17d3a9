//! What the caller sees of an error: the one table of codes, reasons, messages and details.

use std::time::Duration;

use tonic::Code;
use uuid::Uuid;

use super::Error;
use super::status::Answer;
use crate::leads::model::{LeadState, Transition};
use crate::wire::bounded::{Bare, Echo, listed};
use crate::wire::proto::ErrorReason;

/// How many bytes of keys a message names.
const NAMED: usize = 256;

impl Error {
    /// What the caller sees: the only place where a code, a reason or a message is chosen.
    #[expect(clippy::too_many_lines, reason = "one table, read from top to bottom")]
    pub fn answer(&self) -> Answer {
        use {Code as C, ErrorReason as R};
        match self {
            Self::FieldInvalid(violations) => {
                Answer::new(C::InvalidArgument, R::FieldInvalid, violations).wrong(violations)
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
            Self::LeadNotFound(id) => not_found(R::LeadNotFound, "Lead", *id, "lead", "lead_id"),
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
            .precondition(id),
            Self::ClientNotFound(id) => Answer::new(
                C::NotFound,
                R::ClientNotFound,
                format!(
                    "No client has the id {id}: check it, or convert the lead of this id first."
                ),
            )
            .with("client_id", id)
            .resource("Client", id),
            Self::OpportunityNotFound(id) => {
                not_found(R::OpportunityNotFound, "Opportunity", *id, "opportunity", "opportunity_id")
            }
            Self::OrderNotFound(id) => not_found(R::OrderNotFound, "Order", *id, "order", "order_id"),
            Self::ActionNotFound { action, actions } => {
                let (some, omitted) = listed(actions, ", ", NAMED);
                let more = if omitted > 0 { ", or get the order to see all" } else { "" };
                Answer::new(
                    C::NotFound,
                    R::ActionNotFound,
                    format_args!(
                        "The order has no action {}: run one that it has, {some}{more}.",
                        Echo(action)
                    ),
                )
                .with("action", Bare(action))
                .with_list("actions", "actions_omitted", actions)
                .resource("Action", Bare(action))
            }
            Self::ActionPrerequisite { action, open } => {
                let (some, omitted) = listed(open, ", ", NAMED);
                let more = match omitted {
                    0 => String::new(),
                    omitted => format!(" and {omitted} more"),
                };
                Answer::new(
                    C::FailedPrecondition,
                    R::ActionPrerequisite,
                    format!("The action {action:?} has to wait: run {some}{more} first."),
                )
                .with("action", action)
                .with_list("prerequisites", "prerequisites_omitted", open)
                .precondition(action)
            }
            Self::ActionDone { action, state } => Answer::new(
                C::FailedPrecondition,
                R::ActionDone,
                format!("The action {action:?} is {state} already: go on with the order's next action."),
            )
            .with("action", action)
            .with("action_state", state)
            .precondition(action),
            Self::OrderCanceled(id) => Answer::new(
                C::FailedPrecondition,
                R::OrderCanceled,
                "The order is CANCELED, which is final: create a new order.",
            )
            .with("order_id", id)
            .precondition(id),
            Self::ServerOverloaded => Answer::new(
                C::ResourceExhausted,
                R::ServerOverloaded,
                "The server has too many calls at once and did not begin this one: repeat it in a \
                 second.",
            )
            .retry(Duration::from_secs(1)),
            Self::ResponsesUnread { limit } => Answer::new(
                C::ResourceExhausted,
                R::ResponsesUnread,
                "Too many bytes of responses wait to be read: read them, then repeat the call, with \
                 fewer calls at once. A change may have been made: repeat it with the same \
                 request_id to learn.",
            )
            .with("limit_bytes", limit)
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
            Self::QueryTooSlow => Answer::new(
                C::ResourceExhausted,
                R::QueryTooSlow,
                "The query took longer than a query may (--statement-time) and was ended: ask for \
                 less, by a longer search text (three characters at least are found by an index), \
                 other filters or a smaller page.",
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

fn not_found(reason: ErrorReason, kind: &str, id: Uuid, word: &str, key: &'static str) -> Answer {
    let message = format!("No {word} has the id {id}: check it, or look for the {word} in a list.");
    Answer::new(Code::NotFound, reason, message)
        .with(key, id)
        .resource(kind, id)
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
        .precondition(id);
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
        .precondition(id);
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
