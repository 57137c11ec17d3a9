//! The operator, with nothing of the wire or the database in it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::roles::Role;
use crate::auth::{Principal, PrincipalKind};

/// A person who signs in with a username and a password.
#[derive(Clone, Debug)]
pub struct Operator {
    /// A UUIDv7.
    pub id: Uuid,
    /// What they sign in with, in lower case.
    pub username: String,
    /// What they are called.
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// Since when they may not sign in; none while they may.
    pub disable_time: Option<DateTime<Utc>>,
}

impl Operator {
    /// As what they do is signed.
    pub fn principal(&self) -> Principal {
        Principal {
            kind: PrincipalKind::Operator,
            id: self.id,
            name: self.username.clone(),
        }
    }
}

/// A username as it is stored and compared: letter case does not matter.
pub fn username(text: &str) -> String {
    text.trim().to_lowercase()
}
