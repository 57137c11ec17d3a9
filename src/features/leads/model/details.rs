//! The editable fields of a lead, and how an update changes them.

use std::collections::BTreeMap;

use migrations::search_text;
use serde::{Deserialize, Serialize};

use super::email;
use crate::core::field_change::FieldChange;
use crate::core::text::{Limit, is_blank};
use crate::core::violations::{Reason, Violations};

/// The caller's own fields, by key.
pub type CustomFields = BTreeMap<String, String>;

/// A postal address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "lead.proto describes them")]
pub struct Address {
    pub street: String,
    pub city: String,
    pub region: String,
    pub postal_code: String,
    pub country_code: String,
}

/// The editable fields of a lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "lead.proto describes them")]
pub struct Details {
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    pub email: String,
    pub phone: String,
    pub fax: String,
    pub vat_id: String,
    pub address: Address,
    pub language: String,
    pub owner_id: String,
    pub source: String,
    pub custom_fields: CustomFields,
}

/// A text field of a lead: its path, its limit and its accessors.
pub struct Field {
    /// Its path in update masks and in the history.
    pub path: &'static str,
    /// Its maximum length.
    pub limit: Limit,
    get: fn(&Details) -> &String,
    get_mut: fn(&mut Details) -> &mut String,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

impl Field {
    /// Its value.
    pub fn of<'a>(&self, details: &'a Details) -> &'a String {
        (self.get)(details)
    }

    /// Its value, mutable.
    pub fn of_mut<'a>(&self, details: &'a mut Details) -> &'a mut String {
        (self.get_mut)(details)
    }
}

macro_rules! fields {
    ($($path:literal $unit:ident $limit:expr, $($part:ident).+;)+) => {
        &[$(Field {
            path: $path,
            limit: Limit::$unit($limit),
            get: |details| &details.$($part).+,
            get_mut: |details| &mut details.$($part).+,
        },)+]
    };
}

/// All text fields of a lead. Validation, update masks and the history use this table.
pub static FIELDS: &[Field] = fields! {
    "first_name" Characters 200, first_name;
    "last_name" Characters 200, last_name;
    "company" Characters 200, company;
    "email" Bytes email::LIMIT, email;
    "phone" Characters 32, phone;
    "fax" Characters 32, fax;
    "vat_id" Characters 32, vat_id;
    "address.street" Characters 500, address.street;
    "address.city" Characters 100, address.city;
    "address.region" Characters 100, address.region;
    "address.postal_code" Characters 20, address.postal_code;
    "address.country_code" Characters 2, address.country_code;
    "language" Characters 35, language;
    "owner_id" Characters 36, owner_id;
    "source" Characters 100, source;
};

/// The maximum number of custom fields of a lead.
pub const MAX_CUSTOM_FIELDS: usize = 100;
/// The maximum number of characters of a custom field's key.
pub const MAX_CUSTOM_KEY: usize = 64;
/// The maximum number of bytes of a custom field's value.
pub const MAX_CUSTOM_VALUE: usize = 4_096;

/// The prefix of the path of a custom field.
const CUSTOM: &str = "custom_fields.";

/// The path of the custom field with this key.
pub(super) fn custom_path(key: &str) -> String {
    format!("{CUSTOM}{key}")
}

/// The key of the custom field with this path; `None` if it is not the path of one.
pub fn custom_key(path: &str) -> Option<&str> {
    path.strip_prefix(CUSTOM)
}

impl Details {
    fn is_named(&self) -> bool {
        [&self.first_name, &self.last_name, &self.company]
            .iter()
            .any(|name| !is_blank(name))
    }

    /// Checks the rules that concern several fields.
    pub fn check_whole(&self, violations: &mut Violations) {
        if !self.is_named() {
            violations.add(
                "lead",
                Reason::Required,
                "requires a name: set at least one of first_name, last_name and company",
            );
        }
        self.check_custom_count(violations);
    }

