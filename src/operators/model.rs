//! The operator, with nothing of the wire or the database in it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::auth::roles::Role;
use crate::auth::{Principal, PrincipalKind};
use crate::text;
use crate::wire::violations::{Reason, Violations};

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

/// A username as somebody spells it.
#[derive(Clone, Debug)]
pub struct Username {
    /// As it is stored and shown: in lower case and NFC.
    pub shown: String,
    /// As it is compared: neither letter case nor how accents are composed matters.
    pub key: String,
}

impl Username {
    /// Reads a spelling, whatever it is.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        Self {
            // Lower case can take a letter apart: ǰ has no capital of its own.
            shown: text::nfc(&text::nfc(text).to_lowercase()),
            key: text::fold(text),
        }
    }
}

/// Whether an operator may become a record's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// They may; or the record is to have no owner.
    Allowed,
    /// They are disabled: they stay the owner of what they own already.
    Disabled,
}

impl Ownership {
    /// Notes when a record's owner is new and may not become it.
    pub fn check(self, violations: &mut Violations, field: &str) {
        if self == Self::Disabled {
            violations.add(
                field,
                Reason::ReferenceInvalid,
                "is the id of an operator who is disabled: choose one who is enabled",
            );
        }
    }
}
