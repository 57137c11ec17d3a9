//! An authenticated call: its principal, its RPC and its request id.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call_notes::CallNotes;
use super::role::Role;
use super::text_enum::text_enum;

/// The stored form of a session token, an API key or a client certificate: its SHA-256.
pub type TokenHash = [u8; 32];

/// A request id and the fingerprint of the request that was sent with it.
#[derive(Clone, Copy, Debug)]
pub struct RequestKey {
    /// The UUID that the caller chose.
    pub id: Uuid,
    /// SHA-256 of the RPC's name and of the request without secrets.
    pub fingerprint: [u8; 32],
}

text_enum! {
    /// The kind of a principal.
    pub enum PrincipalKind {
        /// A person who signs in.
        Operator,
        /// A backend service with an API key.
        ServiceAccount,
        /// A person who runs a command of this program.
        CommandLine,
    }
}

/// The principal of a call, as stored with its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The kind.
    pub kind: PrincipalKind,
    /// The id of the operator or service account; nil for the command line.
    pub id: Uuid,
    /// The username or the account's name at that time, or the user's name in the operating system.
    pub name: String,
}

/// An authenticated call, or a command of the command line.
#[derive(Clone, Debug)]
pub struct Call {
    /// The caller.
    pub principal: Arc<Principal>,
    /// The caller's role.
    pub role: Role,
    /// The RPC, as `package.Service/Method`, or the command. Example: `leadsmith operator disable`.
    pub rpc: &'static str,
    /// The session of the call; `None` for a service account.
    pub session: Option<TokenHash>,
    /// The request id and the fingerprint; `None` without a request id.
    pub request_key: Option<RequestKey>,
    /// How long authentication took. It is part of the time that the call may wait for the database.
    pub waited: Duration,
    /// What its line in the log shows beside its outcome.
    pub notes: CallNotes,
}

impl Call {
    /// A command of the command line, run by this user of the operating system. It may do everything: the
    /// user has access to the database itself.
    pub fn of_command(command: &'static str, user: &str) -> Self {
        Self {
            principal: Arc::new(Principal {
                kind: PrincipalKind::CommandLine,
                id: Uuid::nil(),
                name: user.to_owned(),
            }),
            role: Role::Admin,
            rpc: command,
            session: None,
            request_key: None,
            waited: Duration::ZERO,
            notes: CallNotes::default(),
        }
    }

    /// The id of the calling operator; `None` for a service account.
    pub fn operator(&self) -> Option<Uuid> {
        match self.principal.kind {
            PrincipalKind::Operator => Some(self.principal.id),
            PrincipalKind::ServiceAccount | PrincipalKind::CommandLine => None,
        }
    }
}
