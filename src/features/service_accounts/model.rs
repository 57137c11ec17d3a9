//! The service account and its keys. Must not depend on messages or on the database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::field_change::FieldChange;
use crate::core::role::Role;
use crate::core::text;
use crate::core::text_enum::TextEnum as _;

/// The rule of names, as a part of a sentence.
pub const NAME_RULE: &str = "1 to 64 letters, digits and characters of . _ -";
/// The rule of certificate names, as a part of a sentence.
pub const CERTIFICATE_RULE: &str = "DNS:NAME or URI:NAME, as in the certificate's subject alternative names: at most \
                                    200 visible ASCII characters, without *";

/// A backend service that calls with an API key or a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// A UUIDv7.
    pub id: Uuid,
    /// The version, counted from 1.
    pub version: i64,
    /// The name. It never changes.
    pub name: String,
    /// The role, which determines the allowed RPCs.
    pub role: Role,
    /// The subject alternative name of its client certificates.
    pub certificate_name: Option<String>,
    /// When it was disabled. `None` if it may call.
    pub disable_time: Option<DateTime<Utc>>,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of the last change.
    pub update_time: DateTime<Utc>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// A UUIDv7.
    pub id: Uuid,
    /// Its account.
    pub account_id: Uuid,
    /// The time of creation.
    pub create_time: DateTime<Utc>,
    /// The time of revocation.
    pub revoke_time: Option<DateTime<Utc>>,
    /// When it was last used, up to a minute late.
    pub last_use_time: Option<DateTime<Utc>>,
}

/// The new values of an account. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The role.
    pub role: Option<Role>,
    /// The certificate name; empty for none.
    pub certificate_name: Option<String>,
}

/// Normalises a name. `None` if it breaks the rule.
pub fn name(text: &str) -> Option<String> {
    text::identifier(text, "._-")
}

/// Normalises a certificate name. `None` if it breaks the rule.
pub fn certificate_name(text: &str) -> Option<String> {
    let name = text.trim();
    let bare = name.strip_prefix("DNS:").or(name.strip_prefix("URI:"))?;
    // DNS names and URIs in certificates contain no other characters.
    let fits = |character: char| character.is_ascii_graphic() && character != '*';
    let fits = !bare.is_empty() && bare.chars().all(fits) && name.len() <= text::NAME;
    fits.then(|| name.to_owned())
}

impl Patch {
    /// Sets the values. Returns the changed fields.
    pub fn apply(&self, account: &mut ServiceAccount) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        if let Some(role) = self.role
            && account.role != role
        {
            let before = std::mem::replace(&mut account.role, role);
            changes.push(FieldChange::new("role", before.as_str(), role.as_str()));
        }
        if let Some(name) = &self.certificate_name {
            let name = (!name.is_empty()).then(|| name.clone());
            if account.certificate_name != name {
                let before = std::mem::replace(&mut account.certificate_name, name.clone());
                changes.push(FieldChange::new(
                    "certificate_name",
                    before.unwrap_or_default(),
                    name.unwrap_or_default(),
                ));
            }
        }
        changes
    }
}

impl ServiceAccount {
    /// Enables or disables the account. Returns the changed fields.
    pub fn set_disable_time(&mut self, time: Option<DateTime<Utc>>) -> Vec<FieldChange> {
        let (before, after) = (self.disable_time.is_none(), time.is_none());
        if before == after {
            return Vec::new();
        }
        self.disable_time = time;
        vec![FieldChange::new(
            "enabled",
            before.to_string(),
            after.to_string(),
        )]
    }
}

impl Key {
    /// The field that changes in its account's history.
    pub fn change(&self, old_value: &str, new_value: &str) -> FieldChange {
        FieldChange::new(format!("keys.{}", self.id), old_value, new_value)
    }
}