    /// Checks the number of custom fields. Returns whether it is within the limit.
    pub fn check_custom_count(&self, violations: &mut Violations) -> bool {
        let within = self.custom_fields.len() <= MAX_CUSTOM_FIELDS;
        if !within {
            let problem = format_args!("must have at most {MAX_CUSTOM_FIELDS} keys");
            violations.add("lead.custom_fields", Reason::TooMany, problem);
        }
        within
    }

    /// First and last name, separated by a space.
    pub fn full_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
            .trim()
            .to_owned()
    }

    /// The display name: the full name, or the company if there is none.
    pub fn display_name(&self) -> String {
        let name = self.full_name();
        if name.is_empty() {
            self.company.clone()
        } else {
            name
        }
    }

    /// The key by which the email is compared, see [`email::key`].
    pub fn email_key(&self) -> String {
        email::key(&self.email)
    }

    /// The text that Search looks in.
    pub fn search_text(&self) -> String {
        self.searched().text()
    }

    /// The fields that Search looks in.
    pub fn searched(&self) -> search_text::Fields<'_> {
        search_text::Fields {
            first_name: &self.first_name,
            last_name: &self.last_name,
            company: &self.company,
            email: &self.email,
            phone: &self.phone,
        }
    }

    /// The differences from `before`.
    pub fn changes_from(&self, before: &Self) -> Vec<FieldChange> {
        let mut found = Vec::new();
        for field in FIELDS {
            let (from, to) = (field.of(before), field.of(self));
            if from != to {
                found.push(FieldChange::new(field.path, from, to));
            }
        }
        let mut keys: Vec<&String> = before.custom_fields.keys().collect();
        keys.extend(self.custom_fields.keys());
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let text = |details: &Self| details.custom_fields.get(key).cloned().unwrap_or_default();
            let (from, to) = (text(before), text(self));
            if from != to {
                let path = custom_path(key);
                found.push(FieldChange::new(path, from, to));
            }
        }
        found
    }
}

/// Fields of a lead that a request names.
#[derive(Clone, Debug)]
pub struct Mask {
    /// The text fields, each once.
    pub fields: Vec<&'static Field>,
    /// The custom fields.
    pub custom: CustomPatch,
}

impl Default for Mask {
    /// No field.
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            custom: CustomPatch::Keys(Vec::new()),
        }
    }
}

impl Mask {
    /// Whether it names this text field.
    pub fn names(&self, path: &str) -> bool {
        self.fields.iter().any(|field| field.path == path)
    }

    /// Whether it names the custom field with this key.
    pub fn names_custom(&self, key: &str) -> bool {
        match &self.custom {
            CustomPatch::All => true,
            CustomPatch::Keys(keys) => keys.iter().any(|named| named == key),
        }
    }
}

/// The changes that an update makes to a lead's fields.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The text fields to set.
    pub fields: Vec<&'static Field>,
    /// The custom fields to set.
    pub custom: CustomPatch,
    /// The new values.
    pub values: Details,
}

/// The custom fields that an update sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomPatch {
    /// All: existing ones that are not given are removed.
    All,
    /// These: one that is not given is removed.
    Keys(Vec<String>),
}

impl Patch {
    /// The fields after the update.
    pub fn apply(&self, before: &Details) -> Details {
        let mut after = before.clone();
        for field in &self.fields {
            field.of_mut(&mut after).clone_from(field.of(&self.values));
        }
        match &self.custom {
            CustomPatch::All => after.custom_fields.clone_from(&self.values.custom_fields),
            CustomPatch::Keys(keys) => {
                for key in keys {
                    match self.values.custom_fields.get(key) {
                        Some(value) => after.custom_fields.insert(key.clone(), value.clone()),
                        None => after.custom_fields.remove(key),
                    };
                }
            }
        }
        after
    }

    /// Whether the update sets this field.
    pub fn names(&self, path: &str) -> bool {
        self.fields.iter().any(|field| field.path == path)
    }
}
