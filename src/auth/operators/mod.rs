//! Operators: the people who sign in with a username and a password.
//!
//! Only the parts that authentication needs are here. How operators are created and changed is in
//! `features/operators`, on which this module must not depend.

pub mod store;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::call::{Principal, PrincipalKind};
use crate::core::role::Role;
use crate::core::text;

/// The stored hash of a password, a PHC string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// A person who signs in with a username and a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// A UUIDv7.
    pub id: Uuid,
    /// The version, counted from 1.
    pub version: i64,
    /// The username for sign-in, in lower case.
    pub username: String,
    /// The name for display.
    pub display_name: String,
    /// The role, which determines the allowed RPCs.
    pub role: Role,
    /// When the operator was disabled. None if the operator may sign in.
    pub disable_time: Option<DateTime<Utc>>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
    /// Never part of an event or a history entry.
    #[serde(skip)]
    pub password_hash: PasswordHash,
}

impl Operator {
    /// Whether the operator may sign in.
    pub fn is_enabled(&self) -> bool {
        self.disable_time.is_none()
    }

    /// Whether the operator may sign in and may call every RPC.
    pub fn is_enabled_admin(&self) -> bool {
        self.is_enabled() && self.role == Role::Admin
    }

    /// The principal that is recorded with the changes of this operator.
    pub fn principal(&self) -> Principal {
        Principal {
            kind: PrincipalKind::Operator,
            id: self.id,
            name: self.username.clone(),
        }
    }
}

/// A username as a person typed it.
#[derive(Clone, Debug)]
pub struct Username {
    /// The form that is stored and displayed: in lower case and NFC.
    pub shown: String,
    /// The form that is compared: neither letter case nor how accents are composed matters.
    pub key: String,
}

impl Username {
    /// Normalises a username. Any text is accepted.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        Self {
            // NFC is applied again, because lower-casing can decompose a letter: ǰ has no single capital.
            shown: text::nfc(&text::nfc(text).to_lowercase()),
            key: text::fold(text),
        }
    }
}
