//! Everything that can go wrong in a call, and the only map to what the caller sees.
//!
//! A caller decides by the code and the reason; the message is a sentence for people that says what
//! to do next. What broke inside is for the log alone: it is written here, once, when the error
//! becomes a status, and the caller gets an id to ask about.

mod answer;
mod database;
mod status;

use std::fmt::Display;
use std::time::Duration;

use uuid::Uuid;

use crate::auth::roles::Role;
use crate::leads::model::{LeadState, Transition};
use crate::orders::model::ActionState;
use crate::wire::violations::Violations;

pub use database::{is_conflict, is_locked, is_lost, too_slow};
pub use status::{Answer, LARGEST, LONGEST_MESSAGE, bounded_message};

/// The domain of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "leadsmith.v1";

/// What a call answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The variants' names are the reasons of `error_reason.proto`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "error_reason.proto describes each of them")]
pub enum Error {
    FieldInvalid(Violations),
    PageTokenInvalid,
    RequestIdReused,
    RequestInFlight,
    EtagMismatch {
        current: String,
    },
    WriteConflict,
    MessageMalformed,
    MessageTooLarge {
        limit: usize,
    },
    MethodUnknown,
    EncodingUnsupported {
        encoding: String,
        supported: &'static str,
    },
    SymbolNotFound,
    TokenInvalid,
    SignInFailed,
    RoleInsufficient {
        role: Role,
        required: Role,
    },
    OperatorRequired,
    CurrentPasswordRequired,
    CurrentPasswordInvalid,
    PasswordAttemptsExceeded {
        retry_after: Duration,
    },
    LeadNotFound(Uuid),
    DuplicateLead {
        id: Uuid,
        state: LeadState,
    },
    /// The lifecycle does not have this transition from this state.
    LeadRefused {
        id: Uuid,
        state: LeadState,
        erased: bool,
        transition: Transition,
        order_etag: Option<String>,
    },
    /// What was answered under this request id is erased with its lead.
    LeadErased(Uuid),
    ClientNotFound(Uuid),
    OpportunityNotFound(Uuid),
    OrderNotFound(Uuid),
    ActionNotFound {
        action: String,
        actions: Vec<String>,
    },
    ActionPrerequisite {
        action: String,
        open: Vec<String>,
    },
    ActionDone {
        action: String,
        state: ActionState,
    },
    OrderCanceled(Uuid),
    ServerOverloaded,
    RateLimited {
        retry_after: Duration,
    },
    /// More bytes of responses wait to be read than may.
    ResponsesUnread {
        /// How many bytes each principal may leave unread.
        limit: usize,
    },
    DeadlineExceeded,
    /// The database did not come to the end of a query in the time it may take.
    QueryTooSlow,
    DatabaseUnavailable(String),
    /// The same, because the connection died: what asks anew may find another.
    DatabaseLost(String),
    /// A bug. The text is for the log.
    Internal(String),
}

impl Error {
    /// A bug, with its cause for the log.
    pub fn internal(cause: impl Display) -> Self {
        Self::Internal(cause.to_string())
    }
}
